import os
import uuid
from pathlib import Path

import pytest

from microscope_atlas.atlas.bucket import Bucket
from microscope_atlas.atlas.coverage import coverage
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest, write_manifest
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.run import run
from tests.atlases import HERE, LAYER, LENS, MODEL, quick, render, request, shards

TODO = UnitRange(LENS, MODEL, LAYER, 0, 8)


@pytest.fixture
def six(atlas: Path) -> Folder:
    """An atlas of six units, of which two more are planned, finished at known times."""
    render(atlas, range(6), per_shard=1)
    plan(atlas, TODO)
    # units 0 and 1 in one file, then one unit every 10 s, with a night's break
    for path, seconds in zip(shards(atlas), (0, 10, 20, 30, 80_000), strict=True):
        os.utime(path, (seconds, seconds))
    return Folder(atlas)


def plan(root: Path, *units: UnitRange) -> None:
    manifest = read_manifest(Folder(root))
    manifest.planned = list(units)
    write_manifest(Folder(root), manifest)


def test_time_left_is_what_is_missing_at_the_last_rate(six: Folder) -> None:
    (layer,) = coverage(six)
    assert (layer.of, layer.planned, layer.present) == ("units", 8, 6)
    assert layer.seconds_left == pytest.approx(20)


def test_without_a_folder_no_rate_is_known(six: Folder) -> None:
    bucket = Bucket(f"memory://coverage-{uuid.uuid4().hex}/one")
    for path in six.files():
        bucket.write(path, six.read(path))
    (layer,) = coverage(bucket)
    assert (layer.present, layer.seconds_left) == (6, None)


def test_nothing_is_left_of_what_is_all_there(six: Folder) -> None:
    plan(six.root)
    assert coverage(six)[0].seconds_left is None


def test_one_file_tells_no_rate(tmp_path: Path) -> None:
    render(tmp_path, range(1))
    plan(tmp_path, UnitRange(LENS, MODEL, LAYER, 0, 2))
    assert coverage(Folder(tmp_path))[0].seconds_left is None


def test_what_a_run_has_finished_but_not_noted_is_there(six: Folder) -> None:
    manifest = read_manifest(six)
    manifest.shards.pop(sorted(manifest.shards)[-1])
    write_manifest(six, manifest)
    assert coverage(six)[0].present == 6
    (six.root / LENS / MODEL / "stem.00006-00007.parquet.1.part").touch()
    (six.root / LENS / "stray.parquet").touch()
    assert coverage(six)[0].present == 6


def test_lens_that_looks_at_layers_is_counted_in_layers(tmp_path: Path) -> None:
    recipes = {"deepdream": quick("deepdream")}
    run.render(Folder(tmp_path), [request({LAYER: range(2)})], recipes, HERE, 2, lambda *_: None)
    (layer,) = coverage(Folder(tmp_path))
    assert (layer.of, layer.planned, layer.present) == ("layer", 1, 1)
