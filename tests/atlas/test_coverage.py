import os
from pathlib import Path

import pytest

from microscope_atlas.atlas.coverage import coverage
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import Manifest, read_manifest
from tests.atlases import LAYER, LENS, MODEL, render, shards


@pytest.fixture
def six(atlas: Path) -> tuple[Path, Manifest]:
    """An atlas of six units, of which two more are planned, finished at known times."""
    render(atlas, range(6), per_shard=1)
    manifest = read_manifest(Folder(atlas))
    (planned,) = manifest.planned
    manifest.planned = [type(planned)(LENS, MODEL, LAYER, 0, 8)]
    # units 0 and 1 in one file, then one unit every 10 s, with a night's break
    for path, seconds in zip(shards(atlas), (0, 10, 20, 30, 80_000), strict=True):
        os.utime(path, (seconds, seconds))
    return atlas, manifest


def test_time_left_is_what_is_missing_at_the_last_rate(six: tuple[Path, Manifest]) -> None:
    atlas, manifest = six
    (layer,) = coverage(manifest, atlas)
    assert (layer.planned, layer.present) == (8, 6)
    assert layer.seconds_left == pytest.approx(20)


def test_without_a_folder_no_rate_is_known(six: tuple[Path, Manifest]) -> None:
    (layer,) = coverage(six[1])
    assert (layer.present, layer.seconds_left) == (6, None)


def test_nothing_is_left_of_what_is_all_there(six: tuple[Path, Manifest]) -> None:
    atlas, manifest = six
    manifest.planned = []
    assert coverage(manifest, atlas)[0].seconds_left is None


def test_one_file_tells_no_rate(tmp_path: Path) -> None:
    render(tmp_path, range(1))
    manifest = read_manifest(Folder(tmp_path))
    manifest.planned = [type(manifest.planned[0])(LENS, MODEL, LAYER, 0, 2)]
    assert coverage(manifest, tmp_path)[0].seconds_left is None
