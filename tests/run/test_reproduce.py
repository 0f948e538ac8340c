"""A row made again, and one that does not come out as it was."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.locate import open_atlas
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.atlas.storage import Storage
from microscope_atlas.errors import UnknownName, WeightsError, WrongLevel
from microscope_atlas.keys import parse_key
from microscope_atlas.publish.publish import plan, publish
from microscope_atlas.run.reproduce import Comparison, compare, reproduce
from tests import atlases
from tests.atlases import LAYER, LENS, MODEL
from tests.commands import Commands
from tests.hub_double import Hub

TABLE = schema.table(LENS)
UNIT = f"{MODEL}/{LAYER}/1"
PATH = f"{LENS}/{MODEL}/{LAYER}.00000-00002.parquet"


def again(source: Storage, key: str = UNIT, lens: str = LENS) -> tuple[list[str], list[Comparison]]:
    notes, remade = reproduce(source, parse_key(key), lens, torch.device("cpu"))
    return notes, list(remade)


def edited(atlas: Path, **change: Any) -> Folder:
    """The atlas with something else in the rows of unit 1."""
    rows = read_shard(atlas / PATH).to_pylist()
    atlases.replace_rows(atlas, PATH, [{**row, **change} if row["unit"] == 1 else row for row in rows])
    return Folder(atlas)


def test_rows_of_a_unit_are_made_again(whole: Path) -> None:
    notes, remade = again(Folder(whole))
    assert (notes, len(remade)) == ([], atlases.IMAGES)
    assert all(row.close and row.score == 0 and row.likeness == pytest.approx(1) for row in remade)


def test_rows_of_a_published_atlas_are_made_again(hub: Hub, whole: Path) -> None:
    publish(plan(Folder(whole), "owner/atlas", "2026.11.0"))
    notes, remade = again(open_atlas("owner/atlas@v2026.11.0"))
    assert (notes, len(remade)) == ([], atlases.IMAGES)
    assert all(row.close for row in remade)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"score": 1e6}, lambda row: row.score == pytest.approx(1, abs=1e-3)),
        ({"flag": "flat"}, lambda row: row.mismatched == ("flag",)),
        ({"seed": 1}, lambda row: row.numbers > 0.5),
    ],
)
def test_row_that_is_not_what_is_made_is_told(atlas: Path, change: Any, why: Callable[[Comparison], bool]) -> None:
    _, remade = again(edited(atlas, **change))
    assert all(not row.close and why(row) for row in remade)


def test_other_picture_is_told(atlas: Path) -> None:
    rows = read_shard(atlas / PATH).to_pylist()
    images = [row["image"] for row in rows if row["unit"] == 0]
    mine = iter(images)
    swapped = [{**row, "image": next(mine)} if row["unit"] == 1 else row for row in rows]
    atlases.replace_rows(atlas, PATH, swapped)
    assert any(row.likeness is not None and row.likeness < 0.8 for row in again(Folder(atlas))[1])


def test_other_software_and_device_are_told(atlas: Path) -> None:
    notes, _ = again(edited(atlas, software="microscope-atlas 0.0.1, torch 1.0", device="NVIDIA H200"))
    assert [note.partition(" was ")[0] for note in notes] == ["software", "device"]
    assert "device was NVIDIA H200, here it is cpu" in notes


def test_other_weights_are_refused(atlas: Path) -> None:
    with pytest.raises(WeightsError, match="the plan expects 00"):
        again(edited(atlas, weights_sha256="00" * 32))


def test_what_the_atlas_does_not_have_is_told(whole: Path) -> None:
    with pytest.raises(UnknownName, match="is not in the atlas: feature_visualization of"):
        again(Folder(whole), f"{MODEL}/{LAYER}/9")
    with pytest.raises(WrongLevel, match="looks at a unit"):
        again(Folder(whole), f"{MODEL}/{LAYER}")


def row(**values: Any) -> dict[str, Any]:
    blank = dict.fromkeys(TABLE.arrow.names)
    return {**blank, "model": MODEL, "layer": LAYER, "recipe": "{}", "unit": 3, **values}


def test_difference_is_a_share_of_the_larger_score() -> None:
    assert compare(row(score=8.0), row(score=10.0), TABLE).score == pytest.approx(0.2)
    assert compare(row(score=0.0), row(score=0.0), TABLE).score == 0


def test_likeness_is_the_correlation_of_pixels(whole: Path) -> None:
    a, b = (found["image"] for found in atlases.rows(whole)[:2])
    found = compare(row(image=a), row(image=b), TABLE).likeness
    pixels = [np.asarray(schema_image(image), dtype=np.float64).ravel() for image in (a, b)]
    assert found == pytest.approx(np.corrcoef(*pixels)[0, 1])


def schema_image(image: dict[str, Any]) -> Any:
    import io

    from PIL import Image

    return Image.open(io.BytesIO(image["bytes"]))


def test_missing_row_and_other_recipe_are_unlike() -> None:
    assert not compare(row(score=1.0), {}, TABLE).close
    assert compare(row(recipe='{"steps": 1}'), row(recipe='{"steps": 2}'), TABLE).mismatched == ("recipe",)


def test_value_that_version_0_1_named_and_that_is_null_now_is_no_difference() -> None:
    table = schema.SYNTHETIC_TUNING
    black = {**dict.fromkeys(table.arrow.names), "model": MODEL, "layer": LAYER, "recipe": "{}", "unit": 3}
    assert compare({**black, "preferred_x": 240.0}, black, table).close
    assert compare(black, {**black, "preferred_x": 240.0}, table).mismatched == ("preferred_x",)
    flagged = {**black, "flag": "dead"}
    assert compare({**black, "preferred_x": 240.0}, flagged, table).mismatched == ("preferred_x", "flag")


def test_nan_equals_nan_alone() -> None:
    nan, one = float("nan"), 1.0
    assert compare(row(score=nan), row(score=nan), TABLE).score == 0
    assert compare(row(score=nan), row(score=one), TABLE).score == float("inf")


def test_tolerances_decide() -> None:
    close = Comparison("unit 0", score=0.04, likeness=0.9, numbers=0.001, mismatched=())
    assert close.close
    for change in ({"score": 0.06}, {"likeness": 0.7}, {"numbers": 0.02}, {"mismatched": ("flag",)}):
        assert not replace(close, **change).close


def test_command_says_how_close_and_exits_with_1_where_it_is_not(commands: Commands, atlas: Path) -> None:
    right = commands("reproduce", atlas, UNIT)
    assert right.status == 0
    assert "likeness 1.0000" in right.out
    edited(atlas, score=1e6)
    wrong = commands("reproduce", atlas, UNIT)
    assert wrong.status == 1
    assert f"{UNIT}: {atlases.IMAGES} rows of {LENS} did not come close." in wrong.err
