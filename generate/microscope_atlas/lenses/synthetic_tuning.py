"""Synthetic tuning: how strongly a unit answers to families of made stimuli, varied along two axes.

Tuning curves are neuroscience's way to say what a cell prefers; Cammarata et al. 2020, "Curve Detectors",
https://distill.pub/2020/circuits/curve-detectors, drew them of InceptionV1's units. Three families:

    family     x, around a circle           y                        maximum over
    gratings   orientation, 180 degrees     frequency, cycles/px     phase
    curves     direction, 360 degrees       curvature, 1/px          contrast (light, dark), offset
    colours    hue, 360 degrees             lightness                nothing

render/stimuli.py says how they are drawn; they are centred on the centre neuron's receptive field and sized by it. The
response is that neuron's, behind the layer's rectifier, as in feature visualization's direction +1; before a ReLU6,
which would make all strong answers the same.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.lenses import recipe as recipes
from microscope_atlas.lenses.frames import pixels
from microscope_atlas.lenses.geometry import field_centre, unit_size
from microscope_atlas.lenses.lens import Lens, Part, Row, Subject
from microscope_atlas.lenses.recipe import Quality, settings
from microscope_atlas.models.networks.channels import in_channels
from microscope_atlas.rendering.objectives import at_centre
from microscope_atlas.rendering.stimuli import Stage, blank, colour, curve, grating
from microscope_atlas.structure import Count, above, at_least, between

COARSE = 0.1  # cycles a pixel: the coarsest grating, where one cycle does not fit the field
NYQUIST = 0.5  # cycles a pixel: the finest grating that pixels can show

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Recipe(recipes.Recipe):
    """Settings of synthetic tuning. "Field" is the receptive field in px, at most the picture."""

    max_size: Annotated[int, between(8, 4096)] | None  # of the picture, px on a side; None: up to the network's input
    orientations: Count  # of gratings, over 180 degrees
    frequencies: Count  # from one cycle a field, or COARSE, to NYQUIST, geometric
    phases: Count  # over 360 degrees
    directions: Count  # of curves, over 360 degrees
    curvatures: Count  # from straight lines to the tightest curve, linear
    offsets: Count  # of curves in their direction, from -offset to offset
    hues: Count  # over 360 degrees
    lightnesses: Count  # from black to white
    contrast: Annotated[float, between(0, 1)] = 1.0  # of gratings, and of curves to either side
    tightest: Annotated[float, above(0)] = 1 / 6  # radius, of the field; never below a stroke's width
    stroke: Annotated[float, above(0)] = 1 / 16  # width, of the field; never below 1.5 px
    offset: Annotated[float, at_least(0)] = 1 / 8  # most, of the field
    batch: Count = 32  # pictures at once

    def picture_size(self, layer: Layer, input_size: int) -> int:
        """See Recipe."""
        return unit_size(layer, input_size, self.max_size)


RECIPES: dict[Quality, Recipe] = {
    "draft": Recipe(112, 12, 6, 8, 24, 6, 3, 12, 5),
    "standard": Recipe(None, 24, 16, 12, 48, 10, 5, 24, 9),
    "microscope": Recipe(None, 36, 24, 16, 72, 16, 7, 36, 17),
}


@dataclass(frozen=True)
class Axis:
    """A quantity that stimuli are varied in."""

    name: str  # with its unit
    values: tuple[float, ...]


@dataclass(frozen=True)
class Family:
    """Stimuli for every combination of x, y and what is nested in them."""

    name: str
    x: Axis  # evenly around a circle, from 0
    period: float  # of that circle, in the axis' unit
    y: Axis
    nested: tuple[Axis, ...]  # a response is the maximum over these
    draw: Callable[..., Tensor]  # of a value of x, of y, and of each nested axis: (3, size, size)
    sideless: tuple[float, ...] = ()  # values of y at which x makes no difference, or names one side of what has none

    @property
    def stimuli(self) -> list[tuple[float, ...]]:
        """What each picture is drawn from, in the order (y, x, *nested)."""
        return [(x, y, *rest) for y, x, *rest in product(*(axis.values for axis in (self.y, self.x, *self.nested)))]


class SyntheticTuning(Lens[Recipe]):
    """The lens."""

    table = schema.SYNTHETIC_TUNING
    divisible = False

    def recipe(self, quality: Quality) -> Recipe:
        return RECIPES[quality]

    def quick(self) -> Recipe:
        return Recipe(32, 2, 2, 2, directions=2, curvatures=2, offsets=2, hues=2, lightnesses=2)

    def shortened(self, recipe: Recipe, steps: int) -> Recipe:
        """So many batches of gratings, and a single curve and colour."""
        once = dict.fromkeys(("frequencies", "phases", "directions", "curvatures", "offsets", "lightnesses"), 1)
        return replace(recipe, **once, orientations=steps * recipe.batch, hues=1)

    def parts(self, recipe: Recipe) -> list[Part]:
        """Its stimuli, batch by batch."""
        return [Part("stimuli", 1, -(-stimuli(recipe) // recipe.batch))]

    def passes(self, layer: Layer, recipe: Recipe) -> float:
        """All stimuli, there and not back."""
        return stimuli(recipe) / 2

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        px = recipe.picture_size(subject.layer, subject.organism.input_size)
        node = subject.graph.objective_node(subject.layer.name, direction=1)
        see = subject.activations(node)
        down, across = field_centre(see, subject.organism, subject.layer.name, px, subject.device)
        stage = Stage(px, across, subject.device, down)
        field = min(subject.layer.receptive_field or px, px)
        centre = across if across == down else [down, across]
        made = {**settings(recipe), "size": px, "centre": centre, "field": field, "target": node}
        batch, least = recipe.batch, subject.least(recipe.batch)
        grey = _answers(see, [blank(stage)], batch, least)[0]
        for family in families(recipe, stage, field):
            pictures = (family.draw(*stimulus) for stimulus in family.stimuli)
            answers = _answers(see, pictures, batch, least)
            colours = min(subject.organism.channels, 3)
            yield [
                {"recipe": made, **_row(unit, family, answers[:, unit], float(grey[unit]), colours)} for unit in units
            ]


def stimuli(recipe: Recipe) -> int:
    """How many pictures a layer is shown."""
    gratings = recipe.orientations * recipe.frequencies * recipe.phases
    curves = recipe.directions * recipe.curvatures * 2 * recipe.offsets
    return gratings + curves + recipe.hues * recipe.lightnesses


def families(recipe: Recipe, stage: Stage, field: float) -> tuple[Family, ...]:
    """The families for a receptive field of so many px."""
    contrast, most = recipe.contrast, recipe.offset * field
    width = max(1.5, recipe.stroke * field)
    tightest = 1 / max(width, recipe.tightest * field)
    return (
        Family(
            "gratings",
            _circle("orientation_degrees", 180, recipe.orientations),
            180,
            Axis("frequency_cycles_per_px", _plain(np.geomspace(min(1 / field, COARSE), NYQUIST, recipe.frequencies))),
            (_circle("phase_degrees", 360, recipe.phases),),
            lambda orientation, frequency, phase: grating(stage, orientation, frequency, phase, contrast),
        ),
        Family(
            "curves",
            _circle("direction_degrees", 360, recipe.directions),
            360,
            Axis("curvature_per_px", _plain(np.linspace(0, tightest, recipe.curvatures))),
            (
                Axis("contrast", (contrast, -contrast)),
                Axis("offset_px", _plain(np.linspace(-most, most, recipe.offsets) if recipe.offsets > 1 else [0.0])),
            ),
            lambda direction, curvature, sign, offset: curve(stage, direction, curvature, offset, sign, width),
            sideless=(0.0,),  # straight lines are hollow to no side
        ),
        Family(
            "colours",
            _circle("hue_degrees", 360, recipe.hues),
            360,
            Axis("lightness", _plain(np.linspace(0, 1, recipe.lightnesses))),
            (),
            lambda hue, lightness: colour(stage, hue, lightness),
            sideless=(0.0, 1.0),  # black and white have no hue
        ),
    )


def _circle(name: str, period: float, count: int) -> Axis:
    return Axis(name, tuple(period * at / count for at in range(count)))


def _plain(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _answers(see: Callable[[Tensor], Tensor], pictures: Iterable[Tensor], batch: int, least: int) -> Matrix:
    """The centre neuron's response to each picture, of all units: (pictures, units); see Subject.least."""
    waiting, answers = iter(pictures), []
    while some := list(islice(waiting, batch)):
        shown = torch.stack([some[at % len(some)] for at in range(max(len(some), least))])
        acts = see(shown.contiguous(memory_format=torch.channels_last))[: len(some)]
        answers.append(acts if acts.dim() == 2 else at_centre(acts))
    return torch.cat(answers).float().cpu().numpy()


def width(profile: Matrix, at: int, baseline: float, period: float) -> float | None:
    """Full width at half height of the peak at index `at` of a profile around a circle, in the unit of its period.

    Half height lies midway between the baseline and the peak; the flanks are interpolated linearly. None where the
    profile never falls below half height.
    """
    half = (float(profile[at]) + baseline) / 2
    if not (profile < half).any():
        return None
    return (_flank(np.roll(profile, -at), half) + _flank(np.roll(profile[::-1], at + 1), half)) * period / len(profile)


def _flank(profile: Matrix, half: float) -> float:
    """Steps from the start of a profile to where it first falls below half height."""
    below = int(np.argmax(profile < half))
    before, after = float(profile[below - 1]), float(profile[below])
    return below - 1 + (before - half) / (before - after)


def _row(unit: int, family: Family, answers: Matrix, grey: float, colours: int) -> Row:
    """What a unit's answers to all stimuli of a family say."""
    shape = tuple(len(axis.values) for axis in (family.y, family.x, *family.nested))
    responses = answers.reshape(*shape[:2], -1).max(2)
    peak = float(responses.max())
    flag = "nan" if not np.isfinite([peak, grey]).all() else "dead" if peak <= 0 else None
    row: Row = {
        "unit": unit,
        "family": family.name,
        "x_axis": family.x.name,
        "y_axis": family.y.name,
        "x_values": list(family.x.values),
        "y_values": list(family.y.values),
        "responses": responses.tolist(),
        "preferred_x": None,
        "preferred_y": None,
        "nested_axes": [axis.name for axis in family.nested],
        "preferred_nested": None,
        "peak": None if flag == "nan" else peak,
        "width": None,
        "blank": None if flag == "nan" else grey,
        "image": None,
        "flag": flag,
    }
    if flag is None:
        best = int(answers.argmax())
        x, y, *nested = family.stimuli[best]
        across, down = family.x.values.index(x), family.y.values.index(y)
        sided = y not in family.sideless
        row |= {"preferred_x": x if sided else None, "preferred_y": y, "preferred_nested": nested}
        row["width"] = width(responses[down], across, float(responses.min()), family.period)
        row["image"] = pixels(in_channels(family.draw(x, y, *nested)[None], colours)[0])
    return row
