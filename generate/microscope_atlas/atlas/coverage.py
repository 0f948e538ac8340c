"""Coverage: of what was planned, how much is there, and how long the rest will take."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Literal

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import Manifest, read_manifest
from microscope_atlas.atlas.storage import Storage
from microscope_atlas.atlas.units import UnitRange

LAST = 20  # files that a rate is measured on
BREAK = 10  # times the usual time between two files: nothing was running then


@dataclass(frozen=True)
class Coverage:
    """Of one layer, seen through one lens."""

    model: str
    layer: str
    lens: str
    of: Literal["units", "layer"]  # what is counted: a lens that looks at layers makes whole ones
    planned: int
    present: int
    seconds_left: float | None = None  # at the last rate of its lens; None: all is there, or no rate is known


def coverage(storage: Storage) -> list[Coverage]:
    """Of every layer and lens of an atlas, sorted. What a run that goes on has finished since it last noted is there.

    Time left is known of a folder alone, by the times of its last files.
    """
    manifest = read_manifest(storage)
    made = {path: shard.units for path, shard in manifest.shards.items()}
    for path in storage.files():
        if path not in made and (units := units_of(path, manifest)):
            made[path] = units
    rates = _rates(storage.root, manifest, made) if isinstance(storage, Folder) else {}
    return covered(manifest, made.values(), rates)


def covered(
    manifest: Manifest, made: Iterable[UnitRange], rates: Mapping[str, float] = MappingProxyType({})
) -> list[Coverage]:
    """The same of what a manifest plans and of ranges that are made; `rates` are units a second, by lens."""
    wanted: Counter[tuple[str, str, str]] = Counter()
    present: Counter[tuple[str, str, str]] = Counter()
    for counted, runs in ((wanted, manifest.planned), (present, made)):
        for run in runs:
            whole = manifest.table(run.lens).level == "layer"
            counted[run.model, run.layer, run.lens] += 1 if whole else run.stop - run.start
    found = []
    for where in sorted(wanted | present):
        missing, rate = wanted[where] - present[where], rates.get(where[2])
        left = missing / rate if missing > 0 and rate else None
        of: Literal["units", "layer"] = "layer" if manifest.table(where[2]).level == "layer" else "units"
        found.append(Coverage(*where, of, wanted[where], present[where], left))
    return found


def units_of(path: str, manifest: Manifest) -> UnitRange | None:
    """The units that a file which the manifest does not name yet is about, by its path; None where it is no shard."""
    found = re.fullmatch(r"(\w+)/([^/]+)/(\w+)\.(\d+)-(\d+)\.parquet", path)
    models = {schema.split(name): name for name in manifest.models}
    if found is None or found[1] not in manifest.lenses or found[2] not in models:
        return None
    units = UnitRange(found[1], models[found[2]], found[3], int(found[4]), int(found[5]))
    return units if units.path == path else None


def _rates(root: Path, manifest: Manifest, made: Mapping[str, UnitRange]) -> dict[str, float]:
    """Units, or layers, a second of each lens, by the times at which its last files were finished."""
    files: dict[str, list[tuple[float, int]]] = {}
    for path, units in made.items():
        if (root / path).is_file():
            count = 1 if manifest.table(units.lens).level == "layer" else units.stop - units.start
            files.setdefault(units.lens, []).append(((root / path).stat().st_mtime, count))
    return {lens: rate for lens, finished in files.items() if (rate := _rate(sorted(finished)[-LAST:]))}


def _rate(finished: list[tuple[float, int]]) -> float | None:
    """Units a second from (time, units) of files in the order that they were finished in, without breaks."""
    gaps = [(later - earlier, units) for (earlier, _), (later, units) in pairwise(finished)]
    usual = median(seconds for seconds, _ in gaps) if gaps else 0.0
    running = [(seconds, units) for seconds, units in gaps if seconds <= BREAK * usual]
    total = sum(seconds for seconds, _ in running)
    return sum(units for _, units in running) / total if total else None
