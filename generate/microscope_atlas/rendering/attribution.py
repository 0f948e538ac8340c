"""Attribution: how much units of a layer, at their places, give to what a later part of a network says of a picture.

Gradient times activation: `a dt/da` of each unit at each place, in the target's own unit. Olah et al. 2018,
https://distill.pub/2018/building-blocks; Shrikumar et al. 2016, https://arxiv.org/abs/1605.01713.

What is exact. Where the way from the layer to the target is piecewise linear, the target is `g a + b` in the piece
that the picture lies in: the amounts add up to `g a`, all that the layer gives in that piece. What is left, b, comes
from biases on the way and from ways around the layer. Elsewhere, as through softmax, GELU or local response norm,
amounts are of first order, and what is left is curvature, too.

What is not. That a unit's amount is what the target would lose without it holds within the piece alone, and silencing
a unit leads into others. `explained` and `ablate` say how far it holds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from microscope_atlas.rendering.piecewise_linear import nonlinear

Score = Callable[[Tensor], Tensor]  # activations of a layer, (batch, units, ...) -> the target of each, (batch,)

BATCH = 4  # sets of units silenced at once: more takes memory, and on a CPU no less time


class Unreached(ValueError):
    """A target that does not depend on a layer."""


@dataclass(frozen=True)
class Ablation:
    """How far a target falls when the units are silenced that are credited with most of it."""

    units: tuple[int, ...]  # silenced together, at all their places; the most credited first
    attributed: float  # the sum of their amounts: how far the target would fall if all were linear
    drop: float  # how far it does fall; below 0 it rises
    random_drops: tuple[float, ...]
    # how far it falls when as many others are silenced, of those active at all; none where no other is

    @property
    def random_drop(self) -> float:
        """The mean over the draws; nan where there are no others."""
        return sum(self.random_drops) / len(self.random_drops) if self.random_drops else float("nan")


@dataclass(frozen=True)
class Attribution:
    """What a layer's units give to a target on one picture; see `attribute`."""

    acts: Tensor  # (units, height, width), or (units,) of a dense layer
    gradient: Tensor  # of the target with respect to them, likewise
    target: float  # what is explained
    at_zero: float  # the same with the whole layer silent
    nonlinear: tuple[str, ...]  # steps on the way that are not piecewise linear, by autograd's names; none: exact
    score: Score  # the target as a function of the layer

    @property
    def amounts(self) -> Tensor:
        """Of each unit at each place, (units, height, width) or (units,), in the target's unit: above 0 for it."""
        return self.acts * self.gradient

    @property
    def units(self) -> Tensor:
        """Of each unit, summed over places: (units,)."""
        return self.amounts.reshape(len(self.acts), -1).sum(1)

    @property
    def places(self) -> Tensor:
        """Of each place, summed over units: (height, width), or () of a dense layer."""
        return self.amounts.sum(0)

    @property
    def total(self) -> float:
        """The sum of all amounts."""
        return self.amounts.sum().item()

    @property
    def remainder(self) -> float:
        """What of the target is no unit's: where `nonlinear` is empty, that of biases and of ways around the layer."""
        return self.target - self.total

    @property
    def explained(self) -> float:
        """The sum of the amounts over how far the target falls when the whole layer is silenced.

        `total / (target - at_zero)`: 1 where all is linear; nan where the target does not fall at all.
        """
        falls = self.target - self.at_zero
        return self.total / falls if falls else float("nan")

    def strongest(self, count: int, sign: int = 1) -> list[int]:
        """Up to `count` units whose amounts have this sign, the largest first; of equals the lower one."""
        amounts = self.units * sign
        order = amounts.sort(descending=True, stable=True).indices[:count].tolist()
        return [unit for unit in order if amounts[unit] > 0]

    def drops(self, sets: Sequence[Sequence[int]], batch: int = BATCH) -> Tensor:
        """How far the target falls when the units of each set are silenced, at all their places: (sets,)."""
        found = [torch.zeros(0, device=self.acts.device)]
        for start in range(0, len(sets), batch):
            some = sets[start : start + batch]
            silenced = self.acts[None].repeat(len(some), *[1] * self.acts.dim())
            for own, units in zip(silenced, some, strict=True):
                own[list(units)] = 0
            with torch.no_grad():
                found.append(self.target - self.score(silenced))
        return torch.cat(found)

    def ablate(self, top: int = 10, draws: int = 16, seed: int = 0) -> Ablation:
        """Silence the `top` units that give most, and `draws` times as many others of those that are active.

        Of fewer than twice as many active units no more than half, and one at least: else there were not as many others
        to compare with. ValueError where either number is below 1.
        """
        if min(top, draws) < 1:
            raise ValueError(f"top is {top} and draws {draws}; expected 1 or more of each")
        active = self._active()
        units = self.strongest(min(top, max(1, len(active) // 2)))
        others = [unit for unit in active if unit not in units]
        stream = torch.Generator().manual_seed(seed)
        count = draws if others else 0
        chosen = [torch.randperm(len(others), generator=stream)[: len(units)].tolist() for _ in range(count)]
        drop, *random = self.drops([units, *([others[at] for at in some] for some in chosen)]).tolist()
        return Ablation(tuple(units), self.units[units].sum().item(), drop, tuple(random))

    def rank_correlation(self, batch: int = BATCH) -> float:
        """Spearman's, over active units, of their amounts and of how far the target falls without each alone.

        A pass behind the layer for each of these units. Equals share a rank. nan where all of either are equal, as of
        fewer than two units.
        """
        active = self._active()
        if len(active) < 2:
            return float("nan")
        falls = self.drops([[unit] for unit in active], batch)
        return torch.corrcoef(torch.stack([_ranks(self.units[active]), _ranks(falls)]))[0, 1].item()

    def _active(self) -> list[int]:
        """The units that are not zero everywhere."""
        somewhere = self.acts.reshape(len(self.acts), -1).any(1)
        found: list[int] = somewhere.nonzero().flatten().tolist()
        return found


def _ranks(values: Tensor) -> Tensor:
    """The rank of each of (values,), float64; equals share the mean of theirs."""
    below, equal = (values < values[:, None]).sum(1), (values == values[:, None]).sum(1)
    return below.double() + (equal + 1) / 2


def attribute(acts: Tensor, score: Score) -> Attribution:
    """What each unit and place of a layer gives to a target on one picture.

    Acts are the layer's activations there, (units, height, width) or (units,). Unreached where the target does not
    depend on them.
    """
    given = acts.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        target = score(given[None])
        if not target.requires_grad:
            raise Unreached("the target does not depend on these activations")
        (gradient,) = torch.autograd.grad(target.sum(), given)
    with torch.no_grad():
        at_zero = score(torch.zeros_like(acts)[None])
    return Attribution(acts.detach(), gradient, target.item(), at_zero.item(), nonlinear(target), score)
