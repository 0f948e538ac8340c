"""The maps of a layer's units, and of a network's."""

import io
import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import sync_playwright
from starlette.applications import Starlette
from starlette.testclient import TestClient

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.lenses.registry import lens
from microscope_atlas.run import run
from microscope_space import documents, records, routes
from microscope_space.documents import HERE
from microscope_space.html import text
from microscope_space.pages.frame import LIVE
from tests import atlases
from tests.space.test_browser import CHROMIUM, FLAGS

LAYER = "blocks_2"  # which nothing rectifies: all its units vary
COUNT = 24
PLACES = re.compile(r'<li style="left:([\d.]+)%;top:([\d.]+)%;(?:--at:[^"]*)?"><a href="[^"]*/blocks_2/(\d+)"')


@pytest.fixture(scope="module")
def atlas(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    """Of 24 units, of which two have a tile in a sheet."""
    folder = tmp_path_factory.mktemp("atlas")
    recipes = {name: atlases.quick(name) for name in ("responses", "units")}
    asked = [atlases.request({LAYER: range(COUNT)})]
    run.render(Folder(folder), asked, recipes, atlases.HERE, COUNT, lambda *_: None)
    pictured = {name: lens(name).quick() for name in ("feature_visualization", "sheets")}
    run.render(Folder(folder), [atlases.request({LAYER: range(2)})], pictured, atlases.HERE, 2, lambda *_: None)
    return Atlas(Folder(folder))


def page(atlas: Atlas, **asked: str) -> str:
    return str(routes.show(atlas, {"model": atlases.MODEL, "layer": LAYER, **asked}))


def test_units_stand_where_their_row_says(atlas: Atlas) -> None:
    rows = {row["unit"]: row["layer_map"] for row in atlas.rows("units", atlases.MODEL, LAYER)}
    there = {unit: place for unit, place in rows.items() if place}
    assert len(there) > 20
    shown = page(atlas, view="map")
    found = {int(unit): (float(left), float(top)) for left, top, unit in PLACES.findall(shown)}
    assert found.keys() == there.keys()
    assert sorted(found, key=lambda unit: found[unit][0]) == sorted(there, key=lambda unit: there[unit]["x"])
    assert sorted(found, key=lambda unit: -found[unit][1]) == sorted(there, key=lambda unit: there[unit]["y"])
    assert all(0 <= side <= 100 for place in found.values() for side in place)
    assert shown.count("--sheet:url(") == 1  # one image for all of them
    assert shown.count(";--at:") == 2  # of which two units have a tile
    assert "<script" not in shown.partition('class="map')[2].partition("</ul>")[0]


def test_layer_leads_to_its_map_where_it_has_one(atlas: Atlas) -> None:
    assert "view=map" in page(atlas)


def test_layer_without_a_map_says_what_it_takes(cache: Path, tmp_path: Path) -> None:
    recipes = {name: atlases.quick(name) for name in ("responses", "units")}
    asked = [atlases.request({LAYER: range(2)})]
    run.render(Folder(tmp_path), asked, recipes, atlases.HERE, 2, lambda *_: None)
    atlas = Atlas(Folder(tmp_path))
    assert text.NO_MAP in page(atlas, view="map")
    assert "view=map" not in page(atlas)


def test_network_has_a_map_of_all_its_units(atlas: Atlas) -> None:
    shown = str(routes.show(atlas, {"model": atlases.MODEL, "view": "map"}))
    told = re.findall(r'<a href="([^"]*)" title="([^"]*)" style="left', shown)
    rows = [row for row in atlas.rows("units", atlases.MODEL, LAYER) if row["model_map"]]
    assert sum(1 + int((re.findall(r"and (\d+) more", title) or [0])[0]) for _, title in told) == len(rows) > 20
    assert f"{len(rows)} of {COUNT} units are on it" in shown
    for link, title in told:
        assert ("part=1-" in link) == (" more" in title)
    assert "view=map" in str(routes.show(atlas, {"model": atlases.MODEL}))


def test_part_of_a_map_leads_farther_and_beside(atlas: Atlas) -> None:
    shown = str(routes.show(atlas, {"model": atlases.MODEL, "view": "map", "part": "2-0-3"}))
    ways = re.findall(r'part=([^"]*)" title="(\w+)"', shown)
    assert ways == [("1-0-1", "farther"), ("2-0-2", "left"), ("2-1-3", "down")]
    assert "is no part of a map" in str(routes.show(atlas, {"model": atlases.MODEL, "view": "map", "part": "2-9-9"}))


def test_part_of_a_map_is_a_picture(atlas: Atlas) -> None:
    with TestClient(Starlette(routes=documents.documents(atlas))) as client:
        answer = client.get(f"/map/{atlases.MODEL}?part=0-0-0")
        assert answer.status_code == 200
        picture = Image.open(io.BytesIO(answer.content))
        assert (picture.format, picture.size) == ("WEBP", (1024, 1024))
        assert answer.headers["Content-Type"] == "image/webp"
        seen = picture.convert("RGBA").getchannel("A").histogram()
        tiles = len(re.findall('style="left', str(routes.show(atlas, {"model": atlases.MODEL, "view": "map"}))))
        assert seen[255] == tiles * 64 * 64
        assert seen[0] == 1024**2 - seen[255]
        for wrong in ("", "/stem?part=0-0-0", "/stem/3?part=0-0-0"):
            assert client.get(f"/map/{atlases.MODEL}{wrong}").status_code == 404
        assert client.get(f"/map/{atlases.MODEL}?part=0-0-1").status_code == 404


def test_network_without_a_map_says_what_it_takes(cache: Path, tmp_path: Path) -> None:
    recipes = {name: atlases.quick(name) for name in ("responses", "units")}
    run.render(Folder(tmp_path), [atlases.request({LAYER: range(2)})], recipes, atlases.HERE, 2, lambda *_: None)
    atlas = Atlas(Folder(tmp_path))
    assert text.NO_NETWORK_MAP in str(routes.show(atlas, {"model": atlases.MODEL, "view": "map"}))
    assert "view=map" not in str(routes.show(atlas, {"model": atlases.MODEL}))


def test_map_of_no_layer_is_a_wrong_question(atlas: Atlas) -> None:
    answer, _ = routes.answer(atlas, {"view": "map"})
    assert answer.view == "wrong"


def test_what_is_read_as_a_page_is_read_by_programs() -> None:
    """A page's head names its JSON, whichever page it is."""
    assert records.VIEWS.keys() == routes.VIEWS.keys() - set(LIVE)


def test_programs_are_told_where_units_are(atlas: Atlas) -> None:
    told, status = records.record(atlas, {"view": "map"}, f"{atlases.MODEL}/{LAYER}")
    rows = {row["unit"]: row["layer_map"] for row in atlas.rows("units", atlases.MODEL, LAYER) if row["layer_map"]}
    assert status == 200
    assert {each["unit"]: (each["x"], each["y"]) for each in told["units"]} == {
        unit: (place["x"], place["y"]) for unit, place in rows.items()
    }
    assert {told["trustworthiness"]} == {place["trustworthiness"] for place in rows.values()}


def test_programs_are_told_what_a_part_of_a_networks_map_shows(atlas: Atlas) -> None:
    told, status = records.record(atlas, {"view": "map"}, atlases.MODEL)
    assert (status, told["part"], told["grid"]) == (200, "0-0-0", 16)
    assert sum(each["num_units"] for each in told["cells"]) == told["num_placed"] > 20
    inner, _ = records.record(atlas, {"view": "map", "part": told["cells"][0]["part"]}, atlases.MODEL)
    assert told["cells"][0]["key"] in {each["key"] for each in inner["cells"]}
    for wrong in ("1-2-0", "x", "9-0-0"):
        said, status = records.record(atlas, {"view": "map", "part": wrong}, atlases.MODEL)
        assert status == 400 and "is no part of a map" in said["error"]


def test_a_part_has_one_address(atlas: Atlas) -> None:
    for asked, address in (("0-0-0", None), ("2-00-3", "2-0-3")):
        shown, _ = routes.answer(atlas, {"model": atlases.MODEL, "view": "map", "part": asked})
        assert shown.asked == {"view": "map", **({"part": address} if address else {})}


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_tiles_are_seen_side_by_side_and_the_wheel_brings_them_nearer(atlas: Atlas) -> None:
    files = {name: (HERE / name).read_text() for name in ("style.css", "script.js")}
    document = f"<!doctype html><html class=page><style>{files['style.css']}</style>{page(atlas, view='map')}"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        shown = chromium.new_page(viewport={"width": 1280, "height": 900})
        shown.set_content(document)
        shown.add_script_tag(content=files["script.js"])
        boxes = [each.bounding_box() for each in shown.locator(".places i").all()]
        assert len(boxes) > 20
        assert all(box and box["width"] == box["height"] > 10 for box in boxes)
        assert len({(box["x"], box["y"]) for box in boxes if box}) == len(boxes)
        whole = shown.locator(".map").bounding_box()
        assert whole and whole["width"] == whole["height"] < 900
        shown.mouse.move(whole["x"] + 200, whole["y"] + 200)
        shown.mouse.wheel(0, -600)
        shown.wait_for_function(f"document.querySelector('.places i').offsetWidth > {2 * boxes[0]['width']}")
        chromium.close()
