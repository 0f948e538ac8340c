"""Coverage: of the units planned, how many are there."""

from collections import Counter
from dataclasses import dataclass

from generate.store import Manifest


@dataclass(frozen=True)
class Coverage:
    """Of one layer, seen through one lens."""

    model: str
    layer: str
    lens: str
    planned: int  # units
    present: int


def coverage(manifest: Manifest) -> list[Coverage]:
    """Of every layer and lens in the manifest, sorted."""
    planned: Counter[tuple[str, str, str]] = Counter()
    present: Counter[tuple[str, str, str]] = Counter()
    for run in manifest.planned:
        planned[run.model, run.layer, run.lens] += run.stop - run.start
    for shard in manifest.shards.values():
        run = shard.units
        present[run.model, run.layer, run.lens] += run.stop - run.start
    return [Coverage(*where, planned[where], present[where]) for where in sorted(planned | present)]
