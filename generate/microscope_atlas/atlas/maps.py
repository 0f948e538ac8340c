"""Maps: the cells of an activation atlas as one picture, and as a pyramid of tiles that viewers of Deep Zoom read.

Deep Zoom: `NAME.dzi` says how large the picture is, `NAME_files/LEVEL/COLUMN_ROW.jpg` are its tiles; at the last level
the picture is whole, at each before it half as large. Here cells grow coarser as the picture shrinks: each level shows
the finest cells that are not too small to be seen there. https://openseadragon.github.io and many others show it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.manifest import Manifest
from microscope_atlas.atlas.present import refuse_absent
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.atlas.storage import Storage
from microscope_atlas.errors import AtlasUnwritable, UnknownName
from microscope_atlas.keys import Key
from microscope_atlas.pictures.decoder import decoded

NAME = schema.ACTIVATION_ATLAS.name
PAGE = "#ffffff"  # where no cell is
TILE, OVERLAP = 254, 1  # px; with its neighbours' a tile has 256
LEAST = 56  # px on a side of a cell that can still be seen
QUALITY = 90  # of JPEG

Cell = Mapping[str, Any]


def read(storage: Storage, manifest: Manifest, key: Key) -> list[Cell]:
    """The cells of a layer with their pictures; UnknownName, with what is there, where the atlas has none."""
    refuse_absent(manifest, key, NAME)
    found: list[Cell] = []
    for path, shard in sorted(manifest.shards.items()):
        if (shard.units.lens, shard.units.model, shard.units.layer) == (NAME, key.model, key.layer):
            with storage.local_copy(path) as file:
                found += read_shard(file, ["zoom", "row", "column", "grid", "image"]).to_pylist()
    return found


def zooms(cells: Sequence[Cell]) -> dict[int, int]:
    """The zooms that there are, and how many cells each has along a side."""
    return {cell["zoom"]: cell["grid"] for cell in cells}


def size(cells: Sequence[Cell]) -> int:
    """Px on a side of the whole picture: its finest cells are as large as they were made."""
    grid = max(zooms(cells).values())
    px = next((decoded(cell["image"]["bytes"]).width for cell in cells if cell["image"]), LEAST)
    return grid * px


def drawn(cells: Sequence[Cell], zoom: int, side: int) -> Image.Image:
    """The map at a zoom, `side` px on a side; white where no cell is. UnknownName where there is no such zoom."""
    there = zooms(cells)
    if zoom not in there:
        raise UnknownName(f"zoom {zoom} is not in the map; it has {', '.join(map(str, sorted(there)))}")
    picture = Image.new("RGB", (side, side), PAGE)
    for cell in cells:
        if cell["zoom"] == zoom and cell["image"]:
            (left, right), (top, bottom) = (_edges(cell[axis], cell["grid"], side) for axis in ("column", "row"))
            shown = decoded(cell["image"]["bytes"]).convert("RGB")
            picture.paste(shown.resize((right - left, bottom - top), Image.Resampling.LANCZOS), (left, top))
    return picture


def write(cells: Sequence[Cell], folder: Path, name: str) -> Path:
    """Write NAME.jpg, the whole picture at the finest zoom, NAME.dzi and its tiles; gives the picture's path.

    AtlasUnwritable where something of that name is there already, or the disk refuses.
    """
    tiles, whole = folder / f"{name}_files", folder / f"{name}.jpg"
    if there := next((path for path in (tiles, whole, folder / f"{name}.dzi") if path.exists()), None):
        raise AtlasUnwritable(f"{there} is there already; name another folder, or remove it")
    side = size(cells)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        drawn(cells, max(zooms(cells)), side).save(whole, "JPEG", quality=QUALITY, subsampling=0)
        last = (side - 1).bit_length()
        for level in range(last + 1):
            _write_level(cells, tiles / str(level), -(-side >> (last - level)) or 1)
        (folder / f"{name}.dzi").write_text(
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="jpg" Overlap="{OVERLAP}" '
            f'TileSize="{TILE}"><Size Width="{side}" Height="{side}"/></Image>\n'
        )
    except OSError as error:
        raise AtlasUnwritable(f"{folder} cannot be written: {error}") from error
    return whole


def zoom_for(cells: Sequence[Cell], side: int) -> int:
    """The finest zoom whose cells can be seen in a picture of `side` px; else the coarsest."""
    there = zooms(cells)
    return max((zoom for zoom, grid in there.items() if side / grid >= LEAST), default=min(there))


def _write_level(cells: Sequence[Cell], folder: Path, side: int) -> None:
    picture = drawn(cells, zoom_for(cells, side), side)
    folder.mkdir(parents=True)
    for column in range(-(-side // TILE)):
        for row in range(-(-side // TILE)):
            left, right = _reach(column, side)
            top, bottom = _reach(row, side)
            tile = picture.crop((left, top, right, bottom))
            tile.save(folder / f"{column}_{row}.jpg", "JPEG", quality=QUALITY)


def _reach(at: int, side: int) -> tuple[int, int]:
    """From which px to which a tile goes, along an axis: over its own by the overlap, where a neighbour is."""
    return max(0, at * TILE - OVERLAP), min(side, (at + 1) * TILE + OVERLAP)


def _edges(at: int, grid: int, side: int) -> tuple[int, int]:
    """From which px to which a cell goes, along an axis; neighbours adjoin, however sizes divide."""
    return at * side // grid, max((at + 1) * side // grid, at * side // grid + 1)
