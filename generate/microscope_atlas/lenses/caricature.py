"""Caricature: what a layer keeps of a real picture, exaggerated.

Olah et al. 2018, https://distill.pub/2018/building-blocks; Lucid's recipes/caricature.py. From noise, a picture is made
that the layer answers to as it does to the real one, only more strongly: what the layer cannot tell apart is free, and
what it sees grows. Early layers give the edges and textures back, middle ones parts, late ones what they take it for.

The picture and its caricature go through the same random view at each step, so that places stay where they are.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.lenses import recipe as recipes
from microscope_atlas.lenses.frames import GENTLE, fill_rows, squares
from microscope_atlas.lenses.geometry import layer_size
from microscope_atlas.lenses.lens import Lens, Part, Row, Subject, seed
from microscope_atlas.lenses.recipe import Quality, RobustViews, SourceName, settings
from microscope_atlas.models.networks.channels import in_channels
from microscope_atlas.models.networks.network import Network
from microscope_atlas.pictures.sources import FIRST
from microscope_atlas.rendering import objectives
from microscope_atlas.rendering.ascend import SETTLING, Ascent, Frame, ascend, canvas_size
from microscope_atlas.rendering.canvas import Fourier
from microscope_atlas.rendering.views import centre
from microscope_atlas.structure import NONE_TWICE, Count, at_least, between


@dataclass(frozen=True)
class Recipe(recipes.Recipe):
    """Settings of caricatures."""

    ascent: Ascent
    max_size: Annotated[int, between(8, 4096)] | None  # px on a side; None: the network's input
    power: Annotated[float, at_least(0)] = 2.0
    # of the cosine; by eye: at 0 (Lucid's) inception_5b forgets the arrangement, at 4 little grows
    sources: Annotated[tuple[SourceName, ...], NONE_TWICE] = FIRST  # pictures that come with the package
    batch: Count = 6  # pictures at once
    robust_views: RobustViews = 8

    def picture_size(self, layer: Layer, input_size: int) -> int:
        """See Recipe."""
        return layer_size(layer, input_size, self.max_size)


DRAFT_SOURCES = ("astronaut", "cat", "temple", "flower", "raccoon", "coffee")

# Scores as high as 64 even steps; longer ascents gain nothing so. By benchmarks/ascents.py; see docs/decisions.md
DRAFT = replace(SETTLING, steps=48, learning_rate=0.2, views=GENTLE)

RECIPES: dict[Quality, Recipe] = {
    "draft": Recipe(DRAFT, max_size=144, sources=DRAFT_SOURCES),
    "standard": Recipe(Ascent(steps=256, views=GENTLE, precision="bfloat16"), max_size=None),
    "microscope": Recipe(Ascent(steps=512, views=GENTLE), max_size=None),  # as many steps as Lucid's
}


class Caricature(Lens[Recipe]):
    """The lens."""

    table = schema.CARICATURE
    divisible = False

    def recipe(self, quality: Quality) -> Recipe:
        return RECIPES[quality]

    def quick(self) -> Recipe:
        return Recipe(Ascent(steps=2), max_size=32, sources=("cat",), robust_views=1)

    def parts(self, recipe: Recipe) -> list[Part]:
        return [Part("sources", len(recipe.sources), recipe.ascent.steps)]

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        for at in range(0, len(recipe.sources), recipe.batch):
            yield _batch(subject, recipe.sources[at : at + recipe.batch], recipe)


def caricatures(
    network: Network,
    pictures: Tensor,
    layers: Sequence[str],
    seeds: Sequence[int],
    recipe: Recipe,
    size: int,
    every: int | None = None,
    min_batch: int = 2,
) -> Generator[Frame, None, None]:
    """Caricatures of `size` px of pictures (batch, 3, side, side), RGB in [0, 1], each of its own of `layers`.

    Frames come after each `every` steps, if given, and at the end; closing the generator ends the work. The network
    runs once for all, as far as the deepest of the layers. The pictures have the size of the canvas,
    `canvas_size(recipe.ascent, size)`, and are on the network's device; see `square`.
    """
    count = len(layers)
    names = list(dict.fromkeys(layers))

    def own(shown: Tensor) -> list[Tensor]:
        acts = dict(zip(names, network(shown, names), strict=True))
        return [acts[layers[i % count]][i] for i in range(len(shown))]

    objective = objectives.Caricature(recipe.power)
    ascent = recipe.ascent
    make_canvas = partial(Fourier, std=ascent.spectrum_std, views=ascent.views, channels=network.channels)
    yield from ascend(
        own,
        objective,
        seeds,
        ascent,
        size,
        pictures.device,
        min_batch=min_batch,
        every=every,
        make_canvas=make_canvas,
        references=pictures,
        robust_views=recipe.robust_views,
    )


def _batch(subject: Subject, sources: Sequence[str], recipe: Recipe) -> list[Row]:
    """Rows of one batch of caricatures."""
    size = recipe.picture_size(subject.layer, subject.organism.input_size)
    side = canvas_size(recipe.ascent, size)
    pictures = squares(sources, side).to(subject.device)
    rows: list[Row] = [{"source": name, "seed": seed(subject.key(), Caricature.table.name, name)} for name in sources]
    *_, last = caricatures(
        subject.graph,
        pictures,
        [subject.layer.name] * len(sources),
        [row["seed"] for row in rows],
        recipe,
        size,
        min_batch=subject.least(recipe.batch),
    )
    fill_rows(rows, last, True, {**settings(recipe), "size": size, "canvas_size": side})
    for row, cosine in zip(rows, _cosines(subject, last.pictures, centre(pictures, size)), strict=True):
        row["cosine"] = None if row["flag"] == "nan" else cosine
    return rows


def _cosines(subject: Subject, pictures: Tensor, others: Tensor) -> list[float]:
    """Between the layer's activations of each picture and of its other."""
    with torch.no_grad():
        # one pass for both: a picture is never alone in its batch
        acts = subject.activations(subject.layer.name)(
            torch.cat([pictures, in_channels(others, pictures.shape[1])]).contiguous(memory_format=torch.channels_last)
        )
    return [objectives.cosine(*pair).item() for pair in zip(*acts.chunk(2), strict=True)]
