"""The map of a network's units, a part at a time: a square of cells, each shown by the unit nearest to its middle.

A part is the whole map, or at each zoom a half of the part before along each side; so there is always as much to see,
and nothing hides anything.
"""

import io
import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError, InvalidKey, UnknownName
from microscope_atlas.pictures.decoder import decoded
from microscope_space.html.plots import viridis

GRID = 16  # cells along a side
MOST_ZOOM = 8  # where a cell is 1/4096 of the map's side
TILE, FRAME = 64, 4  # px of a cell, and of the frame that tells its layer's depth
MARGIN = 0.01  # of the map's side, around the outermost unit
CLEAR, BLANK = (0, 0, 0, 0), "#d5d9de"  # where there is no unit, and a unit without a picture
QUALITY = 80  # of the WebP, which lets the page be seen where there is no unit
log = logging.getLogger(__name__)

PART = re.compile("([0-9])-([0-9]{1,3})-([0-9]{1,3})")


class Part(NamedTuple):
    """A part of a map: how often it was halved, and where that part is, from the top and from the left."""

    zoom: int = 0
    row: int = 0
    column: int = 0

    def __str__(self) -> str:
        return "-".join(map(str, self))

    @property
    def side(self) -> int:
        """How many such parts the map has along a side."""
        return int(2**self.zoom)

    def nearer(self, row: int, column: int) -> "Part | None":
        """The part of the next zoom that a cell is in; None at the last."""
        if self.zoom == MOST_ZOOM:
            return None
        return Part(self.zoom + 1, 2 * self.row + 2 * row // GRID, 2 * self.column + 2 * column // GRID)

    @property
    def farther(self) -> "Part | None":
        """The part that this one is a quarter of; None of the whole map."""
        return Part(self.zoom - 1, self.row // 2, self.column // 2) if self.zoom else None

    def beside(self, down: int, across: int) -> "Part | None":
        """The part beside it, so many further; None beyond the map."""
        row, column = self.row + down, self.column + across
        return Part(self.zoom, row, column) if {row, column} <= set(range(self.side)) else None


def part_of(asked: str | None) -> Part:
    """The part that a link names, `2-0-3`, the whole map where it names none; InvalidKey for other words."""
    if asked is None:
        return Part()
    match = PART.fullmatch(asked)
    part = Part(*map(int, match.groups())) if match else None
    if part is None or part.zoom > MOST_ZOOM or max(part.row, part.column) >= part.side:
        raise InvalidKey(f"{asked[:20]!r} is no part of a map; expected how near, row and column, such as 1-0-1")
    return part


@dataclass(frozen=True)
class Placed:
    """The units of a network that have a place on its map."""

    layers: Sequence[str]  # from input to logits
    layer: NDArray[np.int32]  # of each unit, its place among them
    unit: NDArray[np.int32]
    x: NDArray[np.float64]  # from the left, in [0, 1)
    y: NDArray[np.float64]  # from the top
    trustworthiness: float  # nan where there is no unit


class Cell(NamedTuple):
    """A cell that units lie in."""

    row: int
    column: int
    layer: str
    unit: int  # the one nearest to its middle
    num_units: int  # that lie in it


def placed(atlas: Atlas, model: str) -> Placed:
    """Where the units of a network lie; those of a layer that cannot be read are left out."""
    layers = list(atlas.layers(model))
    rows = _rows(atlas, model, layers).combine_chunks()
    place = rows["model_map"].combine_chunks()
    x, y, trusted = (
        place.field(name).to_numpy(zero_copy_only=False).astype(float) for name in ("x", "y", "trustworthiness")
    )
    known = {name: at for at, name in enumerate(layers)}
    layer = np.array([known[name] for name in rows["layer"].to_pylist()], np.int32)
    unit = rows["unit"].to_numpy().astype(np.int32)
    kept = np.isfinite(x) & np.isfinite(y) & ~place.is_null().to_numpy(zero_copy_only=False)
    layer, unit, x, y, trusted = (each[kept] for each in (layer, unit, x, y, trusted))
    if not len(x):
        return Placed(layers, layer, unit, x, y, float("nan"))
    extent = max(np.ptp(x), np.ptp(y)) or 1.0  # one scale for both: distances are alike along them
    across, down = (
        0.5 + (1 - 2 * MARGIN) * sign * (values - (values.min() + values.max()) / 2) / extent
        for values, sign in ((x, 1), (y, -1))  # upwards, as in a plot
    )
    return Placed(layers, layer, unit, across, down, float(trusted[0]))


def _rows(atlas: Atlas, model: str, layers: Sequence[str]) -> pa.Table:
    """Rows of `units`; AtlasError where none can be read."""
    columns = ("layer", "unit", "model_map")
    try:
        return atlas.units(model, columns)
    except AtlasError as error:
        log.warning("units of %s: %s", model, error)
        found = []
        for layer in layers:
            with suppress(AtlasError):  # told already
                found.append(atlas.units(model, columns, layer))
        if not any(len(some) for some in found):
            raise
        return pa.concat_tables(found)


def has_one(atlas: Atlas, model: str) -> bool:
    """Whether units of a network have places on its map, as far as can be read."""
    return any(_has_places(atlas, model, layer) for layer in atlas.layers(model))


def _has_places(atlas: Atlas, model: str, layer: str) -> bool:
    try:
        places = atlas.units(model, ("model_map",), layer)["model_map"].combine_chunks().drop_null()
    except AtlasError as error:  # those of other layers can be
        log.warning("units of %s/%s: %s", model, layer, error)
        return False
    finite = pc.and_(pc.is_finite(places.field("x")), pc.is_finite(places.field("y")))
    return bool(pc.any(finite).as_py())


def cells(there: Placed, part: Part) -> list[Cell]:
    """The cells of a part that units lie in, row by row."""
    across, down = ((values * part.side - at) * GRID for values, at in ((there.x, part.column), (there.y, part.row)))
    (inside,) = np.nonzero((across >= 0) & (across < GRID) & (down >= 0) & (down < GRID))
    rows, columns = down[inside].astype(int), across[inside].astype(int)
    off = np.hypot(across[inside] - columns - 0.5, down[inside] - rows - 0.5)
    number = rows * GRID + columns
    order = np.lexsort((inside, off, number))
    _, first, count = np.unique(number[order], return_index=True, return_counts=True)
    shown = order[first]
    return [
        Cell(
            int(rows[at]),
            int(columns[at]),
            there.layers[there.layer[inside[at]]],
            int(there.unit[inside[at]]),
            int(many),
        )
        for at, many in zip(shown, count, strict=True)
    ]


def depth(layers: Sequence[str], layer: str) -> tuple[int, int, int]:
    """The colour of a layer: dark near the input, bright near the logits."""
    return viridis(layers.index(layer) / max(1, len(layers) - 1))


def drawn(atlas: Atlas, model: str, part: Part) -> bytes:
    """A part as a picture, a WebP: units' thumbnails, each framed in the colour of its layer's depth.

    UnknownName where the atlas has no map of the network.
    """
    there = placed(atlas, model)
    if not len(there.unit):
        raise UnknownName(f"this atlas has no map of {model}")
    side = GRID * TILE
    picture = Image.new("RGBA", (side, side), CLEAR)
    names = {}
    for cell in cells(there, part):
        left, top = cell.column * TILE, cell.row * TILE
        picture.paste((*depth(there.layers, cell.layer), 255), (left, top, left + TILE, top + TILE))
        if cell.layer not in names:
            names[cell.layer] = atlas.thumbnails(model, cell.layer)
        small = _thumbnail(atlas, model, names[cell.layer].get(cell.unit))
        picture.paste(small.resize((TILE - 2 * FRAME,) * 2, Image.Resampling.LANCZOS), (left + FRAME, top + FRAME))
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=QUALITY, method=2)
    return file.getvalue()


def _thumbnail(atlas: Atlas, model: str, name: str | None) -> Image.Image:
    """The picture of a unit; a grey one where it has none, or it cannot be read."""
    if name:
        with suppress(AtlasError):
            return decoded(atlas.image("units", model, name, "thumbnail")).convert("RGB")
    return Image.new("RGB", (TILE, TILE), BLANK)
