"""Networks that read one or four channels: every lens, on a trained toy, in files of the right kind."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.keys import Key
from microscope_atlas.lenses.feature_visualization import Maco, Recipe
from microscope_atlas.lenses.registry import UNASKED
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.publish.check import check
from microscope_atlas.rendering.ascend import Ascent
from microscope_atlas.run import reproduce, run
from tests.atlases import HERE, quick

KINDS = {1: "own:tests.models.kinds_of_networks.grey", 4: "own:tests.models.kinds_of_networks.with_opacity"}
LAYERS = {"conv2": range(1), "fc": range(2)}
METHODS = ("fourier", "maco", "transparent")
VISUALIZATION = Recipe(Ascent(steps=12), 32, variants=2, methods=METHODS, maco=Maco(steps=2))

Rows = Callable[[int, str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    roots = {}
    for channels, name in KINDS.items():
        roots[channels] = root = tmp_path_factory.mktemp("colours") / "microscope-atlas"
        asked = run.RenderRequest(organism(name), weights.load(organism(name)), "pretrained", LAYERS)
        recipes = {lens: quick(lens) for lens in UNASKED} | {"feature_visualization": VISUALIZATION}
        run.render(Folder(root), [asked], recipes, HERE, 4, lambda *_: None)
        assert list(check(Folder(root))) == []

    def read(channels: int, lens: str) -> list[dict[str, Any]]:
        root = roots[channels]
        return [
            row
            for path in read_manifest(Folder(root)).shards
            if path.startswith(f"{lens}/")
            for row in read_shard(root / path).to_pylist()
        ]

    read.roots = roots  # type: ignore[attr-defined]
    return read


def opened(row: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(row["image"]["bytes"]))


@pytest.mark.parametrize("channels", KINDS)
@pytest.mark.parametrize("lens", UNASKED)
def test_every_lens_has_its_rows(rows: Rows, channels: int, lens: str) -> None:
    found = rows(channels, lens)
    assert found
    if "flag" in schema.table(lens).arrow.names:
        assert not [row for row in found if row["flag"] == "nan"]


@pytest.mark.parametrize(
    "lens", ["feature_visualization", "deepdream", "caricature", "dataset_samples", "synthetic_tuning"]
)
def test_pictures_of_a_grey_network_are_grey_files(rows: Rows, lens: str) -> None:
    shown = [opened(row) for row in rows(1, lens) if row["image"]]
    assert shown
    assert {(image.format, image.mode) for image in shown} == {("JPEG", "L")}


def test_canvases_of_a_network_with_opacity_have_one(rows: Rows) -> None:
    modes = {row["method"]: (opened(row).format, opened(row).mode) for row in rows(4, "feature_visualization")}
    assert modes == {"fourier": ("PNG", "RGBA"), "maco": ("JPEG", "RGB"), "transparent": ("JPEG", "RGB")}
    assert {opened(row).mode for row in rows(4, "caricature")} == {"RGBA"}


@pytest.mark.parametrize("channels", KINDS)
def test_scores_are_those_of_the_pictures_that_are_stored(rows: Rows, channels: int) -> None:
    """What the canvas holds is what the network was shown: the stored file scores as its row says."""
    known = organism(KINDS[channels])
    network = weights.network(known, weights.load(known))
    for row in rows(channels, "feature_visualization"):
        if (row["objective"], row["direction"], row["layer"]) != ("channel", 1, "fc"):
            continue
        pixels = torch.tensor(bytearray(opened(row).tobytes())).view(32, 32, -1).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            again = float(network(pixels.expand(2, -1, -1, -1), ["fc"])[0][0, row["unit"]])
        assert again == pytest.approx(row["score"], abs=0.05)


def test_grey_pictures_tell_the_classes_that_the_toy_was_trained_on(rows: Rows) -> None:
    for row in rows(1, "feature_visualization"):
        if (row["layer"], row["objective"], row["direction"], row["method"]) == ("fc", "channel", 1, "fourier"):
            pixels = torch.tensor(bytearray(opened(row).tobytes())).view(32, 32).float()
            across, down = pixels.diff(dim=1).abs().mean(), pixels.diff(dim=0).abs().mean()
            assert (across > down) == (row["unit"] == 1)  # unit 1 is upright stripes


@pytest.mark.parametrize("channels", KINDS)
def test_rows_are_made_again_as_they_were(rows: Rows, channels: int) -> None:
    root = rows.roots[channels]  # type: ignore[attr-defined]
    key = Key(KINDS[channels], "conv2", 0)
    _, remade = reproduce.reproduce(Folder(root), key, "feature_visualization", torch.device("cpu"))
    assert all(row.close for row in remade)


def test_recipes_do_not_change_with_the_colours(rows: Rows) -> None:
    """What a network reads is the network's, not the lens' setting."""
    assert not [row for row in rows(1, "deepdream") if "channels" in json.loads(row["recipe"])]
