"""What jobs take: from measured rates, and where nobody has measured, from the arithmetic that they ask for.

Rates are read from a file, see rates, or measured in short probes, see probe.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal, NamedTuple, TypeVar

from microscope_atlas.atlas.units import UnitRange, missing
from microscope_atlas.lenses.lens import Lens
from microscope_atlas.lenses.recipe import Quality, Recipe
from microscope_atlas.lenses.registry import lens
from microscope_atlas.models.catalog import organism

SHARD_SECONDS = 180.0  # that a job may take: so much is lost with a worker, and so long may be the tail


BESIDE = 0.08  # of what a pass over a layer takes alone, what it takes beside a deeper one: 0.03 measured on
# EfficientNet-Lite0, 0.08 on the BVLC GoogLeNet, with 64 pictures

J = TypeVar("J")


class Setup(NamedTuple):
    """A lens with its settings."""

    maker: str  # what the registry knows it by
    recipe: Recipe

    @property
    def lens(self) -> Lens[Any]:
        return lens(self.maker)


Lenses = Mapping[str, Setup]  # by name


# What seconds rest on, and by which factor they may be wrong, either way; docs/clusters.md lists them
Basis = Literal["a rate of the file", "a probe of its layer", "arithmetic, and other layers", "a constant", "nothing"]
WRONG_BY: dict[Basis, float] = {
    "a rate of the file": 1.2,
    "a probe of its layer": 1.4,
    "arithmetic, and other layers": 3.0,
    "a constant": 3.0,
    "nothing": 1.0,
}


class Rate(NamedTuple):
    """Seconds of one worker for a unit."""

    seconds: float
    basis: Basis


@dataclass(frozen=True)
class Costs:
    """Seconds of one worker."""

    rates: Mapping[tuple[str, str, str], Rate] = field(default_factory=dict)  # a unit's, by lens, model and layer
    quality: Quality | None = None  # that the rates were measured at
    device: str = "cpu"  # that they were measured on: `cpu`, or an accelerator's own name
    _found: dict[tuple[str, ...], Rate] = field(default_factory=dict, compare=False, repr=False)

    def seconds(self, units: UnitRange, lenses: Lenses) -> float:
        """What a job takes: in proportion to its arithmetic where no rate is known.

        Without any rate it is the arithmetic itself, by which jobs can be compared, though not timed.
        """
        one, count = lenses[units.lens].lens, units.stop - units.start
        if not one.reads and not one.divisible:  # a pass gives all units, however few of them are kept
            count = organism(units.model).layer(units.layer).units
        return count * self._rate(units, lenses).seconds

    def seconds_together(self, several: Sequence[UnitRange], lenses: Lenses) -> float:
        """What jobs take that one worker does after another: see `together`.

        A pass takes what its longest layer takes alone, and of each other one what is beside the network.
        """
        first, alone = lenses[several[0].lens], defaultdict[str, float](float)
        if not first.lens.shares_pass:
            return sum(self.seconds(units, lenses) for units in several)
        for units in several:
            alone[units.layer] = self.seconds(units, lenses)  # of two parts of a layer there is one pass
        known, total = organism(several[0].model), 0.0
        for part in first.lens.passes_over([known.layer(name) for name in alone], first.recipe):
            each = [alone[layer.name] for layer in part]
            total += max(each) + BESIDE * (sum(each) - max(each))
        return total

    def basis(self, units: UnitRange, lenses: Lenses) -> Basis:
        """What the seconds of a job rest on."""
        return self._rate(units, lenses).basis

    def most(self, units: UnitRange, lenses: Lenses, limit: int) -> int:
        """Units that one job may have: as many as SHARD_SECONDS allow, one at least and `limit` at most."""
        each = self._rate(units, lenses).seconds if self.rates else 0.0
        return max(1, int(min(limit, SHARD_SECONDS / each))) if each else limit

    def _rate(self, units: UnitRange, lenses: Lenses) -> Rate:
        place = units.lens, units.model, units.layer
        if place in self.rates:
            return self._scaled(place, lenses)
        asked = (*place, repr(lenses[units.lens]))
        if asked not in self._found:
            self._found[asked] = self._estimated(place, lenses)
        return self._found[asked]

    def _scaled(self, place: tuple[str, str, str], lenses: Lenses) -> Rate:
        """A measured rate, for settings that are others than those of the quality it was measured at."""
        rate, setup = self.rates[place], lenses.get(place[0])
        if self.quality is None or setup is None or setup.lens.reads:
            return rate
        standard = Setup(setup.maker, setup.lens.recipe(self.quality))
        if standard.recipe == setup.recipe:
            return rate
        share = arithmetic(*place, lenses) / arithmetic(*place, {place[0]: standard})
        return rate if share == 1 else Rate(rate.seconds * share, "arithmetic, and other layers")

    def _estimated(self, place: tuple[str, str, str], lenses: Lenses) -> Rate:
        """Of a layer without a rate: from those of the lens, of its network if there are any; else from other lenses.

        A derived lens looks at no network: its units are all alike, or take what it says itself.
        """
        name, model, layer = place
        one = lenses[name].lens
        same = [known for known in self.rates if known[0] == name]
        if one.reads:
            if same:
                return Rate(
                    median(self._scaled(known, lenses).seconds for known in same), "arithmetic, and other layers"
                )
            if not self.rates:
                return Rate(1.0, "nothing")
            return Rate(0.0, "nothing") if one.unit_seconds is None else Rate(one.unit_seconds, "a constant")
        work = whole(name, model, layer, lenses)
        if not self.rates:
            return Rate(work.flops / work.sharing, "nothing")
        if same := [known for known in same if known[1] == model] or same:
            points = []
            for known in same:
                other = whole(*known, lenses)
                points.append((other.flops, self._scaled(known, lenses).seconds * other.sharing))
            return Rate(interpolated(points, work.flops) / work.sharing, "arithmetic, and other layers")
        looking = [known for known in self.rates if known[0] in lenses and not lenses[known[0]].lens.reads]
        ratios = [self._scaled(known, lenses).seconds / arithmetic(*known, lenses) for known in looking]
        if not ratios:
            return Rate(0.0, "nothing")
        return Rate(median(ratios) * work.flops / work.sharing, "arithmetic, and other layers")


UNMEASURED = Costs()


class Work(NamedTuple):
    """What is done at once: for one unit, or for all of a layer."""

    flops: float
    sharing: int  # units that it is done for at once


def whole(name: str, model: str, layer: str, lenses: Lenses) -> Work:
    """What a lens that looks at the network does for a unit, or where units share a pass, for the layer."""
    one, units = lenses[name].lens, organism(model).layer(layer).units
    count = units if one.level == "layer" or not one.divisible else 1
    return Work(count * arithmetic(name, model, layer, lenses), count)


def arithmetic(name: str, model: str, layer: str, lenses: Lenses) -> float:
    """Floating-point operations for a unit of a layer, one at least: see Lens.flops.

    Derived lenses look at no network: all alike.
    """
    one, known = lenses[name].lens, organism(model)
    return 1.0 if one.reads else max(1.0, one.flops(known, known.layer(layer), lenses[name].recipe))


def interpolated(points: Sequence[tuple[float, float]], at: float) -> float:
    """Between two points on logarithmic scales, outside them in proportion to the nearest; all above 0."""
    below = max((point for point in points if point[0] <= at), default=None)
    above = min((point for point in points if point[0] >= at), default=None)
    if below is None or above is None:
        x, y = below or above or (at, 0.0)
        return y * at / x
    (low, a), (high, b) = below, above
    share = math.log(at / low) / math.log(high / low) if high > low else 0.5
    return math.exp((1 - share) * math.log(a) + share * math.log(b))


def together(jobs: Iterable[J], units: Callable[[J], UnitRange], lenses: Lenses) -> list[list[J]]:
    """Jobs as workers take them: those of a network that share passes as one, each other one alone."""
    found: dict[Any, list[J]] = {}
    for at, job in enumerate(jobs):
        asked = units(job)
        shared = lenses[asked.lens].lens.shares_pass
        found.setdefault((asked.lens, asked.model) if shared else at, []).append(job)
    return list(found.values())


def longest_first(jobs: Iterable[J], units: Callable[[J], UnitRange], lenses: Lenses, costs: Costs) -> list[J]:
    """Jobs in the order to begin them in: whatever is short fills the end. Those that share passes are neighbours.

    Those within a power of two stay as they come, one network after the other: a worker keeps one loaded.
    """
    grouped = together(jobs, units, lenses)
    grouped.sort(key=lambda several: -math.frexp(costs.seconds_together([units(job) for job in several], lenses))[1])
    return [job for several in grouped for job in several]


def cut(
    wanted: Iterable[UnitRange], present: Sequence[UnitRange], lenses: Lenses, costs: Costs, limit: int
) -> list[UnitRange]:
    """What of `wanted` is not `present`, as jobs that take SHARD_SECONDS at most where a unit takes no more."""
    return [
        part
        for run in missing(wanted, present)
        for part in missing([run], [], costs.most(run, lenses, limit) if lenses[run.lens].lens.divisible else None)
    ]
