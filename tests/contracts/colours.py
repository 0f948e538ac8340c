"""A lens as a user would write one: what a unit makes of plain colours."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import pyarrow as pa
import torch

from microscope_atlas.atlas.schema import FLAG, PROVENANCE, UNIT_KEY
from microscope_atlas.atlas.tables import FLOATS, IMAGE, Column, Table
from microscope_atlas.lenses import recipe as recipes
from microscope_atlas.lenses.lens import Lens, Row, Subject
from microscope_atlas.lenses.recipe import Quality
from microscope_atlas.structure import between, one_of

COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0), "grey": (0.5, 0.5, 0.5)}

TABLE = Table(
    "colours",
    "how strongly a unit answers to a plain colour",
    (
        *UNIT_KEY,
        Column("colour", pa.string(), "name of the colour", key=True),
        Column("image", IMAGE, "the colour", optional=True),
        Column("response", pa.float64(), "mean activation over all positions"),
        Column("rgb", FLOATS, "the colour, 0 to 1"),
        FLAG,
        *PROVENANCE,
    ),
    count=lambda settings: len(settings["colours"]),
    title="Plain colours",
)


@dataclass(frozen=True)
class Recipe(recipes.Recipe):
    """Settings of plain colours."""

    size: Annotated[int, between(8, 512)] = 64  # px on a side
    colours: tuple[Annotated[str, one_of(COLOURS)], ...] = tuple(COLOURS)


class Colours(Lens[Recipe]):
    """The lens."""

    table = TABLE
    divisible = False

    def recipe(self, quality: Quality) -> Recipe:
        return Recipe(size=32) if quality == "draft" else Recipe()

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        plain = torch.tensor([COLOURS[name] for name in recipe.colours], device=subject.device)
        pictures = plain[:, :, None, None].expand(-1, -1, recipe.size, recipe.size)
        with torch.no_grad():
            acts = subject.activations(subject.layer.name)(pictures.contiguous(memory_format=torch.channels_last))
        means = acts.flatten(2).mean(2) if acts.dim() == 4 else acts
        for at, name in enumerate(recipe.colours):
            swatch = (pictures[at].permute(1, 2, 0) * 255).round().byte().contiguous().cpu()
            yield [
                {
                    "unit": unit,
                    "colour": name,
                    "image": swatch,
                    "response": float(means[at, unit]),
                    "rgb": list(COLOURS[name]),
                    "flag": None,
                }
                for unit in units
            ]


class Misspelt(Colours):
    """One whose rows are not its table's."""

    table = Table("misspelt", "rows with a mistake", TABLE.columns)

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        for some in super().rows(subject, units, recipe):
            yield [{**{name: row[name] for name in row if name != "rgb"}, "color": 1} for row in some]


class Colliding(Colours):
    table = Table("sheets", "what is ours already", TABLE.columns)


class Unsaid(Colours):
    table = Table("unsaid", "rows that do not say how they were made", TABLE.columns[:-4])


class Unfinished(Lens[Recipe]):
    table = TABLE


INSTANCE = Colours()
NOTHING = 5
