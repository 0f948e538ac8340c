"""The classes that a unit answers, on its page and in search."""

from pathlib import Path

import pytest
from PIL import Image

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.lenses.registry import lens
from microscope_atlas.run import run
from microscope_space import routes
from microscope_space.html import text
from microscope_space.search.find import find
from tests import atlases

COLOURS = {"brick <red>": (200, 40, 30), "meadow": (60, 160, 40), "sea": (20, 60, 190)}
HERE = {"model": atlases.MODEL, "layer": atlases.LAYER, "unit": "1"}


def rendered(folder: Path, pictures: Path) -> Atlas:
    recipes = {name: lens(name).quick().with_pictures(str(pictures)) for name in ("responses", "units")}
    asked = [atlases.request({atlases.LAYER: range(2)})]
    run.render(Folder(folder), asked, recipes, atlases.HERE, 2, lambda *_: None)
    return Atlas(Folder(folder))


@pytest.fixture(scope="module")
def atlas(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    photos = tmp_path_factory.mktemp("photos")
    for name, colour in COLOURS.items():
        (photos / name).mkdir()
        for number in range(2):
            Image.new("RGB", (64, 64), tuple(level + number for level in colour)).save(photos / name / f"{number}.png")
    return rendered(tmp_path_factory.mktemp("atlas"), photos)


def test_page_has_a_row_a_class_and_says_what_it_does_not_prove(atlas: Atlas) -> None:
    (row,) = atlas.rows("units", atlases.MODEL, atlases.LAYER, 1)
    assert row["classes"] and row["class_selectivity"] is not None
    page = routes.show(atlas, HERE)
    section = page.partition('aria-labelledby="classes"')[2].partition("</section>")[0]
    assert section.count("<tr>") == 1 + len(row["classes"])
    assert text.CLASSES_WARNING in section
    assert "<red>" not in page


def test_units_are_found_by_the_classes_that_they_answer(atlas: Atlas) -> None:
    (row,) = atlas.rows("units", atlases.MODEL, atlases.LAYER, 1)
    best = row["classes"][0]["name"]
    found = [(each.key.unit, each.what) for each in find(atlas, best.partition(" ")[0]).found]
    assert (1, f"answers pictures of {best}") in found


def test_page_without_classes_has_no_section(cache: Path, tmp_path: Path) -> None:
    atlas = rendered(tmp_path / "atlas", atlases.PICTURES)
    page = routes.show(atlas, HERE)
    assert 'aria-labelledby="classes"' not in page and 'href="#classes"' not in page
