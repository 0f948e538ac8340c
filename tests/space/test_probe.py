"""What a picture excites, in a network whose answers are worked out by hand."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from microscope_atlas.atlas.organisms import Layer, organisms
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import UnknownName
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.models.organism import Library, Organism
from microscope_atlas.pictures.sources import source
from microscope_space.live import chooser, excited, networks, probe
from microscope_space.live.drawn import TILE
from tests import atlases, toy

SIZE = 8
HANDMADE = Organism(
    "handmade",
    "Made by hand",
    None,
    None,
    "nothing",
    SIZE,
    toy.handmade,
    toy.HANDMADE_LAYERS,
    (Library("here", lambda: toy.handmade().state_dict(), "CC0", lasting=False),),
)
MAXIMA = {
    ("conv1", 0): 24.0,
    ("conv1", 1): 4.0,
    ("conv1", 2): 2.0,
    ("conv2", 0): None,
    ("conv2", 1): 0.0,
    ("logits", 0): 0.5,
    ("logits", 1): 0.5,
}


@pytest.fixture
def atlas(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """All that is asked of an atlas, of the network made by hand."""
    monkeypatch.setitem(CATALOG, "handmade", HANDMADE)
    monkeypatch.setitem(organisms(), "handmade", HANDMADE)
    networks._weights.clear()
    networks._network.clear()
    sha256 = weights.load(HANDMADE).sha256
    rows = [
        {"layer": layer, "unit": unit, "maximum": maximum, "class_name": None, "thumbnail": None}
        for (layer, unit), maximum in MAXIMA.items()
    ]
    columns = {"layer": pa.string(), "unit": pa.int32(), "maximum": pa.float32()}
    columns |= dict.fromkeys(("class_name", "thumbnail"), pa.string())
    yield SimpleNamespace(
        models=["handmade"],
        layers=lambda model: {"conv1": 3, "conv2": 2, "logits": 2},
        units=lambda model, asked, layer=None: pa.Table.from_pylist(
            [row for row in rows if layer in (None, row["layer"])], schema=pa.schema(list(columns.items()))
        ),
        manifest=SimpleNamespace(
            models={"handmade": {"weights_sha256": sha256, "provenance": {"source": "here", "license": "CC0"}}}
        ),
    )
    networks._weights.clear()
    networks._network.clear()


def a_red_dot() -> Image.Image:
    """Red at column 5, row 2, on black: there `red` is 1 - (-1) = 2, `dark` 1/3; elsewhere they are 0 and 1."""
    picture = Image.new("RGB", (SIZE, SIZE))
    picture.putpixel((5, 2), (255, 0, 0))
    return picture


def test_units_are_ranked_by_their_own_maximum(atlas: Any) -> None:
    found = excited.probe(atlas, a_red_dot(), "handmade").layers["conv1"]
    # the edge is -1 + 3 of black, three rows: outside the picture is 0, which is brighter than black
    assert [(each.unit, each.activation) for each in found] == [(1, 2.0), (2, 1.0), (0, 9.0)]
    assert [each.ratio for each in found] == [0.5, 0.5, pytest.approx(9 / 24)]


def test_the_place_is_the_receptive_field_of_the_strongest_position(atlas: Any) -> None:
    red, dark, _ = excited.probe(atlas, a_red_dot(), "handmade").layers["conv1"]
    assert (red.left, red.top, red.right, red.bottom) == (4, 1, 7, 4)
    assert (dark.left, dark.top, dark.right, dark.bottom) == (0, 0, 2, 2)  # cut at the border
    logits = excited.probe(atlas, a_red_dot(), "handmade").layers["logits"]
    assert all((each.left, each.top, each.right, each.bottom) == (0, 0, SIZE, SIZE) for each in logits)


def test_units_without_a_measure_and_silent_ones_are_left_out(atlas: Any) -> None:
    assert "conv2" not in excited.probe(atlas, a_red_dot(), "handmade").layers
    blue = excited.probe(atlas, Image.new("RGB", (SIZE, SIZE), "blue"), "handmade").layers["conv1"]
    assert 1 not in [each.unit for each in blue]


def test_no_more_are_told_than_asked_for(atlas: Any) -> None:
    assert [each.unit for each in excited.probe(atlas, a_red_dot(), "handmade", top=1).layers["conv1"]] == [1]


def test_heat_is_where_a_unit_is_active(atlas: Any) -> None:
    seen = excited.probe(atlas, a_red_dot(), "handmade")
    heat = excited.heat(HANDMADE.layer("conv1"), seen.maps["conv1", 1], SIZE)
    assert heat.shape == (SIZE, SIZE)
    assert np.argwhere(heat > 0).tolist() == [[2, 5]] and heat[2, 5] == 1


def test_heat_between_positions_is_interpolated(atlas: Any) -> None:
    layer = Layer("l", "conv", 1, 4, 4, {}, origin=-1)  # positions stand at 1 and 5
    heat = excited.heat(layer, np.array([[0, 1], [0, 0]], np.float32), 6)
    assert heat[0].tolist() == pytest.approx([0, 0.125, 0.375, 0.625, 0.875, 1])
    assert heat[:, 5].tolist() == pytest.approx([1, 0.875, 0.625, 0.375, 0.125, 0])


def test_only_what_can_be_run_is_looked_through(atlas: Any) -> None:
    for name in ("own:os.getcwd", "efficientnet_lite0", "<script>"):
        with pytest.raises(UnknownName, match="is not in what can be run here; nearest: handmade"):
            excited.probe(atlas, a_red_dot(), name)


def test_rows_are_json(known: Atlas) -> None:
    rows = probe.plain(known, "cat", atlases.MODEL, top=2)
    assert json.loads(json.dumps(rows)) == rows
    assert [row["layer"] for row in rows] == sorted(row["layer"] for row in rows)
    table = {
        (row["layer"], row["unit"]): row["maximum"]
        for row in known.units(atlases.MODEL, ("layer", "unit", "maximum")).to_pylist()
    }
    for row in rows:
        assert row["maximum"] == table[row["layer"], row["unit"]]
        assert row["ratio"] == pytest.approx(row["activation"] / row["maximum"])


def test_each_unit_leads_to_its_page(known: Atlas) -> None:
    (first, *_) = probe.plain(known, "cat", atlases.MODEL)
    html = look(known)
    assert f'href="./{first["model"]}/{first["layer"]}/{first["unit"]}"' in html
    assert f"{first['ratio']:.0%}" in html
    assert html.count("data:image/jpeg") == len(probe.plain(known, "cat", atlases.MODEL))


def look(known: Atlas) -> str:
    return probe.shown(known, "cat", atlases.MODEL, excited.probe(known, source("cat"), atlases.MODEL))


def test_the_frame_is_drawn_around_the_place(known: Atlas) -> None:
    seen = excited.probe(known, source("cat"), atlases.MODEL)
    each = seen.layers["blocks_4"][0]
    assert (each.right - each.left) < len(seen.picture)
    drawn, scale = np.asarray(probe.marked(each, seen)), 2 * TILE / len(seen.picture)
    middle = round((each.left + each.right) / 2 * scale)
    assert drawn[round(each.top * scale) + 1, middle].tolist() == [0xD9, 0x48, 0x0F]


def test_what_goes_wrong_is_said_escaped(known: Atlas) -> None:
    html, *_ = probe.looked(known, "cat", "<script>alert(1)</script>")
    assert 'role="alert"' in html and "<script>" not in html and "&lt;script&gt;" in html
    assert chooser.FORGOTTEN[1:] in probe.looked(known, None, atlases.MODEL)[0]  # type: ignore[arg-type]
