"""How fast the Space is: on the server, and until a browser shows the page; over an atlas with a large layer.

    microscope-atlas render big --model inceptionv1_caffe --layer inception_4c
    python -m benchmarks.space big

Takes the atlas' largest layer and a unit of it, and writes medians and worst times of several runs to
benchmarks/results/space.json. The browser starts each page with an empty cache; a page is shown when its heading stands
there and every image in sight is decoded.
"""

import shutil
import statistics
import sys
import time
from collections.abc import Callable

from playwright.sync_api import Browser, sync_playwright

from benchmarks import report
from microscope_atlas.atlas.locate import open_atlas
from microscope_atlas.atlas.reader import Atlas
from microscope_space import routes
from microscope_space.app import serve

RUNS = 7
SHOWN = """() => {
  if (!document.querySelector(".atlas h1")) return 0;
  const near = [...document.images].filter((image) => image.getBoundingClientRect().top < innerHeight);
  if (!near.every((image) => image.complete && image.naturalWidth)) return 0;
  const sheet = document.querySelector(".sheet:not(.plain)");
  const there = performance.getEntriesByType("resource").some((each) => each.name.includes("table=sheets"));
  return (!sheet || there) && performance.now();
}"""


def main(name: str) -> None:
    atlas = Atlas(open_atlas(name))
    model, layer = max(
        ((model, layer) for model in atlas.models for layer in atlas.layers(model)),
        key=lambda place: len(atlas.thumbnails(*place)),
    )
    unit = max(atlas.thumbnails(model, layer))
    pages = {
        "home": {},
        "model": {"model": model},
        "layer": {"model": model, "layer": layer},
        "unit": {"model": model, "layer": layer, "unit": str(unit)},
    }
    results = {}
    _, address = serve(atlas.storage, prevent_thread_lock=True, quiet=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for page, asked in pages.items():
            link = "?" + "&".join(f"{key}={value}" for key, value in asked.items())
            results[page] = {
                "server_first_seconds": timed(lambda asked: routes.show(Atlas(open_atlas(name)), asked), asked),
                "server_seconds": timed(lambda asked: routes.show(atlas, asked), asked),
                "shown_seconds": summed([shown(chromium, address + link) for _ in range(RUNS)]),
            }
            print(page, results[page])
        chromium.close()
    about = {"units": len(atlas.thumbnails(model, layer)), **report.about()}
    report.write(report.FOLDER / "space.json", about, pages=results)


def timed(call: Callable[[dict[str, str]], object], asked: dict[str, str]) -> dict[str, float]:
    """Of several calls."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        call(asked)
        times.append(time.perf_counter() - start)
    return summed(times)


def shown(chromium: Browser, link: str) -> float:
    """Seconds from asking for a page to its being shown, by a browser that knows nothing of it yet."""
    with chromium.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.goto(link, wait_until="commit")
        return float(page.wait_for_function(SHOWN, polling=10).json_value()) / 1000


def summed(times: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(times), 4), "worst": round(max(times), 4)}


if __name__ == "__main__":
    main(sys.argv[1])
