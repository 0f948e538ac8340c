"""Objectives: what a picture is optimised for.

An objective maps a layer's activations, (batch, units, height, width) or (batch, units), to one score a picture, higher
is better. Only the loop reduces them. A new one is a frozen dataclass with a __call__ of a few lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

TINY = 1e-10  # what lengths are divided by at least


class Objective(Protocol):
    def __call__(self, acts: Tensor) -> Tensor:
        """(batch, units, ...) -> (batch,), higher is better."""


@dataclass(frozen=True)
class Channel:
    """The mean of a unit over all positions."""

    units: Tensor  # (batch,), int64: each picture's own, on the device of the activations

    def __call__(self, acts: Tensor) -> Tensor:
        own = _of_each(acts, self.units)
        return own if own.dim() == 1 else own.flatten(1).mean(1)


@dataclass(frozen=True)
class Neuron:
    """A unit at the centre, which is where Lucid has it; see at_centre."""

    units: Tensor  # as in Channel

    def __call__(self, acts: Tensor) -> Tensor:
        own = _of_each(acts, self.units)
        return own if own.dim() == 1 else at_centre(own)


@dataclass(frozen=True)
class DeepDream:
    """The mean square of a whole layer: whatever it sees, more of it.

    Mordvintsev et al. 2015, https://research.google/blog/inceptionism-going-deeper-into-neural-networks; Lucid's
    optvis/objectives.py.
    """

    def __call__(self, acts: Tensor) -> Tensor:
        return acts.square().flatten(1).mean(1)


@dataclass(frozen=True)
class Caricature:
    """How strongly a picture has what a layer sees in another: `<a, b> / <b, b> max(0.1, cos(a, b))^power`.

    a are the layer's activations of the picture, b those of the other; 1 for a copy. Power 0 lets the picture take in
    whatever else helps; a higher one holds it to the other's direction. Olah et al. 2018,
    https://distill.pub/2018/building-blocks; Lucid's recipes/caricature.py, whose dot product is not divided by <b, b>
    and whose cosine is divided by b's length alone.

    Each picture's activations may have a shape of their own.
    """

    power: float

    def __call__(self, acts: Sequence[Tensor] | Tensor, others: Sequence[Tensor] | Tensor) -> Tensor:
        return torch.stack([self._one(own, other) for own, other in zip(acts, others, strict=True)])

    def _one(self, own: Tensor, other: Tensor) -> Tensor:
        return (own * other).sum() / other.square().sum().clamp(min=TINY) * cosine(own, other).clamp(0.1) ** self.power


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Of the angle between two tensors taken as vectors; 0 where one of them is."""
    cosine: Tensor = (a * b).sum() / (a.norm() * b.norm()).clamp(min=TINY)
    return cosine


@dataclass(frozen=True)
class Along:
    """How far a layer goes along a direction, and how straight: `<a, w> max(0.1, cos(a, w))^power`, on average.

    a are the activations at a position, w the direction, of length 1: each picture has its own. Power 0 lets a picture
    take in whatever else helps. Carter et al. 2019, https://distill.pub/2019/activation-atlas, who look at the centre
    position alone, and divide by the length of a where we divide by both.
    """

    directions: Tensor  # (batch, units), none all zero
    power: float

    def __call__(self, acts: Tensor) -> Tensor:
        # one by one: a product of batches would round differently with their number
        return torch.stack([self._one(own, each) for own, each in zip(acts, self.directions, strict=True)])

    def _one(self, own: Tensor, direction: Tensor) -> Tensor:
        own = own.flatten(1) if own.dim() > 1 else own[:, None]
        far = (direction / direction.norm().clamp(min=TINY)) @ own
        straight = far / own.norm(dim=0).clamp(min=TINY)
        score: Tensor = (far * straight.clamp(0.1) ** self.power).mean()
        return score


@dataclass(frozen=True)
class Direction:
    """An objective, to be maximised (+1) or minimised (-1)."""

    objective: Objective
    direction: int

    def __call__(self, acts: Tensor) -> Tensor:
        return self.direction * self.objective(acts)


@dataclass(frozen=True)
class Diverse:
    """An objective for variants of the same unit that shall differ.

    `score_i (1 - weight * mean_(j != i) cos(G_i, G_j))`, over the other variants j of its unit; G is the layer's Gram
    matrix: what the picture shows wherever it shows it. Olah et al. 2017, "Diversity"; Lucid's optvis/objectives.py.
    The score that multiplies the mean is taken as a constant, and so are the other variants: a picture is pushed away
    from them in proportion to its own score. Lucid's fixed weight of 100, which acts on all variants at once, drowns
    units with small activations, and drives nearly grey first canvases apart until their unit is dead.

    Pictures stand in the batch unit by unit; those of one unit see each other, and no others.
    """

    objective: Objective
    variants: int
    weight: float
    first: int = 0  # of the activations that the Gram matrix is of; those before are what is sought alone

    def __call__(self, acts: Tensor) -> Tensor:
        score = self.objective(acts)
        return score - self.weight * score.detach().clamp(min=0) * similarity(acts[:, self.first :], self.variants)


def similarity(acts: Tensor, variants: int) -> Tensor:
    """Mean cosine between a picture's Gram matrix and those of the other variants of its unit: (batch,).

    The others are taken as they are: no gradient reaches them from here.
    """
    flat = acts.flatten(2) if acts.dim() > 2 else acts[:, :, None]
    grams = (flat @ flat.transpose(1, 2)).flatten(1)
    grams = grams / grams.norm(dim=1, keepdim=True).clamp(min=1e-10)
    sets = grams.unflatten(0, (-1, variants))
    others = ((sets.sum(1, keepdim=True) - sets) / (variants - 1)).detach()
    cosines: Tensor = (sets * others).sum(2).flatten()
    return cosines


def at_centre(acts: Tensor) -> Tensor:
    """Of a map its centre, in an even grid the lower right of the middle four: (..., height, width) -> (...)."""
    return acts[..., acts.shape[-2] // 2, acts.shape[-1] // 2]


def _of_each(acts: Tensor, units: Tensor) -> Tensor:
    """Of each picture its own unit: (batch, units, ...) -> (batch, ...)."""
    return acts[torch.arange(len(acts), device=acts.device), units]
