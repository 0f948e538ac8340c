"""Sheets: all units of a layer as small tiles of one picture, so that a layer can be looked at as a whole.

A sheet for each view that any unit of the layer has: of `feature_visualization` each method, objective and direction;
of `dataset_samples` the best sample; of `synthetic_tuning` the stimulus of each family that excites the unit most.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw

from microscope_atlas.atlas import schema
from microscope_atlas.errors import NotRendered
from microscope_atlas.lenses import recipe as recipes
from microscope_atlas.lenses.lens import Lens, Row, Subject
from microscope_atlas.lenses.recipe import Quality
from microscope_atlas.lenses.tile import jpeg, tile
from microscope_atlas.structure import Absent, between

PAGE, PAPER, LINES = "#ffffff", "#f4f4f4", "#e2e2e2"  # behind all; of a tile without a picture
STRIPES = 4  # of a tile without a picture


@dataclass(frozen=True)
class Recipe(recipes.Recipe):
    """Settings of a sheet."""

    tile: Annotated[int, between(8, 1024)] = 64
    # px on a side; a multiple of JPEG's blocks of 16 px, so that neighbours share none
    quality: Annotated[int, between(1, 95)] = 55
    # of the JPEG: 0.94 KB a tile of inception_4c, 1.9 MB a layer of 2048 units; at 85 twice that
    only_made: Annotated[bool, Absent(False)] = True
    # whether units without a picture have no tile, rather than a striped one


class View(NamedTuple):
    """What a sheet shows of each unit."""

    lens: str
    method: str  # of a sample its bucket, of a stimulus its family
    objective: str
    direction: int


class Shown(NamedTuple):
    """What of a table is shown in sheets."""

    only: Mapping[str, Any]  # column -> the value that a row must have
    columns: tuple[str, ...]  # that its view is told by
    view: Callable[[Row], View]


SHOWN = {
    "feature_visualization": Shown(
        {"variant": 0},
        ("method", "objective", "direction"),
        lambda row: View("feature_visualization", row["method"], row["objective"], row["direction"]),
    ),
    "dataset_samples": Shown({"bucket": "top", "rank": 0}, (), lambda row: View("dataset_samples", "top", "neuron", 1)),
    "synthetic_tuning": Shown({}, ("family",), lambda row: View("synthetic_tuning", row["family"], "neuron", 1)),
}


class Sheets(Lens[Recipe]):
    """The lens."""

    table = schema.SHEETS
    divisible = False
    unit_seconds = 0.003  # measured on layers of efficientnet_lite0, with the package's pictures

    def recipe(self, quality: Quality) -> Recipe:
        return Recipe()

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        sheets: dict[View, _Sheet] = {}
        for table, shown in SHOWN.items():
            for part in subject.read(table, ("unit", *shown.only, *shown.columns, "image")):
                for row in _only(part, shown.only).to_pylist():
                    view = shown.view(row)
                    sheet = sheets.get(view) or sheets.setdefault(view, _Sheet(subject.layer.units, recipe))
                    if row["image"] is not None:
                        sheet.put(row["unit"], row["image"]["bytes"])
        if not sheets:
            raise NotRendered(
                f"{subject.key()} has no pictures of units; render some first: --lens feature_visualization"
            )
        for view, sheet in sheets.items():
            yield [{**view._asdict(), **sheet.row()}]


def _only(part: pa.Table, values: Mapping[str, Any]) -> pa.Table:
    """The rows that have these values."""
    for name, value in values.items():
        part = part.filter(pc.equal(part[name], value))
    return part


def columns(units: int) -> int:
    """Tiles side by side: as many as one above the other, or up to a quarter more where that fills the grid better."""
    square = math.ceil(math.sqrt(units))
    return min(range(square, square + square // 4 + 1), key=lambda wide: (-units % wide, wide))


class _Sheet:
    """Tiles of a layer's units, and the picture that holds them, in order, row by row."""

    def __init__(self, units: int, recipe: Recipe):
        self.units, self.recipe = units, recipe
        self.tiles: dict[int, Image.Image] = {}

    def put(self, unit: int, file: bytes) -> None:
        self.tiles[unit] = tile(file, self.recipe.tile)

    def row(self) -> Row:
        px, some = self.recipe.tile, self.recipe.only_made and 0 < len(self.tiles) < self.units
        units = sorted(self.tiles) if some else range(self.units)
        wide = columns(len(units))
        image = Image.new("RGB", (wide * px, -(-len(units) // wide) * px), PAGE)
        for at, unit in enumerate(units):
            image.paste(self.tiles.get(unit) or blank(px), (at % wide * px, at // wide * px))
        return {
            "image": jpeg(image, self.recipe.quality),
            "tile": px,
            "columns": wide,
            "num_units": len(units),
            "num_pictures": len(self.tiles),
            **({"units": list(units) if some else None} if self.recipe.only_made else {}),
        }


@cache
def blank(px: int) -> Image.Image:
    """The tile of a unit without a picture: a pale field with quiet stripes, and a margin that sets it off."""
    image = Image.new("RGB", (px, px), PAPER)
    draw = ImageDraw.Draw(image)
    for stripe in range(2 * STRIPES):
        middle = (2 * stripe + 1) * px // (2 * STRIPES)  # where it crosses the left edge, or leaves the upper one
        draw.line([(0, middle), (middle, 0)], LINES, width=2)
    draw.rectangle((0, 0, px - 1, px - 1), outline=PAGE, width=max(1, px // 32))
    return image
