"""The analyst's way into an atlas."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import microscope_atlas as ma
from microscope_atlas.errors import AtlasDamaged, InvalidKey, NotRendered, UnknownName, WrongLevel

ATLAS = Path(__file__).parents[1] / "version_0_1" / "atlas"
KEY = "efficientnet_lite0/stem/1"


@pytest.fixture(scope="module")
def atlas() -> "ma.Atlas":
    return ma.open(ATLAS)


def test_says_what_it_holds(atlas: "ma.Atlas") -> None:
    assert atlas.models == ["efficientnet_lite0"]
    assert atlas.layers("efficientnet_lite0") == {"stem": 32, "blocks_2": 24}
    assert {"units", "feature_visualization", "caricature"} <= set(atlas.tables)
    assert str(ATLAS) in repr(atlas)


def test_table_is_that_of_a_key(atlas: "ma.Atlas") -> None:
    assert atlas.table("units").num_rows == 4
    assert atlas.table("units", "efficientnet_lite0/stem")["unit"].to_pylist() == [0, 1]
    assert atlas.table("units", KEY, ["layer", "unit"]).to_pylist() == [{"layer": "stem", "unit": 1}]
    assert atlas.table("deepdream", "efficientnet_lite0/stem").num_rows > 0


def test_images_are_file_names_unless_they_are_asked_for(atlas: "ma.Atlas") -> None:
    (name, *_) = atlas.table("feature_visualization", KEY)["image"].to_pylist()
    (file, *_) = atlas.table("feature_visualization", KEY, images=True)["image"].to_pylist()
    assert file["path"] == name
    picture = atlas.image("feature_visualization", "efficientnet_lite0", name)
    assert (picture.mode, picture.size) == ("RGB", (48, 48))


def test_unit_has_its_pictures_and_rows(atlas: "ma.Atlas") -> None:
    unit = atlas.unit(KEY)
    assert unit.key == KEY
    assert isinstance(unit.image(), Image.Image)
    assert unit.image(direction=-1).tobytes() != unit.image().tobytes()
    samples = unit.samples()
    assert [row["rank"] for row in samples] == list(range(len(samples))) != []
    activations = [row["activation"] for row in samples]
    assert activations == sorted(activations, reverse=True)
    assert all(isinstance(row["image"], Image.Image) for row in samples)
    assert {row["towards"] for row in unit.connections()} == {"output"}
    assert unit.connections("input") == []
    assert unit.about()["kind"] == "conv"
    assert unit._repr_png_().startswith(b"\x89PNG")


def test_unit_is_plotted(atlas: "ma.Atlas") -> None:
    pytest.importorskip("matplotlib")
    drawn = atlas.unit(KEY).plot()
    assert drawn.axes[0].get_title() == "made for it"
    assert {"gratings", "curves", "colours"} <= {axes.get_title() for axes in drawn.axes}
    drawn.canvas.draw()


@pytest.mark.parametrize(
    ("what", "error", "said"),
    [
        (lambda atlas: atlas.unit("efficientnet_lite0/stem"), InvalidKey, "is no unit"),
        (lambda atlas: atlas.unit("efficientnet_lite0/stem/31"), UnknownName, "units 0 to 31"),
        (lambda atlas: atlas.unit("efficientnet_lite0/stam/1"), UnknownName, "nearest: stem"),
        (lambda atlas: atlas.unit("alexnet/conv1/1"), UnknownName, "nearest: efficientnet_lite0"),
        (lambda atlas: atlas.table("unit"), UnknownName, "nearest: units"),
        (lambda atlas: atlas.table("units", columns=["layr"]), UnknownName, "nearest: layer"),
        (lambda atlas: atlas.table("units", "efficientnet_lite0/head"), UnknownName, "has no units of"),
        (lambda atlas: atlas.table("units", ""), InvalidKey, "expected"),
        (lambda atlas: atlas.table("deepdream", KEY), WrongLevel, "deepdream is about layers"),
        (lambda atlas: atlas.unit(KEY).rows("sheets"), WrongLevel, "sheets is about layers"),
        (lambda atlas: atlas.unit(KEY).image("maco"), NotRendered, "--lens feature_visualization"),
        (lambda atlas: ma.open(ATLAS.parent), AtlasDamaged, "holds no atlas"),
    ],
)
def test_what_is_not_there_is_said(what: object, error: type[Exception], said: str, atlas: "ma.Atlas") -> None:
    assert callable(what)
    with pytest.raises(error, match=said):
        what(atlas)


def test_no_torch_is_loaded() -> None:
    code = (
        "import sys; import microscope_atlas as ma\n"
        f"unit = ma.open({str(ATLAS)!r}).unit({KEY!r}); unit.image(); unit.samples(); unit.connections()\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
