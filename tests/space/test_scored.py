"""A unit's scores on its page, and a layer sorted by them."""

import re
from pathlib import Path

import pytest

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.keys import Key
from microscope_atlas.lenses.registry import lens
from microscope_atlas.run import run
from microscope_space import routes
from microscope_space.html import text
from microscope_space.pages.scored import scored
from tests import atlases
from tests.atlases import HERE, MODEL

ROW = {
    "clarity": 0.25,
    "likeness": 0.625,
    "random_likeness": 0.5,
    "polysemanticity": 0.75,
    "clusters": [9, 7],
    "redundancy": 0.9,
    "twin": 3,
    "correlation": -0.125,
    "answers_like": 2,
    "num_samples": 16,
    "embedding": MODEL,
    "embedding_layer": "head",
    "flag": None,
}
KEY = Key(MODEL, "stem", 0)


def test_scores_are_told_with_what_they_mean() -> None:
    shown = scored(KEY, ROW)
    assert re.findall(r"<b>(\w+)</b> (\S+)", shown) == [
        ("Clarity", "0.25"),
        ("Likeness", "0.625"),
        ("Polysemanticity", "0.75"),
        ("Redundancy", "0.9"),
        ("Correlation", "−0.125"),
    ]
    assert "of random samples 0.5" in shown
    assert "2 stand out: 9 + 7" in shown
    assert re.findall(r'href="[^"]*/(\d)">', shown) == ["3", "2"]
    assert text.SCORES_WARNING in shown


def test_unit_without_scores_says_why_and_one_without_a_row_nothing() -> None:
    few = dict.fromkeys(("clarity", "likeness", "polysemanticity", "redundancy", "twin", "correlation", "answers_like"))
    shown = scored(KEY, {**ROW, **few, "clusters": [], "flag": "few"})
    assert "<b>few</b>" in shown
    assert "<b>Clarity</b>" not in shown
    assert scored(KEY, None) == ""


@pytest.fixture(scope="module")
def atlas(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    root = tmp_path_factory.mktemp("scored") / "atlas"
    recipes = {name: atlases.quick(name) for name in ("responses", "dataset_samples", "units")}
    recipes["scores"] = lens("scores").quick()
    run.render(Folder(root), [atlases.request({"stem": range(3)})], recipes, HERE, 4, lambda *_: None)
    return Atlas(Folder(root))


def test_layer_is_sorted_by_scores_where_it_has_some(atlas: Atlas) -> None:
    rows = {row["unit"]: row["clarity"] for row in atlas.rows("scores", MODEL, "stem")}
    page = routes.show(atlas, {"model": MODEL, "layer": "stem", "sort": "clarity"})
    assert '<option value="clarity" selected>' in page
    shown = [int(unit) for unit in re.findall(r'<li><a href="[^"]*stem/(\d)"', page)]
    assert shown == sorted(rows, key=lambda unit: -rows[unit])


def test_unit_page_has_them_among_its_sections(atlas: Atlas) -> None:
    page = routes.show(atlas, {"model": MODEL, "layer": "stem", "unit": "1"})
    assert '<section aria-labelledby="scores">' in page
    assert "#scores" in page
