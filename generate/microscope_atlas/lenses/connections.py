"""Connections: the units of the layers before and after that a unit is wired to most strongly.

Each pair of units has a kernel, its expanded weights (see models/expanded.py): how much the later unit, at its centre
position and before its rectifier, rises with the earlier unit's activation at each position around it.

Excitatory and inhibitory connections are ranked each on its own, by the L2 norm of the kernel's positive and of its
negative part. A plain sum would lose what circuits are made of: a car detector is excited by windows above and
inhibited by windows below (Olah et al. 2020, https://distill.pub/2020/circuits/zoom-in), which sum to little although
they are among its strongest inputs. So one unit may stand in both lists.

An influence may cancel further back, where two earlier units always fire together: the weights cannot tell.

Units that a dictionary makes are wired to the layer that they read, and through it to its neighbours: see products.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.lenses import recipe as recipes
from microscope_atlas.lenses.geometry import unit_size
from microscope_atlas.lenses.lens import Lens, Row, Subject
from microscope_atlas.lenses.products import Way, ways
from microscope_atlas.lenses.recipe import Quality, settings
from microscope_atlas.models.dictionaries.behind import Behind
from microscope_atlas.models.networks.expanded import composable, compose
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.linearised import differentiate
from microscope_atlas.models.organism import Organism
from microscope_atlas.structure import Count, between


@dataclass(frozen=True)
class Recipe(recipes.Recipe):
    """Settings of connections."""

    top: Annotated[int, between(1, 127)] = 10  # strongest units of each neighbouring layer and sign
    crop: Annotated[int, between(1, 31)] = 5  # positions on a side of a stored kernel
    batch: Count = 128  # units of the later layer whose kernels are made at once


@dataclass(frozen=True)
class ExpandedWeights:
    """What is kept of the kernels between all units of two layers; each field begins (later units, earlier units)."""

    kernels: Tensor  # their middle: (..., height, width), at most Recipe.crop each
    sums: Tensor  # over all positions
    parts: Mapping[int, Tensor]  # sign -> L2 norm of the kernel's values of that sign, over all positions
    extent: int  # positions on the longer side of the kernels before they were cropped
    linearisation: str  # how they were found


class Connections(Lens[Recipe]):
    """The lens."""

    table = schema.CONNECTIONS
    divisible = False

    def recipe(self, quality: Quality) -> Recipe:
        return Recipe()

    def passes(self, layer: Layer, recipe: Recipe) -> float:
        """A kernel for each unit: few positions, between neighbouring layers, so about a thirtieth of a picture."""
        return layer.units / 32  # measured on efficientnet_lite0

    def has_rows(self, organism: Organism, layer: str) -> bool:
        """Of layers that others lead to, or that lead to others; and of those that dictionaries make."""
        return layer in organism.dictionaries or any(layer in pair for pair in organism.edges)

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        layer = subject.layer.name
        if layer in subject.organism.dictionaries:
            yield from _of_dictionary(subject, units, recipe)
            return
        for earlier, later in subject.organism.edges:
            if later == layer:
                yield _ranked(expanded_weights(subject, earlier, later, recipe), units, "input", earlier, recipe)
            elif earlier == layer:
                yield _ranked(expanded_weights(subject, earlier, later, recipe), units, "output", later, recipe)


def expanded_weights(subject: Subject, earlier: str, later: str, recipe: Recipe) -> ExpandedWeights:
    """The kernels between two layers, made anew for all units: rounding must not depend on which are asked for."""
    with _exact():
        linearisation, found = _kernels(subject, earlier, later, recipe)
        return _summed([_kept(kernels, recipe.crop) for kernels in found], linearisation)


@contextmanager
def _exact() -> Iterator[None]:
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def _kernels(
    subject: Subject, earlier: str, later: str, recipe: Recipe, through_attention: bool = True
) -> tuple[str, Iterator[Tensor]]:
    """How the kernels between two of a network's own layers are found, and these, some of the later's at a time."""
    shown = [name for name, layer in subject.organism.layers.items() if not layer.named_only]
    network, between = subject.graph, (earlier, later, shown)
    network = network.network if isinstance(network, Behind) else network  # whose own layers these are
    size = subject.organism.input_size
    if isinstance(network, Graph) and composable(network, *between):
        return "closed form", compose(network, *between, size, recipe.batch)
    px = unit_size(subject.organism.layer(later), size, None)
    return "gradient", differentiate(network, *between, px, recipe.batch, through_attention)


def _of_dictionary(subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
    """Rows of units that a dictionary makes: see products."""
    assert isinstance(subject.graph, Behind)
    left_out: dict[str, str] = {}
    made: list[Row] = []
    with _exact():
        for way in ways(
            subject.organism,
            subject.layer.name,
            subject.graph,
            lambda earlier, later: _kernels(subject, earlier, later, recipe, through_attention=False),
        ):
            if not isinstance(way, Way):
                left_out |= [way]
                continue
            axis = 0 if way.towards == "input" else 1  # of the unit itself, among (later units, earlier units, ...)
            for unit in units:
                kept = _kept(way.kernel(unit).unsqueeze(axis), recipe.crop)
                own = _ranked(_summed([kept], way.linearisation), [0], way.towards, way.other, recipe)
                made += ({**row, "unit": unit} for row in own)
    yield [{**row, "recipe": {**row["recipe"], "left_out": left_out}} for row in made]


def _summed(kept: Sequence[tuple[Tensor, ...]], linearisation: str) -> ExpandedWeights:
    """Of kernels that were kept some at a time."""
    kernels, sums, positive, negative, extents = (torch.cat(each).cpu() for each in zip(*kept, strict=True))
    return ExpandedWeights(kernels, sums, {1: positive, -1: negative}, int(extents.max()), linearisation)


def _kept(kernels: Tensor, crop: int) -> tuple[Tensor, ...]:
    """Of kernels (later units, earlier units, height, width): the fields of ExpandedWeights."""
    top, left = (max(0, length // 2 - crop // 2) for length in kernels.shape[2:])
    middle = kernels[:, :, top : top + crop, left : left + crop].clone()
    parts = [part.norm(dim=(2, 3)) for part in (kernels.clamp(min=0), kernels.clamp(max=0))]
    return middle, kernels.sum((2, 3)), *parts, torch.tensor([max(kernels.shape[2:])])


def cropped(kernels: Tensor, side: int) -> Tensor:
    """The middle (..., side, side) of kernels (..., height, width), with zeros around smaller ones.

    Of an even length the middle is the second of the two positions there, as a map's centre neuron is.
    """
    height, width = kernels.shape[-2:]
    top, left = (side // 2 - length // 2 for length in (height, width))
    return F.pad(kernels, (left, side - width - left, top, side - height - top))


def _ranked(
    weights: ExpandedWeights, units: Sequence[int], towards: str, other_layer: str, recipe: Recipe
) -> list[Row]:
    """Rows of the strongest connections of these units, each sign on its own; of equals the lower unit is first.

    What has no value of a sign does not connect with it and gets no row, but the first, so that none is missing.
    """
    rows: list[Row] = []
    made = {**settings(recipe), "linearisation": weights.linearisation}
    each = torch.tensor(list(units))[:, None]
    for sign, part in weights.parts.items():
        seen = part if towards == "input" else part.T
        others = seen[each[:, 0]].sort(dim=1, descending=True, stable=True).indices[:, : recipe.top]
        at = (each, others) if towards == "input" else (others, each)
        columns = {
            "other_unit": others,
            "strength": part[at],
            "weight": weights.sums[at],
            "norm": torch.stack([part[at] for part in weights.parts.values()]).norm(dim=0),
            "kernel": cropped(weights.kernels[at], recipe.crop),
        }
        for unit, *values in zip(units, *(column.tolist() for column in columns.values()), strict=True):
            for rank, found in enumerate(zip(*values, strict=True)):
                row = dict(zip(columns, found, strict=True))
                if row["strength"] == 0 and rank > 0:
                    break
                rows.append(
                    {
                        "unit": unit,
                        "towards": towards,
                        "other_layer": other_layer,
                        "sign": sign,
                        "rank": rank,
                        **row,
                        "extent": weights.extent,
                        "flag": "dead" if row["strength"] == 0 else None if row["strength"] < torch.inf else "nan",
                        "recipe": made,
                    }
                )
    return rows
