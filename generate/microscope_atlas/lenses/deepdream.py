"""DeepDream: a picture that excites a whole layer, found by gradient ascent from noise or from a real picture.

Mordvintsev, Olah and Tyka 2015, https://research.google/blog/inceptionism-going-deeper-into-neural-networks. From
noise it shows what the layer sees most of; from a picture, what the layer sees in it, and then more of that: nothing
holds the picture but the shortness of the ascent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.lenses import recipe as recipes
from microscope_atlas.lenses.frames import fill_rows, squares
from microscope_atlas.lenses.geometry import layer_size
from microscope_atlas.lenses.lens import Lens, Part, Row, Subject, seed
from microscope_atlas.lenses.recipe import Quality, RobustViews, settings
from microscope_atlas.models.networks.channels import in_channels
from microscope_atlas.pictures.sources import SOURCES
from microscope_atlas.rendering.ascend import SETTLING, Ascent, ascend, canvas_size
from microscope_atlas.rendering.canvas import Fourier
from microscope_atlas.rendering.objectives import DeepDream as MeanSquare
from microscope_atlas.structure import EACH_ONCE, Count, between, one_of

NOISE = "noise"
Start = Annotated[str, one_of((NOISE, *SOURCES))]

# By benchmarks/ascents.py; docs/decisions.md has the numbers
DREAMING = replace(SETTLING, learning_rate=0.2)
LONGER = replace(DREAMING, steps=256, learning_rate=0.14)
LONGEST = replace(DREAMING, steps=2048, learning_rate=0.1, last_learning_rate=0.01)
# As far as 96 even steps go. By eye: after 16 of those a picture is hardly touched, after 64 it begins to dream
PICTURE_ASCENT = replace(DREAMING, steps=48, learning_rate=0.14)


@dataclass(frozen=True)
class Recipe(recipes.Recipe):
    """Settings of DeepDream."""

    ascent: Ascent  # from noise
    max_size: Annotated[int, between(8, 4096)] | None  # px on a side; None: the network's input
    starts: Annotated[tuple[Start, ...], EACH_ONCE] = (NOISE,)  # and pictures that come with the package
    picture_ascent: Ascent = PICTURE_ASCENT
    batch: Count = 4  # pictures at once
    robust_views: RobustViews = 8

    def picture_size(self, layer: Layer, input_size: int) -> int:
        """See Recipe."""
        return layer_size(layer, input_size, self.max_size)


PICTURES = ("temple", "astronaut", "galaxies")

RECIPES: dict[Quality, Recipe] = {
    "draft": Recipe(DREAMING, max_size=144),
    "standard": Recipe(LONGER, None, (NOISE, *PICTURES)).in_precision("bfloat16"),
    "microscope": Recipe(LONGEST, None, (NOISE, *PICTURES)),
}


class DeepDream(Lens[Recipe]):
    """The lens."""

    table = schema.DEEPDREAM
    divisible = False

    def recipe(self, quality: Quality) -> Recipe:
        return RECIPES[quality]

    def quick(self) -> Recipe:
        return replace(self.recipe("draft"), ascent=Ascent(steps=2), max_size=32, robust_views=1)

    def parts(self, recipe: Recipe) -> list[Part]:
        pictures = [start for start in recipe.starts if start != NOISE]
        found = [Part("noise", 1, recipe.ascent.steps)] if NOISE in recipe.starts else []
        return [*found, *([Part("pictures", len(pictures), recipe.picture_ascent.steps)] if pictures else [])]

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        if NOISE in recipe.starts:
            yield _batch(subject, [NOISE], recipe)
        names = [start for start in recipe.starts if start != NOISE]
        for at in range(0, len(names), recipe.batch):
            yield _batch(subject, names[at : at + recipe.batch], recipe)


def _batch(subject: Subject, starts: Sequence[str], recipe: Recipe) -> list[Row]:
    """Rows of one batch of pictures: from noise, or from these pictures."""
    from_noise = starts[0] == NOISE
    ascent = recipe.ascent if from_noise else recipe.picture_ascent
    size = recipe.picture_size(subject.layer, subject.organism.input_size)
    side = canvas_size(ascent, size)
    channels = subject.graph.channels
    begin = None if from_noise else in_channels(squares(starts, side), channels)
    rows: list[Row] = [{"start": start, "seed": seed(subject.key(), DeepDream.table.name, start)} for start in starts]
    *_, last = ascend(
        subject.activations(subject.layer.name),
        MeanSquare(),
        [row["seed"] for row in rows],
        ascent,
        size,
        subject.device,
        min_batch=subject.least(recipe.batch),
        make_canvas=partial(Fourier, std=ascent.spectrum_std, views=ascent.views, begin=begin, channels=channels),
        robust_views=recipe.robust_views,
    )
    fill_rows(rows, last, True, {**settings(recipe), "size": size, "canvas_size": side})
    return rows
