"""Coverage: of the units planned, how many are there, and how long the others will take."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from microscope_atlas.atlas.manifest import Manifest

LAST = 20  # files that a rate is measured on
BREAK = 10  # times the usual time between two files: nothing was running then


@dataclass(frozen=True)
class Coverage:
    """Of one layer, seen through one lens."""

    model: str
    layer: str
    lens: str
    planned: int  # units
    present: int
    seconds_left: float | None = None  # at the last rate of its lens; None: all is there, or no rate is known


def coverage(manifest: Manifest, root: Path | None = None) -> list[Coverage]:
    """Of every layer and lens in the manifest, sorted; with the time left where the atlas is the folder `root`."""
    planned: Counter[tuple[str, str, str]] = Counter()
    present: Counter[tuple[str, str, str]] = Counter()
    for run in manifest.planned:
        planned[run.model, run.layer, run.lens] += run.stop - run.start
    for shard in manifest.shards.values():
        run = shard.units
        present[run.model, run.layer, run.lens] += run.stop - run.start
    rates = _rates(manifest, root) if root else {}
    found = []
    for where in sorted(planned | present):
        missing, rate = planned[where] - present[where], rates.get(where[2])
        left = missing / rate if missing > 0 and rate else None
        found.append(Coverage(*where, planned[where], present[where], left))
    return found


def _rates(manifest: Manifest, root: Path) -> dict[str, float]:
    """Units a second of each lens, by the times at which its last files were finished."""
    files: dict[str, list[tuple[float, int]]] = {}
    for path, shard in manifest.shards.items():
        if (root / path).is_file():
            units = shard.units.stop - shard.units.start
            files.setdefault(shard.units.lens, []).append(((root / path).stat().st_mtime, units))
    return {lens: rate for lens, finished in files.items() if (rate := _rate(sorted(finished)[-LAST:]))}


def _rate(finished: list[tuple[float, int]]) -> float | None:
    """Units a second from (time, units) of files in the order that they were finished in, without breaks."""
    gaps = [(later - earlier, units) for (earlier, _), (later, units) in pairwise(finished)]
    usual = median(seconds for seconds, _ in gaps) if gaps else 0.0
    running = [(seconds, units) for seconds, units in gaps if seconds <= BREAK * usual]
    total = sum(seconds for seconds, _ in running)
    return sum(units for _, units in running) / total if total else None
