// What pages do beside being read: the theme that a frame asks for, copying, keys, large pictures. All can be read without it.
(() => {
  const root = document.documentElement;
  const theme = new URLSearchParams(location.search).get("__theme"); // that a frame asks for, and the server shows

  // Hugging Face shows a Space in a frame, and the query of its address as its own
  if (parent !== window) {
    const shown = new URLSearchParams(root.dataset.query ?? location.search);
    shown.delete("__theme");
    const face = "https://huggingface.co";
    if ([...(location.ancestorOrigins ?? [face])].includes(face)) {
      parent.postMessage({ queryString: shown.toString(), hash: location.hash }, face);
    }
  }

  // within Gradio's page the title comes with what it loads
  if (!root.classList.contains("page")) {
    new MutationObserver((_, observer) => {
      const page = document.querySelector(".atlas[data-title]");
      if (page) observer.disconnect(), (document.title = page.dataset.title);
    }).observe(document, { childList: true, subtree: true });
  }

  addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) return copy(button, button.parentElement.querySelector("pre").textContent);
    const link = event.target.closest(".atlas a");
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    if (link.hasAttribute("data-link")) return event.preventDefault(), copy(link, link.href);
    if (link.classList.contains("large")) return event.preventDefault(), enlarge(link);
    if (theme && link.origin === location.origin && !link.getAttribute("href").startsWith("#")) link.href = themed(link.href);
  });

  // a frame asks for a theme once; pages that are reached from there keep to it
  addEventListener("submit", (event) => {
    // what is as usual need not stand in a link; the form goes on after this, with what is not disabled
    const usual = [...event.target.querySelectorAll("[data-usual]")].filter((each) => each.value === each.dataset.usual);
    for (const each of usual) each.disabled = true;
    setTimeout(() => usual.forEach((each) => (each.disabled = false)));
    if (theme) event.target.append(Object.assign(document.createElement("input"), { type: "hidden", name: "__theme", value: theme }));
  });

  function themed(href) {
    const to = new URL(href);
    to.searchParams.set("__theme", theme);
    return to.href;
  }

  addEventListener("change", (event) => {
    if (event.target.matches(".atlas .filter select")) event.target.form.requestSubmit();
  });

  addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest("input, select, textarea, pre, [contenteditable], [role=region]")) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    const open = document.querySelector("dialog[open]");
    if (open) return event.preventDefault(), open.step(step);
    document.querySelector(`.steps a[rel=${step < 0 ? "prev" : "next"}]`)?.click();
  });

  // a picture as large as the window, and those beside it by the arrow keys
  function enlarge(link) {
    const all = [...document.querySelectorAll(".atlas a.large")];
    const box = document.createElement("dialog");
    box.className = "enlarged";
    box.setAttribute("aria-label", "A picture, enlarged");
    box.innerHTML = '<button type="button" aria-label="Close">×</button><div></div><p></p>';
    let at = all.indexOf(link);
    const show = () => {
      const from = all[at];
      const { whole, square, crop, credit } = from.dataset; // of a sample: the photo that it is cut from, and where
      const picture = new Image();
      picture.src = whole ?? from.href;
      picture.alt = from.querySelector("img").alt;
      box.classList.toggle("whole", !!whole);
      box.querySelector("div").replaceChildren(picture, ...(whole ? [outline(square, "square"), outline(crop, "cut")] : []));
      const said = from.closest("figure")?.querySelector("figcaption")?.innerText.replaceAll("\n", ", ");
      box.querySelector("p").textContent = [[picture.alt, said].filter(Boolean).join(": "), credit].filter(Boolean).join(". ");
    };
    box.step = (by) => ((at = (at + by + all.length) % all.length), show());
    box.addEventListener("click", () => box.close());
    box.addEventListener("close", () => (box.remove(), all[at].focus()));
    show();
    document.querySelector(".atlas").append(box);
    box.showModal();
  }

  // what a tile shows, large, and what excites the unit most, beside it while it is pointed at
  const told = Object.assign(document.createElement("div"), { className: "glance", hidden: true });
  told.setAttribute("aria-hidden", "true"); // the unit's page says all of it
  let at, soon;

  for (const [begins, ends] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
    addEventListener(begins, (event) => {
      const link = event.target.closest?.("[data-glance] a");
      if (!link || link === at || event.pointerType === "touch" || (begins === "focusin" && !link.matches(":focus-visible"))) return;
      leave();
      point(link);
    });
    addEventListener(ends, (event) => at && !at.contains(event.relatedTarget) && leave());
  }
  // the last scroll can come after the tile was pointed at, and what was shown beside it stands elsewhere
  addEventListener("scroll", () => {
    const link = at;
    leave();
    if (link?.matches(":hover, :focus-visible")) point(link);
  }, { passive: true });
  addEventListener("keydown", (event) => event.key === "Escape" && leave());

  function point(link) {
    at = link;
    soon = setTimeout(look, 120, link);
  }

  function leave() {
    clearTimeout(soon);
    told.hidden = true;
    if (at?.dataset.title) at.title = at.dataset.title;
    at = null;
  }

  async function look(link) {
    const { glance, asked } = link.closest("[data-glance]").dataset;
    const shown = await fetch(`${glance}${key(link, glance)}${asked}`).then((answer) => (answer.ok ? answer.text() : ""), () => "");
    if (link !== at || !shown) return;
    link.dataset.title ||= link.title;
    link.removeAttribute("title"); // which would be shown twice
    told.innerHTML = shown;
    const kernel = link.querySelector(".kernel");
    if (kernel) {
      const pair = Object.assign(document.createElement("div"), { className: "two" });
      pair.append(told.firstElementChild, kernel.cloneNode(true));
      told.prepend(pair);
    }
    const words = [link.dataset.title, kernel?.getAttribute("aria-label")].filter(Boolean).join(": ");
    told.append(Object.assign(document.createElement("p"), { textContent: words }));
    beside(link);
  }

  // of the unit that a link leads to
  function key(link, glance) {
    const to = new URL(link.href), asked = ["model", "layer", "unit"].map((name) => to.searchParams.get(name));
    const root = new URL(glance, location).pathname.slice(0, -"glance/".length);
    return asked[2] ? asked.map(encodeURIComponent).join("/") : to.pathname.slice(root.length);
  }

  function beside(link) {
    document.querySelector(".atlas").append(told);
    told.hidden = false;
    const tile = link.getBoundingClientRect(), { offsetWidth: width, offsetHeight: height } = told;
    const left = tile.right + 10 + width <= innerWidth ? tile.right + 10 : tile.left - 10 - width;
    told.style.left = `${Math.max(4, left)}px`;
    told.style.top = `${Math.max(4, Math.min(tile.top, innerHeight - height - 4))}px`;
  }

  function outline(box, name) {
    const frame = document.createElement("span");
    frame.className = name;
    const [left, top, width, height] = box.split(" ").map((side) => side + "%");
    Object.assign(frame.style, { left, top, width, height });
    return frame;
  }

  // a map: the wheel comes nearer to the place under the pointer, dragging moves it
  const near = (map, by, x, y) => {
    const was = Number(map.style.getPropertyValue("--near") || 1);
    const now = Math.min(12, Math.max(1, was * by));
    const [left, top] = [(map.scrollLeft + x) / was, (map.scrollTop + y) / was];
    map.style.setProperty("--near", now);
    map.scrollTo(left * now - x, top * now - y);
    return now !== was;
  };
  for (const map of document.querySelectorAll(".atlas .map")) {
    let moved = 0;
    map.addEventListener("wheel", (event) => {
      const box = map.getBoundingClientRect();
      if (near(map, Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top)) event.preventDefault();
    }, { passive: false });
    map.addEventListener("dragstart", (event) => event.preventDefault());
    map.addEventListener("pointerdown", () => (moved = 0));
    map.addEventListener("pointermove", (event) => {
      if (event.pointerType !== "mouse" || !(event.buttons & 1)) return;
      moved += Math.abs(event.movementX) + Math.abs(event.movementY);
      map.scrollBy(-event.movementX, -event.movementY);
    });
    map.addEventListener("click", (event) => moved > 4 && event.preventDefault(), true);
    map.addEventListener("keydown", (event) => {
      const by = { "+": 1.5, "-": 1 / 1.5 }[event.key];
      if (by) near(map, by, map.clientWidth / 2, map.clientHeight / 2);
    });
  }

  async function copy(from, content) {
    const words = (from.dataset.words ||= from.textContent);
    const done = await navigator.clipboard.writeText(content).then(() => "Copied", () => "Press Ctrl+C");
    if (done !== "Copied") prompt(words, content);
    from.textContent = done;
    setTimeout(() => (from.textContent = words), 1500);
  }
})();
