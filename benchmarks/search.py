"""What a search costs: CPU time, memory and the time to read the names, in an atlas of every network of the catalog.

    python -m benchmarks.search

Of its 310,000 units the names alone are there, as a run would have written them: the rows of logits with their classes.
"""

import gc
import json
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import Manifest, Shard, write_manifest
from microscope_atlas.atlas.organisms import organisms
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.atlas.shards import write_shard
from microscope_atlas.atlas.units import UnitRange
from microscope_space.search import index
from microscope_space.search.find import find

AT_ONCE = 1000  # units of a shard
SEARCHES = (
    "resnet50", "inception v4", "golden retreiver", "retriever golden", "mixed4c 44", "inceptionv1 4c:447", "447", "1",
    "conv", "c", "inceptionv1", "clip block 4 5 relu 12", "nothing like it at all", "qwertyuiop asdfghjkl",
    "inceptoin mixd4c 447", "a b c d e f g h i j k l", "zbera", "x" * 10_000, "goldne retreivr labrdor",
    "qwertyuiop asdfghjkl zxcvbnm poiuytrewq lkjhgfdsa mnbvcxz yxcvb rewq fdsa uzt hgf lkj",
)  # fmt: skip
PROVENANCE = {"source": "", "file_sha256": "", "license": "", "official": False, "ignored": []}


def write(root: Path) -> int:
    """Write an atlas of every unit of the catalog's networks at `root`, its logits' rows alone; returns the units."""
    manifest, total = Manifest(), 0
    for name, known in organisms().items():
        manifest.models[name] = {"weights_sha256": "", "provenance": PROVENANCE}
        for layer in known.layers.values():
            total += layer.units
            units_of = {other: known.layers[other].units for other in known.layers}
            named = [n for n, count in units_of.items() if count == len(known.classes or ()) or known.lacks_name(n)][
                -1:
            ]
            for start in range(0, layer.units, AT_ONCE):
                units = UnitRange("units", name, layer.name, start, min(start + AT_ONCE, layer.units))
                shard = Shard(units, "", "", 0, units.stop - units.start)
                if named == [layer.name]:
                    names = known.classes or [None] * layer.units
                    rows = [_row(name, layer.name, at, names[at]) for at in range(units.start, units.stop)]
                    shard = write_shard(Folder(root), units, "", rows)
                manifest.shards[shard.path] = shard
    write_manifest(Folder(root), manifest)
    return total


def _row(model: str, layer: str, unit: int, class_name: str | None) -> dict[str, Any]:
    """A row of `units` that says the class alone."""
    row: dict[str, Any] = dict.fromkeys(column.name for column in schema.UNITS.columns)
    lists: dict[str, Any] = {name: [] for name in ("nearest", "nearest_elsewhere", "visualizations", "quantiles")}
    made = dict.fromkeys(("kind", "recipe", "weights_sha256", "software", "device"), "")
    return {**row, **lists, **made, "model": model, "layer": layer, "unit": unit, "class_name": class_name}


def cpu_ms(atlas: Atlas, words: str, repeats: int = 5) -> float:
    """CPU time of a search, the median of some, ms."""
    times = []
    for _ in range(repeats):
        begin = time.thread_time()
        find(atlas, words)
        times.append(time.thread_time() - begin)
    return 1000 * sorted(times)[repeats // 2]


def main() -> None:
    with TemporaryDirectory() as folder:
        total = write(Path(folder))
        atlas = Atlas(Folder(Path(folder)))
        for model in atlas.models:
            atlas.layers(model)
        before, begin, wall = _rss_mb(), time.process_time(), time.perf_counter()
        known = index.of(atlas)
        names = time.perf_counter() - wall
        known.read.wait()
        report = {
            "units": total,
            "names_ms": 1000 * names,
            "read_cpu_ms": 1000 * (time.process_time() - begin),
            "memory_mb": _rss_mb() - before,
            "search_cpu_ms": {words[:40]: round(cpu_ms(atlas, words), 2) for words in SEARCHES},
        }
        json.dump(report, sys.stdout, indent=1)
        print()


def _rss_mb() -> float:
    """The memory of this process, MB; of Linux."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main()
