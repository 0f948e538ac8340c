"""The cover of an atlas: a picture for its card, in which each row is a layer and each tile what one unit sees."""

import io
from collections.abc import Sequence
from typing import TypeVar

import pyarrow.compute as pc
from PIL import Image

from microscope_atlas.atlas.manifest import Manifest
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.atlas.storage import Storage
from microscope_atlas.pictures.decoder import decoded

ROWS, COLUMNS = 6, 10  # layers and units at most, evenly spread over those that there are
GAP = 4  # px between tiles
QUALITY = 85  # of the JPEG

T = TypeVar("T")


def render_cover(storage: Storage, manifest: Manifest) -> bytes | None:
    """The cover as a JPEG, from the thumbnails of `units`; None where the atlas has none."""
    rows = [tiles for layer in _spread(_layers(manifest), ROWS) if (tiles := _tiles(storage, layer))]
    if not rows:
        return None
    px = rows[0][0].width
    wide = max(map(len, rows))
    cover = Image.new("RGB", (wide * (px + GAP) - GAP, len(rows) * (px + GAP) - GAP), "#ffffff")
    for y, tiles in enumerate(rows):
        for x, tile in enumerate(tiles):
            cover.paste(tile, (x * (px + GAP), y * (px + GAP)))
    file = io.BytesIO()
    cover.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _layers(manifest: Manifest) -> list[list[str]]:
    """The files of `units` of each layer, models by name and layers from input to logits."""
    files: dict[tuple[str, int], list[str]] = {}
    for path, shard in sorted(manifest.shards.items()):
        units = shard.units
        if units.lens == "units":
            depth = manifest.depth(units.model, units.layer)
            files.setdefault((units.model, depth), []).append(path)
    return [files[layer] for layer in sorted(files)]


def _tiles(storage: Storage, paths: Sequence[str]) -> list[Image.Image]:
    """Thumbnails of some units of a layer."""
    found = []
    for path in paths:
        with storage.local_copy(path) as file:
            table = read_shard(file, ["thumbnail"])
        found += table.filter(pc.is_valid(table["thumbnail"])).to_pylist()
    return [decoded(row["thumbnail"]["bytes"]).convert("RGB") for row in _spread(found, COLUMNS)]


def _spread(values: Sequence[T], most: int) -> list[T]:
    """At most so many of them, evenly spread."""
    count = min(most, len(values))
    return [values[at * len(values) // count] for at in range(count)]
