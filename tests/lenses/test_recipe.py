import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import Manifest, read_manifest, write_manifest
from microscope_atlas.errors import InvalidSetting, SettingsDiffer
from microscope_atlas.lenses.feature_visualization import Recipe
from microscope_atlas.lenses.recipe import changed, read, settings, with_what_came_later
from microscope_atlas.lenses.registry import lens
from microscope_atlas.publish.check import check
from microscope_atlas.rendering.ascend import Ascent
from microscope_atlas.run.plan import Job
from tests.atlases import LENS, RECIPE, content, render

DRAFT: Recipe = lens(LENS).recipe("draft")


def test_settings_are_changed_by_path() -> None:
    made = changed(DRAFT, {"ascent.steps": 7, "batch": 3, "methods": ("maco",), "ascent.views.shift": 8})
    views = replace(DRAFT.ascent.views, shift=8.0)
    assert made == replace(DRAFT, ascent=replace(DRAFT.ascent, steps=7, views=views), batch=3, methods=("maco",))


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("ascend.steps", 7, "there is no ascend.steps; nearest: ascent"),
        ("ascent.step", 7, "there is no ascent.step; nearest: ascent.steps"),
        ("ascent", 7, "ascent has settings of its own; name one: ascent.steps"),
        ("ascent.steps", 0, "ascent.steps is 0, expected a whole number, 1 or more"),
        ("ascent.steps", "x", "ascent.steps is 'x', expected a whole number, 1 or more"),
        ("ascent.views.scale", 1.0, "ascent.views.scale is 1.0, expected a number, 0 to 0.9"),
        ("max_size", 4, "max_size is 4, expected a whole number, 8 to 4096, or none"),
        ("methods", ["mako"], "methods[0] is 'mako', expected text, one of fourier, maco, transparent"),
        ("methods", [], "methods is [], expected a list"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(path: str, value: Any, told: str) -> None:
    with pytest.raises(InvalidSetting, match=re.escape(told)):
        changed(DRAFT, {path: value})


def test_words_are_read_as_the_setting_they_are_for() -> None:
    assert read(DRAFT, "methods", "maco,fourier") == ["maco", "fourier"]
    assert read(DRAFT, "max_size", "none") is None
    with pytest.raises(InvalidSetting, match="nearest: batch"):
        read(DRAFT, "batches", "3")


def test_run_asks_a_recipe_for_its_batch_and_its_ascents() -> None:
    assert (DRAFT.max_batch, DRAFT.with_batch(3).max_batch) == (64, 3)
    assert lens("sheets").recipe("draft").max_batch is None
    assert list(lens("deepdream").recipe("draft").ascents) == ["ascent", "picture_ascent"]
    assert {ascent.precision for ascent in DRAFT.in_precision("bfloat16").ascents.values()} == {"bfloat16"}
    assert Ascent(1).precision == "float32"


def test_what_came_later_is_added_in_all_depth_and_nothing_else_is_touched() -> None:
    there = {"size": 64, "ascent": {"steps": 8}, "tv": None}
    complete = {"ascent": {"steps": 512, "views": True}, "tv": 0.5, "dense": {"both": True}}
    assert with_what_came_later(there, complete) == {
        "size": 64,
        "ascent": {"steps": 8, "views": True},
        "tv": None,
        "dense": {"both": True},
    }


def test_recipe_of_an_older_version_goes_on_under_the_ids_that_it_had(tmp_path: Path) -> None:
    """What came later is at its default, and no id changes by that."""
    older = settings(RECIPE)
    del older["background_std"], older["ascent"]["precision"]
    write_manifest(Folder(tmp_path), Manifest(lenses={LENS: older}))
    assert render(tmp_path, range(2)).made == 8
    manifest = read_manifest(Folder(tmp_path))
    assert manifest.lenses == {LENS: older}
    (shard,) = manifest.shards.values()
    sha256 = manifest.models[shard.units.model]["weights_sha256"]
    assert Job(shard.units, RECIPE, "pretrained", sha256).id != shard.id
    assert list(check(Folder(tmp_path))) == []
    before = content(tmp_path)
    assert render(tmp_path, range(2)).made == 0
    assert content(tmp_path) == before
    with pytest.raises(SettingsDiffer, match=re.escape("background_std is 0.5 in the atlas, 0.25 asked")):
        render(tmp_path, range(2), replace(RECIPE, background_std=0.25))
