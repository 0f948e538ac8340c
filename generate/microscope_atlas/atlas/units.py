"""Ranges of units: what is missing of them, and the content ids of the shards that hold them. Pure."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.tables import Scope
from microscope_atlas.keys import LAYER, MODEL

MOST_UNITS = 1 << 20  # of a layer; the widest of well-known networks name 21,843 classes


@dataclass(frozen=True, order=True)
class UnitRange:
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

    units: UnitRange
    id: str  # of its content


def renderers(model: str) -> tuple[int, ...]:
    """Numbers of the code that may have made a model's rows, the one that makes them now first.

    Receptive fields of networks from outside are measured by 2, which gives many of their layers smaller canvases.
    """
    return (2, 1) if ":" in model else (1,)


def content_id(
    units: UnitRange,
    recipe: Mapping[str, Any],
    weights_sha256: str,
    inputs: Iterable[Input] = (),
    renderer: int | None = None,  # None: the one of now
    dictionary: str | None = None,  # identity of the one that makes the layer's units; see Attached
) -> str:
    """Of what a shard shows and everything it depends on: the same id means the same rows."""
    made_by = renderer or renderers(units.model)[0]
    content = {
        "schema": schema.SCHEMA_VERSION,
        "units": vars(units),
        "recipe": recipe,
        "weights": weights_sha256,
        "inputs": sorted(made.id for made in inputs),
        **({} if made_by == 1 else {"renderer": made_by}),
        **({} if dictionary is None else {"dictionary": dictionary}),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def inputs(units: UnitRange, reads: Mapping[str, Scope], shards: Iterable[Input]) -> tuple[Input, ...]:
    """Those of `shards` that the rows about `units` are made from, sorted; what their table `reads`, see Table."""
    if not reads:
        return ()

    def wanted(other: UnitRange) -> bool:
        scope = reads.get(other.lens)
        if scope == "atlas":
            return True
        overlaps = scope == "whole" or (other.start < units.stop and units.start < other.stop)
        return scope is not None and overlaps and (other.model, other.layer) == (units.model, units.layer)

    return tuple(sorted(shard for shard in shards if wanted(shard.units)))


Made = Mapping[str, Mapping[tuple[str, str], Sequence[Input]]]  # lens -> model and layer -> shards


def made_by_layer(shards: Iterable[Input]) -> Made:
    """Shards by lens, model and layer."""
    found: dict[str, dict[tuple[str, str], list[Input]]] = {}
    for shard in shards:
        of = shard.units
        found.setdefault(of.lens, {}).setdefault((of.model, of.layer), []).append(shard)
    return found


def near(units: UnitRange, reads: Mapping[str, Scope], made: Made) -> Iterator[Input]:
    """Of the shards that are there, those among which `inputs` finds all that it wants."""
    for lens, scope in reads.items():
        there = made.get(lens, {})
        for layer in there if scope == "atlas" else [(units.model, units.layer)]:
            yield from there.get(layer, ())


def missing(wanted: Iterable[UnitRange], present: Iterable[UnitRange], most: int | None = None) -> list[UnitRange]:
    """What of `wanted` is not yet `present`, in runs of at most `most` units; None: uncut."""
    have = _by_layer(present)
    runs = []
    for run in wanted:
        layer = (run.lens, run.model, run.layer)
        there = have.get(layer, [])
        for start, stop in _gaps(there, run.start, run.stop):
            each = most or stop - start
            runs += [UnitRange(*layer, at, min(at + each, stop)) for at in range(start, stop, each)]
        have[layer] = _joined([*there, (run.start, run.stop)])  # so that what is wanted twice is made once
    return runs


def union(runs: Iterable[UnitRange]) -> list[UnitRange]:
    """The same units in as few runs as there can be, sorted."""
    return [UnitRange(*layer, start, stop) for layer, spans in sorted(_by_layer(runs).items()) for start, stop in spans]


def _by_layer(runs: Iterable[UnitRange]) -> dict[tuple[str, str, str], list[tuple[int, int]]]:
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
