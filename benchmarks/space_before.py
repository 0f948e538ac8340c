"""How soon a browser shows a unit's page, beside version 0.1's Space, both over the same atlas.

    git worktree add ../v01 4284f89
    (cd ../v01; python -m generate.cli render /tmp/old-atlas)
    python -m benchmarks.space_before ../v01 /tmp/old-atlas

Version 0.1 serves the atlas that it rendered, and this one serves it too. Chromium loads pages of units from each in
turn, with an empty cache, a window of 1280 x 900 px, and no unit twice. A page is shown when its heading and every
picture in the window are painted, by Element Timing (https://w3c.github.io/element-timing); the median of all loads of
each, and their ratio, go to benchmarks/results/space_before.json. Nothing else should run meanwhile.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

from playwright.sync_api import Browser, sync_playwright

from benchmarks import report
from benchmarks.startup import HERE
from microscope_atlas.atlas.locate import open_atlas
from microscope_atlas.atlas.reader import Atlas

VERSIONS = ("before", "now")
OBSERVED = """
window.painted = new Map();
new PerformanceObserver((list) => {
  for (const each of list.getEntries()) painted.set(each.identifier, each.renderTime || each.loadTime);
}).observe({ type: "element", buffered: true });
const name = (each) => each.tagName === "H1" ? "heading" : each.getAttribute("src");
new MutationObserver((changes) => {
  for (const change of changes) for (const node of change.addedNodes) {
    if (node.nodeType !== Node.ELEMENT_NODE) continue;
    for (const each of [node, ...node.querySelectorAll("img, h1")]) {
      if (each.matches("img, h1")) each.setAttribute("elementtiming", name(each));
    }
  }
}).observe(document, { childList: true, subtree: true });
"""
SHOWN = """() => {
  const inside = [...document.images].filter((image) => image.getBoundingClientRect().top < innerHeight);
  const times = ["heading", ...inside.map((image) => image.getAttribute("src"))].map((each) => painted.get(each));
  return inside.length && times.every(Boolean) ? Math.max(...times) : 0;
}"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.space_before", description=__doc__.partition("\n")[0])
    parser.add_argument("clone", type=Path, help="folder of version 0.1")
    parser.add_argument("atlas", type=Path, help="an atlas that it rendered")
    parser.add_argument("--loads", type=int, default=11, help="of each version; and one before, that does not count")
    parser.add_argument("--out", type=Path, default=report.FOLDER / "space_before.json")
    asked = parser.parse_args(arguments)
    links = units(Atlas(open_atlas(str(asked.atlas))), asked.loads + 1)
    now = [sys.executable, "-m", "microscope_atlas.cli", "browse", str(asked.atlas)]
    before = [sys.executable, "-m", "generate.cli", "browse", str(asked.atlas)]
    seconds: dict[str, list[float]] = {version: [] for version in VERSIONS}
    with served(before, asked.clone) as (_, old), served(now, HERE) as (_, new), sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for at, link in enumerate(links):
            for version, address in zip(VERSIONS, (old, new), strict=True):
                took = shown(chromium, address + link)
                if at:
                    seconds[version].append(round(took, 3))
        chromium.close()
    found = {version: {"median": median(taken), "all": taken} for version, taken in seconds.items()}
    ratio = round(median(seconds["before"]) / median(seconds["now"]), 2)
    rows = [{"version": version, "seconds": each["median"]} for version, each in found.items()]
    report.show(f"a unit's page is shown, {asked.loads} loads: {ratio} times sooner", rows)
    about: dict[str, Any] = report.about(libraries=("gradio", "playwright"))
    about["command"] = f"python -m benchmarks.space_before CLONE ATLAS --loads {asked.loads}"
    report.write(asked.out, about, times_sooner=ratio, seconds=found)


def units(atlas: Atlas, number: int) -> list[str]:
    """Links to so many units, of all layers in turn."""
    layers = [(model, layer) for model in atlas.models for layer in atlas.layers(model)]
    there = {place: iter(sorted(atlas.thumbnails(*place))) for place in layers}
    found: list[str] = []
    for model, layer in cycle(layers):
        if (unit := next(there[model, layer], None)) is not None:
            found.append(f"?model={model}&layer={layer}&unit={unit}")
        if len(found) == number:
            return found
    return found


@contextmanager
def served(command: Sequence[str], folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """The process that serves an atlas by the code in a folder, and its address, as long as this goes on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    paths = [str(folder / each) for each in ("", "generate", "space")]
    with subprocess.Popen(
        [*command, "--port", str(port)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.DEVNULL,
    ) as process:
        address = f"http://127.0.0.1:{port}/"
        try:
            while process.poll() is None:
                try:
                    urlopen(address).close()
                    break
                except OSError:
                    time.sleep(0.2)
            else:
                sys.exit(f"{' '.join(command)} ended with {process.returncode}")
            yield process, address
        finally:
            process.terminate()


def shown(chromium: Browser, link: str, patience: float = 60) -> float:
    """Seconds from asking for a page to its being painted, by a browser that knows nothing of it yet."""
    with chromium.new_context(viewport={"width": 1280, "height": 900}) as context:
        context.add_init_script(OBSERVED)
        page = context.new_page()
        page.goto(link, wait_until="load")
        return float(page.wait_for_function(SHOWN, polling=50, timeout=patience * 1000).json_value()) / 1000


if __name__ == "__main__":
    main()
