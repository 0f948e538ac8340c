"""An atlas that version 0.1 made: rows that look at its twelve photos are made again, to the last bit of a picture."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.errors import SettingsDiffer
from microscope_atlas.face.render import render
from microscope_atlas.keys import parse_key
from microscope_atlas.lenses.registry import lens
from microscope_atlas.publish.check import check
from microscope_atlas.run.recipes import chosen
from microscope_atlas.run.reproduce import reproduce

ATLAS = Folder(Path(__file__).parents[1] / "version_0_1" / "atlas")


@pytest.mark.parametrize("lens", ["dataset_samples", pytest.param("responses", marks=pytest.mark.long)])
def test_rows_of_the_twelve_photos_reproduce(lens: str) -> None:
    _, remade = reproduce(ATLAS, parse_key("efficientnet_lite0/stem/1"), lens, torch.device("cpu"))
    found = list(remade)
    assert found and all(row.close and row.numbers < 1e-5 for row in found)
    assert all(row.likeness is None or row.likeness == pytest.approx(1) for row in found)


def test_its_promises_are_kept() -> None:
    # the card is worded by whichever version writes it
    assert not [problem for problem in check(ATLAS) if not problem.startswith(schema.CARD)]


def test_run_that_goes_on_makes_its_dense_units_as_it_began() -> None:
    there = read_manifest(ATLAS).lenses
    name = "feature_visualization"
    assert "neuron_of_dense" not in there[name]
    goes_on, anew = (chosen([name], "draft", there=begun)[name] for begun in (there, {}))
    assert (vars(goes_on)["neuron_of_dense"], vars(anew)["neuron_of_dense"]) == (True, False)
    assert lens(name).count(there[name], "dense") == lens(name).count(there[name])


def test_run_goes_on_under_the_recipe_and_the_columns_that_it_began_with(tmp_path: Path) -> None:
    atlas = tmp_path / "atlas"
    shutil.copytree(str(ATLAS), atlas)
    render(atlas, "efficientnet_lite0", "feature_visualization", "stem", 2, workers=1)
    made = [units for units in read_manifest(Folder(atlas)).shards.values() if units.units.start == 2]
    (rows,) = [read_shard(atlas / shard.path) for shard in made]
    assert "robust_score" not in rows.column_names
    assert json.loads(rows["recipe"][0].as_py())["ascent"]["steps"] == 128
    assert list(check(Folder(atlas))) == []


def test_quality_that_is_named_is_todays_and_is_refused_where_another_began(tmp_path: Path) -> None:
    atlas = tmp_path / "atlas"
    shutil.copytree(str(ATLAS), atlas)
    with pytest.raises(SettingsDiffer, match=r"ascent.steps is 128 in the atlas, .*leave the quality out"):
        render(atlas, "efficientnet_lite0", "feature_visualization", "stem", 2, quality="standard", workers=1)


def test_its_recipes_name_the_twelve_photos() -> None:
    lenses = read_manifest(ATLAS).lenses
    assert {lenses[name]["revision"][:12] for name in ("responses", "dataset_samples")} == {"017f393f9d44"}
