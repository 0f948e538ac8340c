"""A derived lens as a user would write one: how bright a unit's picture is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from microscope_atlas.atlas.schema import PROVENANCE, UNIT_KEY
from microscope_atlas.atlas.tables import Column, Table
from microscope_atlas.lenses import recipe as recipes
from microscope_atlas.lenses.lens import Lens, Row, Subject
from microscope_atlas.lenses.recipe import Quality
from microscope_atlas.pictures.decoder import decoded

TABLE = Table(
    "brightness",
    "how bright the picture is that excites a unit",
    (*UNIT_KEY, Column("brightness", pa.float64(), "mean luma, 0 to 1"), *PROVENANCE),
    reads={"feature_visualization": "layer"},
    count=lambda settings: 1,
)


@dataclass(frozen=True)
class Recipe(recipes.Recipe):
    """There is nothing to set."""


class Brightness(Lens[Recipe]):
    """The lens."""

    table = TABLE
    divisible = True

    def recipe(self, quality: Quality) -> Recipe:
        return Recipe()

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        for part in subject.read("feature_visualization", ("unit", "objective", "direction", "image")):
            for row in part.to_pylist():
                if row["unit"] in units and (row["objective"], row["direction"]) == ("channel", 1):
                    luma = decoded(row["image"]["bytes"]).convert("L").resize((1, 1)).getpixel((0, 0))
                    yield [{"unit": row["unit"], "brightness": luma / 255}]
