"""From what is asked for to shards: models x lenses x layers x units. Pure: looks at nothing but its arguments."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from generate import schema
from generate.errors import UnknownName
from generate.keys import LAYER, MODEL
from generate.lenses.lens import settings
from generate.lenses.registry import lens
from generate.models.organism import Organism
from generate.models.weights import WeightsKind

MOST_UNITS = 1 << 20  # of a layer; the widest of well-known networks name 21,843 classes

# What `render` makes without flags: textures to patterns, on weights that come with a package
DEFAULT_UNITS = {
    "efficientnet_lite0": {
        "blocks_2": range(16),
        "blocks_4": range(24),
        "blocks_6": range(24),
        "blocks_10": range(16),
    }
}


def units_per_shard(device: str) -> int:
    """Units of a shard, at most, by the kind of device: on a CPU it should not take long, others want many at once."""
    return 16 if device == "cpu" else 64


@dataclass(frozen=True, order=True)
class Units:
    """A run of units of one layer, seen through one lens. A lens that looks at layers sees all of a layer's units."""

    lens: str
    model: str
    layer: str
    start: int
    stop: int  # not included

    def __post_init__(self) -> None:
        """Refuse, with a ValueError, names that could lead a path out of the atlas, and runs of no units."""
        if not (LAYER.fullmatch(self.lens) and MODEL.fullmatch(self.model) and LAYER.fullmatch(self.layer)):
            raise ValueError(f"{self.lens!r} of {self.model!r}/{self.layer!r} are no names")
        if not 0 <= self.start < self.stop <= MOST_UNITS:
            raise ValueError(f"units {self.start}:{self.stop} are none; expected some of 0:{MOST_UNITS}")

    @property
    def path(self) -> str:
        """Of the shard that holds just these units, within the atlas."""
        return schema.shard_path(self.lens, self.model, self.layer, self.start, self.stop)

    def __str__(self) -> str:
        return f"{self.lens} of {self.model}/{self.layer} {self.start}:{self.stop}"


@dataclass(frozen=True, order=True)
class Input:
    """A shard that another is made from."""

    units: Units
    id: str  # of its content


@dataclass(frozen=True)
class Job:
    """One shard to make."""

    units: Units
    recipe: Any  # the lens' settings, a frozen dataclass
    weights: WeightsKind
    weights_sha256: str
    inputs: tuple[Input, ...] = ()  # of a lens that reads what others have made
    batch: int | None = None  # most at once, where memory is too short for the recipe's; rows say so, the id does not

    @property
    def id(self) -> str:
        """Of the shard's content."""
        return content_id(self.units, settings(self.recipe), self.weights_sha256, self.inputs)


def content_id(units: Units, recipe: Mapping[str, Any], weights_sha256: str, inputs: Iterable[Input] = ()) -> str:
    """Of what a shard shows and everything it depends on: the same id means the same rows."""
    content = {
        "schema": schema.SCHEMA_VERSION,
        "units": asdict(units),
        "recipe": recipe,
        "weights": weights_sha256,
        "inputs": sorted(made.id for made in inputs),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def inputs(units: Units, shards: Iterable[Input]) -> tuple[Input, ...]:
    """Those of `shards` that the rows about `units` are made from, sorted: see Lens.reads."""
    reads = lens(units.lens).reads
    if not reads:
        return ()

    def wanted(other: Units) -> bool:
        if reads.get(other.lens) == "layer":
            same_layer = (other.model, other.layer) == (units.model, units.layer)
            return same_layer and other.start < units.stop and units.start < other.stop
        return other.lens in reads

    return tuple(sorted(shard for shard in shards if wanted(shard.units)))


def select(organism: Organism, layers: Sequence[str], units: range | None) -> dict[str, range]:
    """The units of each layer that are meant: all layers where none are named, all units where no range is given.

    Raises UnknownName for a layer that the organism lacks, or units that a layer lacks.
    """
    chosen = {}
    for name in layers or organism.layers:
        layer = organism.layer(name)
        wanted = range(layer.units) if units is None else units
        if wanted.stop > layer.units:
            raise UnknownName(
                f"units {wanted.start}:{wanted.stop} are not all in {organism.name}/{name}; it has 0:{layer.units}"
            )
        chosen[name] = wanted
    return chosen


def missing(wanted: Iterable[Units], present: Iterable[Units], most: int | None = None) -> list[Units]:
    """What of `wanted` is not yet `present`, in runs of at most `most` units; None: uncut."""
    have = _by_layer(present)
    runs = []
    for run in wanted:
        layer = (run.lens, run.model, run.layer)
        there = have.get(layer, [])
        for start, stop in _gaps(there, run.start, run.stop):
            each = most or stop - start
            runs += [Units(*layer, at, min(at + each, stop)) for at in range(start, stop, each)]
        have[layer] = _joined([*there, (run.start, run.stop)])  # so that what is wanted twice is made once
    return runs


def union(runs: Iterable[Units]) -> list[Units]:
    """The same units in as few runs as there can be, sorted."""
    return [Units(*layer, start, stop) for layer, spans in sorted(_by_layer(runs).items()) for start, stop in spans]


def differences(asked: Mapping[str, Any], there: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What two settings disagree on: `ascent.steps is 512 in the atlas, 128 asked`."""
    found = []
    for name in sorted({*asked, *there}):
        a, b = asked.get(name), there.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            found.append(f"{prefix}{name} is {b!r} in the atlas, {a!r} asked")
    return found


def _by_layer(runs: Iterable[Units]) -> dict[tuple[str, str, str], list[tuple[int, int]]]:
    """The units of each layer, seen through each lens: [start, stop), sorted and apart."""
    spans: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    for run in runs:
        spans.setdefault((run.lens, run.model, run.layer), []).append((run.start, run.stop))
    return {layer: _joined(some) for layer, some in spans.items()}


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same numbers, sorted, as few spans as there can be."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def _gaps(spans: Iterable[tuple[int, int]], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """What of [start, stop) is in none of the spans, which are sorted and apart."""
    for first, last in spans:
        if first >= stop:
            break
        if start < first:
            yield start, first
        start = max(start, last)
    if start < stop:
        yield start, stop
