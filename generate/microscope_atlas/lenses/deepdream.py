"""DeepDream: a picture that excites a whole layer, found by gradient ascent from noise or from a real picture.

Mordvintsev, Olah and Tyka 2015, https://research.google/blog/inceptionism-going-deeper-into-neural-networks. From
noise it shows what the layer sees most of; from a picture, what the layer sees in it, and then more of that: nothing
holds the picture but the shortness of the ascent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from microscope_atlas.atlas import schema
from microscope_atlas.lenses.frames import fill, in_precision, layer_size, squares
from microscope_atlas.lenses.lens import Lens, Quality, Row, Subject, seed, settings
from microscope_atlas.models.networks.channels import in_channels
from microscope_atlas.rendering.ascend import Ascent, ascend, span
from microscope_atlas.rendering.canvas import Fourier
from microscope_atlas.rendering.objectives import DeepDream as MeanSquare

NOISE = "noise"
PICTURE_ASCENT = Ascent(steps=96)  # by eye: after 16 steps a picture is hardly touched, after 64 it begins to dream


@dataclass(frozen=True)
class Recipe:
    """Settings of DeepDream."""

    ascent: Ascent  # from noise
    max_size: int | None  # px on a side; None: the network's input
    starts: tuple[str, ...] = (NOISE,)  # and pictures that come with the package
    picture_ascent: Ascent = PICTURE_ASCENT
    batch: int = 4  # pictures at once


PICTURES = ("temple", "astronaut", "galaxies")

RECIPES: dict[Quality, Recipe] = {
    "draft": Recipe(Ascent(steps=128), max_size=144),
    "standard": in_precision(Recipe(Ascent(steps=512), None, (NOISE, *PICTURES)), "bfloat16"),
    "microscope": Recipe(Ascent(steps=4096), None, (NOISE, *PICTURES)),
}


class DeepDream(Lens):
    """The lens."""

    table = schema.DEEPDREAM
    divisible = False

    def recipe(self, quality: Quality) -> Recipe:
        return RECIPES[quality]

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
    size = layer_size(subject.layer, subject.organism.input_size, recipe.max_size)
    canvas_size = span(ascent, size)
    channels = subject.graph.channels
    begin = None if from_noise else in_channels(squares(starts, canvas_size), channels)
    rows: list[Row] = [{"start": start, "seed": seed(subject.key(), DeepDream.table.name, start)} for start in starts]
    *_, last = ascend(
        subject.activations(subject.layer.name),
        MeanSquare(),
        [row["seed"] for row in rows],
        ascent,
        size,
        subject.device,
        batch=subject.least(recipe.batch),
        stretch=partial(Fourier, std=ascent.spectrum_std, views=ascent.views, begin=begin, channels=channels),
    )
    fill(rows, last, True, {**settings(recipe), "size": size, "canvas_size": canvas_size})
    return rows
