// Moves between pages without loading the app anew, and copies what is to be copied. Without it links load in full.
(() => {
  const LIVE = ["caricature", "probe"]; // views that are more than HTML: these load in full
  const live = (search) => LIVE.includes(new URLSearchParams(search).get("view"));
  const page = () => document.querySelector(".atlas");
  let asked = 0;
  let shown = location.search;

  async function show(search, top) {
    const own = ++asked;
    page().setAttribute("aria-busy", "true");
    const answer = await fetch("page" + search).catch(() => null);
    if (!answer || !answer.ok) return location.reload(); // the full way says what is wrong
    const html = await answer.text();
    if (own !== asked) return; // another page was asked for meanwhile
    page().outerHTML = html;
    shown = search;
    titled();
    scrollTo(0, top);
    (page().querySelector("h1") || page()).focus({ preventScroll: true });
  }

  function go(search) {
    if (live(search) || live(location.search) || !page()) return location.assign(search);
    history.replaceState({ top: scrollY }, "");
    history.pushState({ top: 0 }, "", search);
    show(search, 0);
  }

  function titled() {
    document.title = page().dataset.title;
    if (!live(location.search)) history.scrollRestoration = "manual";
  }

  // the first page arrives through Gradio
  new MutationObserver((_, observer) => {
    if (page()) observer.disconnect(), titled();
  }).observe(document, { childList: true, subtree: true });

  addEventListener("popstate", (event) => {
    if (location.search === shown) return; // within the page
    if (live(location.search) || !page() || page().dataset.view in { caricature: 0, probe: 0 }) return location.reload();
    show(location.search, event.state?.top || 0);
  });

  addEventListener("click", (event) => {
    const link = event.target.closest(".atlas a");
    const button = event.target.closest("[data-copy]");
    if (button) return copy(button, button.parentElement.querySelector("pre").textContent);
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    if (link.hasAttribute("data-link")) return event.preventDefault(), copy(link, link.href);
    const to = link.getAttribute("href");
    if (!to.startsWith("?") || link.target || link.hasAttribute("download")) return;
    event.preventDefault();
    go(to);
  });

  addEventListener("submit", (event) => {
    if (!event.target.closest(".atlas")) return;
    event.preventDefault();
    go("?" + new URLSearchParams(new FormData(event.target)));
  });

  addEventListener("change", (event) => {
    if (event.target.matches(".atlas .filter select")) event.target.form.requestSubmit();
  });

  async function copy(from, content) {
    const words = (from.dataset.words ||= from.textContent);
    const done = await navigator.clipboard.writeText(content).then(() => "Copied", () => "Press Ctrl+C");
    if (done !== "Copied") prompt(words, content);
    from.textContent = done;
    setTimeout(() => (from.textContent = words), 1500);
  }
})();
