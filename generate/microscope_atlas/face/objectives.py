"""Objectives as the field writes them: `channel("mixed4c", 447) + 2.0 * channel("mixed4b", 373)`.

After Lucid's optvis/objectives.py, https://github.com/tensorflow/lucid: an objective says what a picture is made for,
and objectives are added, scaled and negated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.errors import InvalidSetting, UnknownName, unknown
from microscope_atlas.face.given import number, whole
from microscope_atlas.models.networks.network import Network
from microscope_atlas.rendering.objectives import at_centre

Kind = Literal["channel", "neuron", "deepdream", "direction"]


@dataclass(frozen=True)
class Term:
    """One thing that a picture may be made for."""

    kind: Kind
    layer: str
    unit: int | None = None
    vector: tuple[float, ...] = ()  # of `direction`: a number for each unit of the layer
    place: tuple[int, int] | None = None  # of `neuron`: row and column of the map; None: the centre

    def __str__(self) -> str:
        what = self.unit if self.unit is not None else f"{len(self.vector)} numbers" if self.vector else ""
        where = f", {self.place}" if self.place else ""
        return f"{self.kind}({self.layer}{f', {what}' if what != '' else ''}{where})"

    def score(self, acts: Tensor) -> Tensor:
        """Activations of one picture, (units, height, width) or (units,) -> its score, ()."""
        match self.kind:
            case "channel":
                return acts[self.unit].mean()
            case "neuron":
                if self.place is not None:
                    return self._at(acts, *self.place)
                return acts[self.unit] if acts.dim() == 1 else at_centre(acts[self.unit])
            case "deepdream":
                return acts.square().mean()
            case "direction":
                vector = torch.tensor(self.vector, device=acts.device, dtype=acts.dtype)
                along: Tensor = torch.tensordot(vector, acts, 1)
                return along.mean()

    def _at(self, acts: Tensor, row: int, column: int) -> Tensor:
        shape = tuple(acts.shape[1:])
        if len(shape) != 2 or row >= shape[0] or column >= shape[1]:
            there = f"is a map of {shape[0]} rows and {shape[1]} columns here" if shape else "has no places"
            raise InvalidSetting(f"place {self.place} of {self.layer}: the layer {there}; rows and columns begin at 0")
        return acts[self.unit, row, column]


@dataclass(frozen=True)
class Objective:
    """What a picture is made for: a weighted sum of terms. Higher is better.

    Objectives are added, subtracted, negated, and multiplied or divided by numbers. What is sought is taken behind the
    layer's rectifier, what is avoided before it, where it does not hide how far below zero a unit is.
    """

    terms: tuple[tuple[float, Term], ...]

    def __str__(self) -> str:
        return " + ".join(str(term) if weight == 1 else f"{weight:g} * {term}" for weight, term in self.terms)

    def __add__(self, other: "Objective | Literal[0]") -> "Objective":
        if other == 0:  # what `sum` begins with
            return self
        return Objective((*self.terms, *other.terms)) if isinstance(other, Objective) else NotImplemented

    __radd__ = __add__

    def __mul__(self, by: float) -> "Objective":
        if isinstance(by, Objective):
            return NotImplemented
        factor = number("factor of an objective", by)
        return Objective(tuple((weight * factor, term) for weight, term in self.terms))

    __rmul__ = __mul__

    def __truediv__(self, by: float) -> "Objective":
        divisor = number("divisor of an objective", by)
        if not divisor:
            raise InvalidSetting("divisor of an objective is 0")
        return self * (1 / divisor)

    def __neg__(self) -> "Objective":
        return self * -1

    def __sub__(self, other: "Objective") -> "Objective":
        return self + -other

    def nodes(self, network: Network) -> list[str]:
        """The node of the network that each term is taken at."""
        return [network.objective_node(term.layer, 1 if weight >= 0 else -1) for weight, term in self.terms]

    def score(self, acts: Sequence[Tensor]) -> Tensor:
        """Of one picture's activations at each of `nodes`: ()."""
        parts = [weight * term.score(own) for (weight, term), own in zip(self.terms, acts, strict=True)]
        return torch.stack(parts).sum()

    def refuse_unknown(self, model: str, layers: Mapping[str, Layer]) -> None:
        """UnknownName, with the nearest, for a layer or unit that a model does not have, or numbers that do not fit."""
        for _, term in self.terms:
            if term.layer not in layers:
                raise unknown("layer", term.layer, model, layers)
            units = layers[term.layer].units
            if term.unit is not None and not 0 <= term.unit < units:
                raise UnknownName(f"unit {term.unit} is not in {model}/{term.layer}; it has 0 to {units - 1}")
            if term.kind == "direction" and len(term.vector) != units:
                raise UnknownName(f"a direction of {len(term.vector)} numbers, {model}/{term.layer} has {units} units")


def channel(layer: str, unit: int) -> Objective:
    """The mean of a unit's activations over all positions; of a dense layer the neuron itself.

    Olah et al. 2017, https://distill.pub/2017/feature-visualization.
    """
    return Objective(((1.0, Term("channel", layer, whole("unit", unit))),))


def neuron(layer: str, unit: int, place: tuple[int, int] | None = None) -> Objective:
    """A unit's activation at the centre position; of an even map the lower right of the middle four, as in Lucid.

    Or at a `place`, a row and a column of the layer's map, from 0; how large a map is depends on the picture's size.
    """
    if place is not None:
        try:
            row, column = place
        except (TypeError, ValueError) as error:
            raise InvalidSetting(f"place {place!r}; expected a row and a column of the layer's map") from error
        place = whole("row of a place", row), whole("column of a place", column)
    return Objective(((1.0, Term("neuron", layer, whole("unit", unit), place=place)),))


def deepdream(layer: str) -> Objective:
    """The mean square of all activations of a layer: whatever it sees, more of it.

    Mordvintsev et al. 2015, https://research.google/blog/inceptionism-going-deeper-into-neural-networks.
    """
    return Objective(((1.0, Term("deepdream", layer)),))


def direction(layer: str, vector: Sequence[float]) -> Objective:
    """The mean, over all positions, of a layer's activations along a direction: a number for each of its units.

    Probes, concept vectors, class directions: Olah et al. 2018, https://distill.pub/2018/building-blocks.
    """
    return Objective(
        ((1.0, Term("direction", layer, vector=tuple(number("a number of a direction", value) for value in vector))),)
    )


def scored(
    network: Network, objectives: Sequence[Objective]
) -> tuple[Callable[[Tensor], list[Tensor]], Callable[..., Tensor]]:
    """What the loop runs for pictures that each have an objective: activations, and the scores that it reads there.

    The first maps pictures (batch, channels, height, width) to their scores, () each; picture i has objective
    `i % len(objectives)`. The second stacks them.
    """
    nodes = [objective.nodes(network) for objective in objectives]
    names = list(dict.fromkeys(name for some in nodes for name in some))

    def activations(shown: Tensor) -> list[Tensor]:
        acts = dict(zip(names, network(shown, names), strict=True))
        found = []
        for i in range(len(shown)):
            own = i % len(objectives)
            found.append(objectives[own].score([acts[name][i].float() for name in nodes[own]]))
        return found

    return activations, lambda scores: torch.stack(list(scores))
