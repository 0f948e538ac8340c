import io
from pathlib import Path

import numpy as np
from PIL import Image

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.publish.check import check
from microscope_atlas.publish.cover import GAP, render_cover
from tests import atlases


def test_cover_has_a_row_for_each_layer_and_a_tile_for_each_unit(tmp_path: Path) -> None:
    atlases.render_every(tmp_path, {"stem": range(3), "blocks_0": range(2)})
    manifest = read_manifest(Folder(tmp_path))
    cover = np.asarray(Image.open(tmp_path / schema.COVER)).astype(int)
    assert cover.shape == (2 * 64 + GAP, 3 * 64 + 2 * GAP, 3)
    assert (cover[-60:, -60:] > 250).all()  # the second layer has two units
    for layer, (y, units) in {"stem": (0, 3), "blocks_0": (64 + GAP, 2)}.items():
        shard = tmp_path / schema.shard_path("units", atlases.MODEL, layer, 0, units)
        for unit, row in enumerate(read_shard(shard).to_pylist()):
            shown = np.asarray(Image.open(io.BytesIO(row["thumbnail"]["bytes"])).convert("RGB")).astype(int)
            at = unit * (64 + GAP)
            assert np.abs(cover[y : y + 64, at : at + 64] - shown).mean() < 6
    assert schema.COVER in (tmp_path / schema.CARD).read_text()
    assert render_cover(Folder(tmp_path), manifest) == (tmp_path / schema.COVER).read_bytes()


def test_atlas_without_units_has_none(whole: Path) -> None:
    assert not (whole / schema.COVER).exists()
    assert schema.COVER not in (whole / schema.CARD).read_text()


def test_lost_or_other_cover_is_told_and_made_again(tmp_path: Path) -> None:
    atlases.render_every(tmp_path, {"stem": range(1)})
    before = atlases.content(tmp_path)
    for harm in (lambda path: path.unlink(), lambda path: path.write_bytes(b"another")):
        harm(tmp_path / schema.COVER)
        (problem,) = check(Folder(tmp_path))
        assert problem.startswith(f"{schema.COVER}: missing, or not the one in the manifest")
        atlases.render_every(tmp_path, {"stem": range(1)})
        assert atlases.content(tmp_path) == before
