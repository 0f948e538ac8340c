import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.errors import NotRendered
from microscope_atlas.lenses.lens import Row, Scope, Subject
from microscope_atlas.lenses.sheets import Recipe, Sheets, blank, columns
from microscope_atlas.lenses.tile import jpeg, tile
from microscope_atlas.models.catalog import organism
from microscope_atlas.publish.check import check
from microscope_atlas.run import run
from tests import atlases
from tests.atlases import LAYER, LENS, MODEL

UNITS = 32  # of the layer


def colour(unit: int) -> tuple[int, int, int]:
    return (unit * 7, 255 - unit * 7, 128)


def picture(unit: int, size: tuple[int, int] = (100, 100)) -> bytes:
    return jpeg(Image.new("RGB", size, colour(unit)), 95)


def row(unit: int, **more: Any) -> Row:
    view = {"method": "fourier", "objective": "channel", "direction": 1, "variant": 0}
    return {"unit": unit, **view, "image": {"bytes": picture(unit), "path": ""}, **more}


def rows(made: Sequence[Row], recipe: Recipe = Recipe(), of: str = LENS) -> list[Row]:  # noqa: B008
    known = organism(MODEL)

    def parts(table: str, names: Sequence[str], scope: Scope = "atlas") -> Iterator[pa.Table]:
        fields = pa.schema([schema.table(table).arrow.field(name) for name in names])
        for at in range(0, len(made) if table == of else 0, 5):
            yield pa.Table.from_pylist(list(made[at : at + 5]), schema=fields)

    about = Subject(
        known, known.layer(LAYER), torch.device("cpu"), lambda: pytest.fail("looked at the network"), read=parts
    )
    return [found for some in Sheets().rows(about, range(UNITS), recipe) for found in some]


def pixels(sheet: Row) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(sheet["image"]))).astype(int)


def tiles(sheet: Row) -> list[np.ndarray]:
    """Place by place, as the card says where they are: unit by unit, or those of `units`."""
    px, wide = sheet["tile"], sheet["columns"]
    places = [(at // wide * px, at % wide * px) for at in range(sheet["num_units"])]
    return [pixels(sheet)[y : y + px, x : x + px] for y, x in places]


def test_each_unit_is_in_its_place() -> None:
    (sheet,) = rows([row(unit) for unit in range(UNITS)])
    assert (sheet["tile"], sheet["columns"], sheet["num_units"], sheet["num_pictures"]) == (64, 7, UNITS, UNITS)
    assert pixels(sheet).shape == (5 * 64, 7 * 64, 3)
    for unit, found in enumerate(tiles(sheet)):
        assert np.abs(found - colour(unit))[1:-1, 1:-1].max() <= 6  # colour at half resolution blurs the edge
    assert (pixels(sheet)[1 - 64 :, 4 * 64 + 1 :] == 255).all()  # behind the last


def test_units_without_a_picture_have_no_tile() -> None:
    (sheet,) = rows([row(7), row(0), row(1, image=None), row(12)])
    assert (sheet["units"], sheet["num_units"], sheet["num_pictures"], sheet["columns"]) == ([0, 7, 12], 3, 3, 2)
    assert pixels(sheet).shape == (2 * 64, 2 * 64, 3)
    for unit, found in zip(sheet["units"], tiles(sheet), strict=True):
        assert np.abs(found - colour(unit))[1:-1, 1:-1].max() <= 6
    assert rows([row(unit) for unit in range(UNITS)])[0]["units"] is None


def test_unit_without_a_picture_is_striped_as_in_version_0_1() -> None:
    (sheet,) = rows([row(0), row(1, image=None), row(7)], Recipe(quality=95, only_made=False))
    assert (sheet["num_units"], sheet["num_pictures"]) == (UNITS, 2)
    assert "units" not in sheet
    striped = np.asarray(blank(64)).astype(int)
    assert 0 < striped.std() < 12  # quiet, and not plain
    for unit, found in enumerate(tiles(sheet)):
        expected = np.full((64, 64, 3), colour(unit)) if unit in (0, 7) else striped
        assert np.abs(found - expected).mean() < 3


def test_where_no_unit_has_a_picture_all_are_striped() -> None:
    (sheet,) = rows([row(0, image=None)])
    assert (sheet["units"], sheet["num_units"], sheet["num_pictures"]) == (None, UNITS, 0)


def test_every_view_has_a_sheet_of_its_own_without_variants() -> None:
    views = [("fourier", "channel", 1), ("fourier", "channel", -1), ("fourier", "neuron", 1), ("maco", "channel", 1)]
    made = [
        row(unit, method=method, objective=objective, direction=direction, image={"bytes": picture(at), "path": ""})
        for unit in range(2)
        for at, (method, objective, direction) in enumerate(views)
    ]
    variants = [row(unit, variant=1) for unit in range(20, 22)] + [row(0, method="other", variant=1)]
    found = rows([*made, *variants])
    assert [(sheet["method"], sheet["objective"], sheet["direction"]) for sheet in found] == views
    for at, sheet in enumerate(found):
        assert (sheet["lens"], sheet["num_pictures"]) == (LENS, 2)
        assert np.abs(tiles(sheet)[1] - colour(at))[1:-1, 1:-1].max() <= 6


def test_sheet_of_samples_shows_the_best_of_each_unit() -> None:
    made = [
        {"unit": unit, "bucket": bucket, "rank": rank, "image": {"bytes": picture(unit + shown), "path": ""}}
        for unit in range(3)
        for bucket, rank, shown in (("random", 0, 20), ("top", 0, 0), ("top", 1, 10))
    ]
    (sheet,) = rows(made, of="dataset_samples")
    assert (sheet["lens"], sheet["method"], sheet["num_pictures"]) == ("dataset_samples", "top", 3)
    for unit, found in enumerate(tiles(sheet)[:3]):
        assert np.abs(found - colour(unit))[1:-1, 1:-1].max() <= 6


def test_each_family_of_stimuli_has_a_sheet() -> None:
    made = [
        {"unit": unit, "family": family, "image": None if unit == 1 else {"bytes": picture(unit + at), "path": ""}}
        for unit in range(3)
        for at, family in enumerate(("gratings", "curves"))
    ]
    found = rows(made, of="synthetic_tuning")
    assert [(sheet["lens"], sheet["method"], sheet["num_pictures"]) for sheet in found] == [
        ("synthetic_tuning", "gratings", 2),
        ("synthetic_tuning", "curves", 2),
    ]
    assert np.abs(tiles(found[1])[found[1]["units"].index(2)] - colour(3))[1:-1, 1:-1].max() <= 6


def test_layer_without_pictures_says_what_to_render() -> None:
    with pytest.raises(NotRendered, match=f"{MODEL}/{LAYER} has no pictures of units.*--lens {LENS}"):
        rows([])


@pytest.mark.parametrize(
    ("units", "wide"), [(1, 1), (2, 2), (10, 5), (64, 8), (192, 16), (480, 24), (1000, 40), (1024, 32)]
)
def test_grid_is_nearly_square_and_nearly_full(units: int, wide: int) -> None:
    assert columns(units) == wide


def test_grid_has_room_for_all() -> None:
    for units in range(1, 4097):
        wide = columns(units)
        high = -(-units // wide)
        assert (wide - 1) * high < units <= wide * high
        assert high <= wide <= 1.25 * math.ceil(units**0.5)


def test_tile_is_the_middle_on_white() -> None:
    wide = Image.new("RGBA", (300, 100), (0, 0, 255, 255))
    wide.paste((255, 0, 0, 255), (100, 0, 200, 100))
    wide.paste((0, 0, 0, 0), (100, 50, 200, 100))
    file = io.BytesIO()
    wide.save(file, "PNG")
    small = np.asarray(tile(file.getvalue(), 32))
    assert small.shape == (32, 32, 3)
    assert (small[:12, 4:-4] == (255, 0, 0)).all()
    assert (small[20:, 4:-4] == 255).all()


def test_fine_texture_becomes_grey_not_a_pattern() -> None:
    checks = np.indices((224, 224)).sum(0) % 2 * 255
    file = io.BytesIO()
    Image.fromarray(np.repeat(checks[:, :, None].astype(np.uint8), 3, 2)).save(file, "PNG")
    assert np.asarray(tile(file.getvalue(), 64))[2:-2, 2:-2].std() < 2


def render(root: Path, units: range) -> run.Outcome:
    recipes: dict[str, Any] = {LENS: atlases.RECIPE, "sheets": Recipe()}
    return run.render(Folder(root), [atlases.request({LAYER: units})], recipes, atlases.HERE, 2, lambda *_: None)


def test_made_anew_when_units_are_added(tmp_path: Path) -> None:
    render(tmp_path, range(3))
    path = tmp_path / schema.shard_path("sheets", MODEL, LAYER, 0, UNITS)
    before = read_shard(path).to_pylist()
    assert [(row["objective"], row["direction"]) for row in before] == [
        ("channel", 1),
        ("channel", -1),
        ("neuron", 1),
        ("neuron", -1),
    ]
    assert {row["num_pictures"] for row in before} == {3}
    assert list(check(Folder(tmp_path))) == []
    assert render(tmp_path, range(3)).made == 0
    render(tmp_path, range(5))
    after = read_shard(path).to_pylist()
    assert {row["num_pictures"] for row in after} == {5}
    assert list(check(Folder(tmp_path))) == []


def test_shows_the_pictures_of_the_atlas(tmp_path: Path) -> None:
    render(tmp_path, range(3))
    (first,) = (
        row for row in atlases_rows(tmp_path, "sheets") if (row["objective"], row["direction"]) == ("neuron", -1)
    )
    shown = tiles({**first, "image": first["image"]["bytes"]})
    for row in atlases_rows(tmp_path, LENS):
        if (row["objective"], row["direction"]) == ("neuron", -1):
            whole = np.asarray(tile(row["image"]["bytes"], 64)).astype(int)
            others = [np.abs(whole - shown[unit]).mean() for unit in range(3)]
            assert min(others) == others[row["unit"]] < 12


def atlases_rows(root: Path, table: str) -> list[Row]:
    paths = [path for path in atlases.shards(root) if path.parts[-3] == table]
    return [row for path in paths for row in read_shard(path).to_pylist()]
