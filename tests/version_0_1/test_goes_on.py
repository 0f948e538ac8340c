"""An atlas that version 0.1 made is read, checked, continued and made again by this one."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.images import Images
from microscope_atlas.atlas.manifest import Manifest, read_manifest
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.keys import parse_key
from microscope_atlas.lenses.registry import LENSES, UNASKED
from microscope_atlas.publish.check import check
from microscope_atlas.publish.cite import cite
from microscope_atlas.run.reproduce import reproduce
from tests.commands import Commands

ATLAS = Path(__file__).parent / "atlas"
MODEL = "efficientnet_lite0"


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return read_manifest(Folder(ATLAS))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ATLAS, tmp_path / "atlas"))


def test_holds_every_lens_of_its_time(manifest: Manifest) -> None:
    assert manifest.software == "microscope-atlas 0.1.0, torch 2.13.0+cpu"
    assert {shard.units.lens for shard in manifest.shards.values()} == manifest.lenses.keys() <= LENSES.keys()


def test_is_in_order(manifest: Manifest) -> None:
    assert list(check(Folder(ATLAS))) == []
    assert all(manifest.expects(shard) for shard in manifest.shards.values())


def test_card_that_names_other_files_is_found(copy: Path) -> None:
    card = copy / schema.CARD
    card.write_text(card.read_text().replace("feature_visualization/efficientnet_lite0/*", "other/*"))
    assert list(check(Folder(copy))) == [f"{schema.CARD}: does not agree with the data; running render again writes it"]


def test_every_image_is_where_its_index_says(manifest: Manifest) -> None:
    images = Images(Folder(ATLAS), MODEL)
    for path, shard in manifest.shards.items():
        table = schema.table(shard.units.lens)
        for row in read_shard(ATLAS / path).to_pylist():
            for name in table.images:
                if row[name]:
                    assert images.read(table.name, row[name]["path"], name) == row[name]["bytes"]


def test_is_cited() -> None:
    assert "manifest with sha256" in cite(Folder(ATLAS), parse_key(f"{MODEL}/stem/1"))


LIGHT = ("dataset_samples", "synthetic_tuning", "connections", "units", "sheets")


@pytest.mark.parametrize(
    "lens", [pytest.param(name, marks=[] if name in LIGHT else [pytest.mark.long]) for name in UNASKED]
)
def test_rows_are_made_again(lens: str) -> None:
    key = f"{MODEL}/stem" if schema.table(lens).level == "layer" else f"{MODEL}/stem/1"
    notes, remade = reproduce(Folder(ATLAS), parse_key(key), lens, torch.device("cpu"))
    far = [str(row) for row in remade if not row.close]
    assert not far
    assert not [note for note in notes if note.startswith("device")]


def test_run_goes_on_and_makes_what_was_lost(copy: Path, commands: Commands) -> None:
    lost = "connections/efficientnet_lite0/stem.00000-00002.parquet"
    before = read_shard(copy / lost)
    (copy / lost).unlink()
    one = ["--model", MODEL, "--layer", "stem", "--units", "0:2", "--lens", "connections", "--device", "cpu"]
    ended = commands("render", copy, *one)
    assert ended.status == 0, ended.err
    after = read_shard(copy / lost)
    apart = {"software", "device"}
    assert _numbers_apart(before.drop_columns(list(apart)), after.drop_columns(list(apart))) < 1e-5
    assert list(check(Folder(copy))) == []


def _numbers_apart(one: pa.Table, other: pa.Table) -> float:
    """The largest relative difference of the numbers in two tables, which agree on all else."""
    assert one.schema.equals(other.schema)
    worst = 0.0
    for a, b in zip(one.to_pylist(), other.to_pylist(), strict=True):
        for name in a:
            if isinstance(a[name], float):
                worst = max(worst, abs(a[name] - b[name]) / max(abs(a[name]), 1e-3))
            elif name != "kernel":
                assert a[name] == b[name], name
    return worst


def test_its_recipes_are_still_understood(manifest: Manifest) -> None:
    from microscope_atlas.lenses.recipe import settings

    steady = {"beta1": 0.9, "beta2": 0.999, "last_learning_rate": None}  # what version 0.1 climbed with
    ascent = {**steady, "convolutions": "direct"}
    came_later = {
        "feature_visualization": {"neuron_of_dense": True, "robust_views": 0, "ascent": ascent, "maco": steady},
        "deepdream": {"robust_views": 0, "ascent": ascent, "picture_ascent": ascent},
        "caricature": {"robust_views": 0, "ascent": ascent},
        "responses": {"classes": 0, "labels": None},
        "units": {"classes": False, "perplexity": 0},
        "sheets": {"only_made": False},
    }
    for name, plain in manifest.lenses.items():
        expected = json.loads(json.dumps(plain))
        for setting, value in came_later.get(name, {}).items():
            expected[setting] = expected[setting] | value if isinstance(value, dict) else value
        assert settings(LENSES[name].restored(plain)) == expected
