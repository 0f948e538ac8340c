"""What jobs take: from measured rates, and where nobody has measured, from the arithmetic that they ask for.

Rates come from a JSON file, which `python -m benchmarks.atlas_cost` writes, or whoever measures otherwise:

    {"about": {"workers": 2, "quality": "draft", "device": "cpu"},
     "rates": [{"lens": "feature_visualization", "model": "inceptionv1", "layer": "mixed4c", "seconds_per_unit": 1.5}]}

`seconds_per_unit` is that of so many workers together; of a lens that looks at layers, the layer's seconds over the
number of its units. More keys may be there.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from microscope_atlas.atlas.units import UnitRange, missing
from microscope_atlas.errors import UnknownName
from microscope_atlas.lenses.registry import lens
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.networks.flops import flops
from microscope_atlas.models.networks.network import Network

SHARD_SECONDS = 180.0  # that a job may take: so much is lost with a worker, and so long may be the tail


J = TypeVar("J")

Lenses = Mapping[str, Mapping[str, Any]]  # settings by lens, as a manifest has them


@dataclass(frozen=True)
class Costs:
    """Seconds of one worker."""

    rates: Mapping[tuple[str, str, str], float] = field(default_factory=dict)  # a unit's, by lens, model and layer
    quality: str | None = None  # that the rates were measured at
    device: str = "cpu"  # that they were measured on: `cpu`, or an accelerator's own name
    _ratios: dict[str, float] = field(default_factory=dict, compare=False, repr=False)

    def seconds(self, units: UnitRange, lenses: Lenses) -> float:
        """What a job takes: in proportion to its arithmetic where no rate is known.

        Without any rate it is the arithmetic itself, by which jobs can be compared, though not timed.
        """
        count = units.stop - units.start
        if self.is_measured(units):
            return count * self.rates[units.lens, units.model, units.layer]
        if units.lens not in self._ratios:
            self._ratios[units.lens] = self._ratio(units.lens, lenses)
        return count * self._ratios[units.lens] * arithmetic(units.lens, units.model, units.layer, lenses)

    def is_measured(self, units: UnitRange) -> bool:
        return (units.lens, units.model, units.layer) in self.rates

    def most(self, units: UnitRange, lenses: Lenses, limit: int) -> int:
        """UnitRange that one job may have: as many as SHARD_SECONDS allow, one at least and `limit` at most."""
        each = self.seconds(units, lenses) / (units.stop - units.start) if self.rates else 0.0
        return max(1, min(limit, int(SHARD_SECONDS / each))) if each else limit

    def _ratio(self, name: str, lenses: Lenses) -> float:
        """Seconds for an operation of a lens: the median of what is known of it, else of all that look at a network.

        0 for a digest of which no rate is known, while others are.
        """
        alike = {name} if lens(name).reads or any(of == name for of, _, _ in self.rates) else _looking(lenses)
        known = [
            seconds / work
            for (of, model, layer), seconds in self.rates.items()
            if of in alike and (work := arithmetic(of, model, layer, lenses))
        ]
        return median(known) if known else float(not self.rates)


def _looking(lenses: Lenses) -> set[str]:
    return {name for name in lenses if not lens(name).reads}


def arithmetic(name: str, model: str, layer: str, lenses: Lenses) -> float:
    """Operations for a unit of a layer: those of a picture, times the rows and steps that the settings ask for.

    Of a lens that looks at layers, or at all units in one pass, a unit's share. Digests look at no network: all alike.
    """
    if lens(name).reads:
        return 1.0
    settings = lenses[name]
    work = _flops(model, layer) * (lens(name).count(settings) or 1) * settings.get("ascent", {}).get("steps", 1)
    shared = lens(name).level == "layer" or not lens(name).divisible
    return float(work) / (organism(model).layer(layer).units if shared else 1)


def load(path: Path) -> Costs:
    """The rates in a file; UnknownName where it is none of rates."""
    try:
        plain = json.loads(path.read_text())
        about, workers = plain["about"], plain["about"]["workers"]
        rates = {
            (rate["lens"], rate["model"], rate["layer"]): workers * float(rate["seconds_per_unit"])
            for rate in plain["rates"]
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnknownName(f"{path} holds no rates ({error!r}); python -m benchmarks.atlas_cost writes some") from error
    return Costs(rates, about.get("quality"), about.get("device", "cpu"))


def longest_first(jobs: Iterable[J], units: Callable[[J], UnitRange], lenses: Lenses, costs: Costs) -> list[J]:
    """Jobs in the order to begin them in: whatever is short fills the end.

    Those within a power of two stay as they come, one network after the other: a worker keeps one loaded.
    """
    return sorted(jobs, key=lambda job: -math.frexp(costs.seconds(units(job), lenses))[1])


def cut(
    wanted: Iterable[UnitRange], present: Sequence[UnitRange], lenses: Lenses, costs: Costs, limit: int
) -> list[UnitRange]:
    """What of `wanted` is not `present`, as jobs that take SHARD_SECONDS at most where a unit takes no more."""
    return [
        part
        for run in missing(wanted, present)
        for part in missing([run], [], costs.most(run, lenses, limit) if lens(run.lens).divisible else None)
    ]


@cache
def _flops(model: str, layer: str) -> int:
    known = organism(model)
    return flops(_blank(model), layer, known.input_size)


@cache
def _blank(model: str) -> Network:
    return organism(model).blank()
