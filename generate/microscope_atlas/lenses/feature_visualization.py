"""Feature visualization: the picture that excites a unit most, found by gradient ascent from noise.

Olah, Mordvintsev and Schubert 2017, https://distill.pub/2017/feature-visualization. Each unit is shown by two
objectives, `channel` and `neuron`, in both directions, and by a set of variants made to differ ("Diversity" there). Of
a dense unit, which has one position, the two are one objective: it is shown by `channel`.

Three methods. `fourier` is that article's. `maco` (Fel et al. 2023, https://arxiv.org/abs/2306.06805) holds the picture
to the amplitudes of natural ones, so that late layers cannot drift into noise; it looks at crops, which have no centre
neuron. `transparent` (Mordvintsev et al. 2018, https://distill.pub/2018/differentiable-parameterizations) leaves out
what the unit does not need.

Where the score is taken. +1 is taken behind the rectifier, as papers do. A rectifier hides what lies below zero, so -1
is taken before it; otherwise any picture that leaves the unit silent would do. A ReLU6 hides what lies above six too,
so there both are taken before it. GELU and SiLU hide almost all below zero: they are treated as a ReLU.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Annotated

import torch
from torch import Tensor

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.organisms import Kind, Layer
from microscope_atlas.atlas.schema import METHODS, views
from microscope_atlas.lenses import recipe as recipes
from microscope_atlas.lenses.frames import fill_rows, pixels, squares
from microscope_atlas.lenses.geometry import shift, unit_size
from microscope_atlas.lenses.lens import Lens, Part, Row, Subject, seed
from microscope_atlas.lenses.recipe import Quality, RobustViews, SourceName, settings
from microscope_atlas.models.networks.channels import in_channels
from microscope_atlas.rendering.ascend import SETTLING, SETTLING_LONGER, Ascent, Beta, ascend
from microscope_atlas.rendering.canvas import CanvasMaker, Fourier
from microscope_atlas.rendering.objectives import Channel, Direction, Diverse, Neuron, Objective, similarity
from microscope_atlas.rendering.phase import Crops, Phase, amplitudes
from microscope_atlas.rendering.transparent import Transparent
from microscope_atlas.structure import EACH_ONCE, Absent, Count, above, at_least, between, one_of

Method = Annotated[str, one_of(METHODS)]

OBJECTIVES: dict[str, Callable[[Tensor], Objective]] = {"channel": Channel, "neuron": Neuron}


@dataclass(frozen=True)
class Maco:
    """Settings of MACO."""

    steps: Count
    learning_rate: Annotated[float, above(0)] = 0.5  # Adam's, at the first step
    last_learning_rate: Annotated[float, above(0)] | None = None  # at the last, straight between; None: as the first
    beta1: Beta = 0.9  # Adam's, see Ascent
    beta2: Beta = 0.999
    crops: Crops = field(default_factory=Crops)
    pictures: Annotated[tuple[SourceName, ...], EACH_ONCE] = (
        # that amplitudes are taken from; of those that come with the package, the ones taken on the ground
        *("admiral", "astronaut", "bricks", "cat", "coffee"),
        *("flower", "grass", "raccoon", "rocket", "temple"),
    )


# As SETTLING, and phases have further to go
SETTLING_MACO = Maco(steps=64, learning_rate=1.0, last_learning_rate=0.1, beta1=0.2, beta2=0.9)


@dataclass(frozen=True)
class Recipe(recipes.Recipe):
    """Settings of feature visualization."""

    ascent: Ascent  # of `fourier` and `transparent`
    max_size: Annotated[int, between(8, 4096)] | None  # px on a side; None: up to the network's input
    variants: Annotated[int, between(0, 127)]  # pictures in the diversity set of `fourier`; 0: none
    diversity_weight: Annotated[float, at_least(0)] = 1.0
    # of likeness to the other variants, a share of the score; see Diverse
    batch: Count = 64  # pictures at once, at most
    batch_pixels: Count = 16 * 224**2  # of all pictures at once; benchmarks/batch.py
    methods: Annotated[tuple[Method, ...], EACH_ONCE] = ("fourier",)
    maco: Maco = SETTLING_MACO
    background_std: Annotated[float, at_least(0)] = 0.5
    # of the spectra behind transparent pictures; Lucid's collapse_alpha_random
    neuron_of_dense: Annotated[bool, Absent(True)] = False
    # whether units of dense layers get `neuron` too, which of them is the objective `channel` with another seed
    robust_views: RobustViews = 8

    def picture_size(self, layer: Layer, input_size: int) -> int:
        """See Recipe."""
        return unit_size(layer, input_size, self.max_size)


RECIPES: dict[Quality, Recipe] = {
    "draft": Recipe(SETTLING, max_size=112, variants=0),
    "standard": Recipe(
        replace(SETTLING_LONGER, precision="bfloat16"),
        max_size=None,
        variants=4,
        methods=tuple(METHODS),
        maco=replace(SETTLING_MACO, steps=128),
    ),
    "microscope": Recipe(
        # which scores as high as the 4,096 of OpenAI's pictures, at an even pace
        replace(SETTLING_LONGER, steps=1500, last_learning_rate=0.01),
        max_size=None,
        variants=4,
        methods=tuple(METHODS),
        maco=replace(SETTLING_MACO, steps=512),
    ),
}


class FeatureVisualization(Lens[Recipe]):
    """The lens."""

    table = schema.FEATURE_VISUALIZATION
    divisible = True

    def recipe(self, quality: Quality) -> Recipe:
        return RECIPES[quality]

    def quick(self) -> Recipe:
        return Recipe(Ascent(steps=2), max_size=32, variants=0, batch=16, robust_views=1)

    def shortened(self, recipe: Recipe, steps: int) -> Recipe:
        return replace(super().shortened(recipe, steps), maco=replace(recipe.maco, steps=steps))

    def passes(self, layer: Layer, recipe: Recipe) -> float:
        return sum(part.pictures * part.steps for part in self.parts(recipe, layer.kind))

    def parts(self, recipe: Recipe, kind: Kind = "conv") -> list[Part]:
        steps = {"maco": recipe.maco.steps}
        found = [
            Part(name, len(views(name, kind, recipe.neuron_of_dense)), steps.get(name, recipe.ascent.steps))
            for name in recipe.methods
        ]
        if recipe.variants and "fourier" in recipe.methods:
            found.append(Part("variants", recipe.variants, recipe.ascent.steps))
        return found

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        px = recipe.picture_size(subject.layer, subject.organism.input_size)
        recipe = replace(recipe, batch=at_once(recipe, px))
        for method in recipe.methods:
            for objective, direction in views(method, subject.layer.kind, recipe.neuron_of_dense):
                for some in _chunks(units, recipe.batch):
                    yield _batch(subject, some, method, objective, direction, [0], recipe)
        if recipe.variants and "fourier" in recipe.methods:
            for some in _chunks(units, max(1, recipe.batch // recipe.variants)):
                yield _batch(subject, some, "fourier", "channel", 1, range(1, recipe.variants + 1), recipe)


def at_once(recipe: Recipe, px: int) -> int:
    """How many pictures of `px` on a side make a batch."""
    return max(1, min(recipe.batch, recipe.batch_pixels // px**2))


@lru_cache(maxsize=2)
def natural_amplitudes(names: tuple[str, ...], size: int, channels: int) -> Tensor:
    """Of the pictures `names` that come with the package, their middle squares at `size` px: see `amplitudes`."""
    return amplitudes(in_channels(squares(names, size), channels))


def _batch(
    subject: Subject,
    units: Sequence[int],
    method: str,
    objective: str,
    direction: int,
    variants: Sequence[int],
    recipe: Recipe,
) -> list[Row]:
    """Rows of one batch of pictures: these variants of each of these units."""
    named = [] if method == "fourier" else [method]
    rows: list[Row] = [
        {
            "unit": unit,
            "method": method,
            "objective": objective,
            "direction": direction,
            "variant": variant,
            "seed": seed(subject.key(unit), objective, direction, variant, *named),
        }
        for unit in units
        for variant in variants
    ]
    node = subject.graph.objective_node(subject.layer.name, direction)
    px = recipe.picture_size(subject.layer, subject.organism.input_size)
    most = shift(subject.layer, recipe.ascent.views.shift)
    each = torch.tensor([row["unit"] for row in rows], device=subject.device)

    def asked(each: Tensor) -> Objective:
        return Direction(OBJECTIVES[objective](each), direction)

    ascent = replace(recipe.ascent, views=replace(recipe.ascent.views, shift=most))
    ascent, make_canvas, views = _approach(method, px, ascent, recipe, subject.graph.channels)
    own = subject.own_units(node, each, recipe.batch)
    activations: Callable[[Tensor], Tensor] = own or subject.activations(node)
    if own is not None:  # each picture's unit is then the first of what is read
        each = torch.zeros_like(each)
    ascended = asked(each.repeat_interleave(views))
    if len(variants) > 1:
        ascended = Diverse(ascended, len(variants), recipe.diversity_weight, first=int(own is not None))
    *_, last = ascend(
        activations,
        ascended,
        [row["seed"] for row in rows],
        ascent,
        px,
        subject.device,
        score=asked(each),
        min_batch=subject.least(recipe.batch),
        make_canvas=make_canvas,
        robust_views=recipe.robust_views,
    )
    made = {**settings(recipe), "size": px, "shift": most, "target": node}
    silent = node == subject.layer.name and direction > 0  # behind a rectifier nothing is below zero
    agreement = _agreement(activations, last.pictures, len(variants), first=int(own is not None))
    fill_rows(rows, last, silent, made)
    opacities = [None] * len(rows) if last.opacity is None else last.opacity
    for row, alike, opacity in zip(rows, agreement, opacities, strict=True):
        row["agreement"] = alike
        row["opacity"] = None if opacity is None or row["flag"] == "nan" else pixels(opacity)
    return rows


def _approach(method: str, px: int, ascent: Ascent, recipe: Recipe, channels: int) -> tuple[Ascent, CanvasMaker, int]:
    """How a method goes about it: the loop's settings, the canvas, and how many views of a picture make a step.

    Of a network that reads an opacity, `fourier` alone draws one; the others' pictures are shown to it as opaque.
    """
    colours = min(channels, 3)
    if method == "maco":
        maco = recipe.maco
        make_canvas = partial(Phase, amplitudes=natural_amplitudes(maco.pictures, px, colours), crops=maco.crops)
        named = ("steps", "learning_rate", "last_learning_rate", "beta1", "beta2")
        return replace(ascent, **{name: getattr(maco, name) for name in named}), make_canvas, maco.crops.count
    if method == "transparent":
        behind = recipe.background_std
        transparent = partial(Transparent, std=ascent.spectrum_std, views=ascent.views, background_std=behind)
        return ascent, partial(transparent, channels=colours), 1
    return ascent, partial(Fourier, std=ascent.spectrum_std, views=ascent.views, channels=channels), 1


def _agreement(
    activations: Callable[[Tensor], Tensor], pictures: Tensor, variants: int, first: int
) -> Sequence[float | None]:
    """How alike each picture and the other variants of its unit are to the network: see `similarity`."""
    if variants < 2:
        return [None] * len(pictures)
    with torch.no_grad():
        acts = activations(pictures.contiguous(memory_format=torch.channels_last))
        alike = similarity(acts[:, first:], variants)
    return [value if math.isfinite(value) else None for value in alike.tolist()]


def _chunks(units: Sequence[int], length: int) -> Iterator[Sequence[int]]:
    return (units[at : at + length] for at in range(0, len(units), length))
