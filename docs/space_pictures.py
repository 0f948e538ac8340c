"""Pictures of the Space, as the pages here show them: python docs/space_pictures.py ATLAS [FOLDER].

ATLAS is one as `make atlas` renders it. It is served, and looked at in Chromium as a visitor does.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from microscope_space.app import serve

WIDTH = 1120  # px
MOST = 190_000  # bytes of a picture
QUALITIES = range(88, 40, -4)  # of JPEG; the first that is small enough
PATIENCE = 120_000  # ms
MODEL, LAYER, UNIT = "efficientnet_lite0", "blocks_5", 8
THERE = """() => [...document.images].every((each) => {
  const box = each.getBoundingClientRect();
  return box.top > innerHeight || !box.width || (each.complete && each.naturalWidth);
})"""


def layer(page: Page, address: str) -> None:
    """A layer, with a tile pointed at."""
    page.goto(f"{address}{MODEL}/{LAYER}")
    page.locator(".sheet a").nth(UNIT).hover()
    page.wait_for_selector(".glance:not([hidden])")


def unit(page: Page, address: str) -> None:
    """A unit, from its heading to its samples."""
    page.goto(f"{address}{MODEL}/{LAYER}/{UNIT}")


def units_map(page: Page, address: str) -> None:
    """A layer's units at their places on its map."""
    page.goto(f"{address}{MODEL}/{LAYER}?view=map")


def why(page: Page, address: str) -> None:
    """What a picture is taken for, and why."""
    page.goto(f"{address}?view=probe&picture=dog")
    page.get_by_role("button", name="Look", exact=True).click(timeout=PATIENCE)
    page.locator("[data-why]").first.click(timeout=PATIENCE)
    page.wait_for_selector("h3.why", timeout=PATIENCE)
    page.mouse.move(0, 0)
    page.locator("h3.why").evaluate("each => scrollTo(0, each.getBoundingClientRect().top + scrollY - 24)")


# each with the height of the window, px
SHOTS: dict[str, tuple[Callable[[Page, str], None], int]] = {
    "space_layer": (layer, 1000),
    "space_unit": (unit, 1400),
    "space_map": (units_map, 1310),
    "space_why": (why, 1150),
}


def main(atlas: str, folder: Path) -> None:
    """Write all of them."""
    _, address = serve(atlas, prevent_thread_lock=True, quiet=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (look, height) in SHOTS.items():
            page = chromium.new_page(viewport={"width": WIDTH, "height": height}, color_scheme="light")
            page.set_default_timeout(PATIENCE)
            look(page, address)
            page.wait_for_function(THERE)
            page.wait_for_timeout(500)  # what moves comes to rest
            for quality in QUALITIES:
                picture = page.screenshot(type="jpeg", quality=quality)
                if len(picture) <= MOST:
                    break
            (folder / f"{name}.jpg").write_bytes(picture)
            page.close()
        chromium.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if sys.argv[2:] else Path(__file__).parent)
