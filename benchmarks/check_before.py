"""What `check` costs beside version 0.1's, over an atlas of many small files that version 0.1 wrote.

    git worktree add ../v01 4284f89
    python -m benchmarks.check_before ../v01

Version 0.1 renders one unit and writes its four pictures, of 32 px, again and again as the units of another network, a
file each, with their index, manifest and card. Both versions then check that atlas, in turns, each in a process of its
own; either ends it where it finds anything wrong. Processor time and memory of every turn, and the ratio of their
medians, go to benchmarks/results/check_before.json. Nothing else should run meanwhile.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import report
from benchmarks.startup import HERE, cost

MODEL = "resnetv2_50_slim"  # whose layers have enough units
MAKE = """
import sys
from dataclasses import replace
from pathlib import Path

import torch
from generate import card, index, schema, store
from generate.models.catalog import organism
from generate.plan import Units, content_id, union
from generate.render.ascend import Ascent
from tests import atlases

root, model, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
atlases.render(root, range(1), replace(atlases.RECIPE, ascent=Ascent(steps=64)))
manifest = store.read_manifest(root)
manifest.software = f"microscope-atlas 0.1.0, torch {torch.__version__}"  # which this Python has another version of
(first,) = manifest.shards.values()
rows, keys = store.read_shard(root / first.path).to_pylist(), schema.table(atlases.LENS).keys
for path in (first.path, *(schema.index_path(name) for name in manifest.models)):
    (root / path).unlink()
(about,) = manifest.models.values()
manifest.models, manifest.shards, manifest.indexes = {model: about}, {}, {}
layers = organism(model).layers.values()
places = [(each.name, unit) for each in layers if each.kind == "conv" for unit in range(each.units)]
for layer, unit in places[:count]:
    units, own = Units(atlases.LENS, model, layer, unit, unit + 1), []
    for row in rows:
        row = {**row, "model": model, "layer": layer, "unit": unit, "software": manifest.software}
        name = "-".join(str(row[column.name]) for column in keys)
        own.append({**row, "image": {**row["image"], "path": f"{name}.jpg"}})
    made = content_id(units, manifest.lenses[atlases.LENS], about["weights_sha256"])
    shard = store.write_shard(root, units, made, own)
    manifest.shards[shard.path] = shard
manifest.planned = union([shard.units for shard in manifest.shards.values()])
index.update(root, manifest)
store.write_manifest(root, manifest)
store.write_text(root, "README.md", card.render_card(manifest))
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.check_before", description=__doc__.partition("\n")[0])
    parser.add_argument("clone", type=Path, help="folder of version 0.1")
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, default=report.FOLDER / "check_before.json")
    asked = parser.parse_args(arguments)
    clone = asked.clone.resolve()
    versions = {
        "before": ("generate.cli", [clone]),
        "now": ("microscope_atlas.cli", [HERE / "generate", HERE / "space"]),
    }
    turns: dict[str, list[dict[str, float]]] = {version: [] for version in versions}
    with TemporaryDirectory() as folder:
        atlas = Path(folder) / "atlas"
        make = [sys.executable, "-c", MAKE, str(atlas), MODEL, str(asked.files)]
        subprocess.run(make, cwd=clone, env={**os.environ, "PYTHONPATH": str(clone)}, check=True)
        for _ in range(asked.turns):
            for version, (module, paths) in versions.items():
                took = cost(module, paths, ["check", str(atlas)])
                turns[version].append({"cpu_seconds": round(took.cpu_seconds, 2), "megabytes": round(took.megabytes)})
    found = {
        version: {name: median(turn[name] for turn in taken) for name in taken[0]} for version, taken in turns.items()
    }
    ratio = round(found["before"]["cpu_seconds"] / found["now"]["cpu_seconds"], 2)
    rows = [{"version": version, **each} for version, each in found.items()]
    report.show(f"check of {asked.files:,} files of four rows: in {ratio} times less processor time", rows)
    about = report.about() | {"command": "python -m benchmarks.check_before ../v01", "files": asked.files}
    report.write(asked.out, about, times_less=ratio, turns=turns)


if __name__ == "__main__":
    main()
