"""What an atlas of many files costs: time and memory to check, to look at, to go on with, to cite and to publish it.

    python -m benchmarks.files                        # 500 and 5,000 files of 20 rows
    python -m benchmarks.files --files 500 5000 20000

A run makes the first files of an untrained network with a layer as wide as it takes. The others are those again, under
the numbers of other units: as many files, rows, images and bytes as a run would make, with content ids that fit. Each
command runs in a process of its own; it publishes to a small Hub in this one, whose time does not count. Writes a table
and benchmarks/results/files.json.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq

from benchmarks import report
from benchmarks.startup import HERE, Cost, cost
from microscope_atlas.atlas import images
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest, write_manifest
from microscope_atlas.atlas.shards import write_shard
from microscope_atlas.atlas.tables import Table
from microscope_atlas.atlas.units import content_id, union
from microscope_atlas.publish.card import save_card
from tests import hub_double

FILES = (500, 5000)
UNITS, ROWS = 10, 20  # of a file; a dense unit has two pictures
LENS, MODEL = "feature_visualization", "own:wide.network"
NETWORK = """
import torch
from torch import nn

from microscope_atlas import Trained


def network():
    torch.manual_seed(0)
    return Trained(nn.Sequential(nn.Flatten(), nn.Linear(192, {units})), input_size=8, license="CC0-1.0")
"""
SETTINGS = ("ascent.steps=1", "variants=0", "robust_views=0")
COMMANDS: Mapping[str, Sequence[str]] = {
    "check": ("check",),
    "status": ("status",),
    "go on": ("render", "--model", MODEL, "--lens", LENS, "--workers", "1"),
    "cite": ("cite",),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.files", description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, nargs="+", default=FILES)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=report.FOLDER / "files.json")
    asked = parser.parse_args(arguments)
    results = {}
    for count in asked.files:
        with TemporaryDirectory() as folder:
            atlas = made(Path(folder), count)
            found = {
                name: costs([*command[:1], str(atlas), *command[1:]], Path(folder), asked.runs)
                for name, command in COMMANDS.items()
            }
            found["publish"] = published(atlas, Path(folder), asked.runs)
        results[str(count)] = {name: each._asdict() for name, each in found.items()}
        for name, each in found.items():
            print(f"{count:>7,} files  {name:<8} {each.cpu_seconds:7.2f} s of CPU time  {each.megabytes:5.0f} MB")
    report.write(asked.out, {"rows_a_file": ROWS, **report.about()}, files=results)


def costs(command: Sequence[str], folder: Path, runs: int) -> Cost:
    """Medians of several runs."""
    paths = [HERE / "generate", folder]
    found = [cost("microscope_atlas.cli", paths, command) for _ in range(runs)]
    return Cost(median(each.cpu_seconds for each in found), median(each.megabytes for each in found))


def published(atlas: Path, folder: Path, runs: int) -> Cost:
    """Medians of several publications, each into a repository of its own."""
    found = []
    for run in range(runs):
        with hub_double.running() as hub, patch.dict(os.environ, speaking_to(hub, folder)):
            command = ("publish", str(atlas), f"someone/atlas-{run}", "--version", "2026.11.0")
            found.append(cost("microscope_atlas.cli", [HERE / "generate", folder], command))
    return Cost(median(each.cpu_seconds for each in found), median(each.megabytes for each in found))


def speaking_to(hub: hub_double.Hub, folder: Path) -> dict[str, str]:
    """The environment in which processes take a double for the Hub, and keep what they fetch in a folder."""
    return {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_nobody", "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(folder)}


def made(folder: Path, count: int) -> Path:
    """An atlas of so many files."""
    (folder / "wide.py").write_text(NETWORK.format(units=count * UNITS))
    atlas = folder / "atlas"
    settings = [part for each in SETTINGS for part in ("--set", f"{LENS}.{each}")]
    command = ["render", str(atlas), "--model", MODEL, "--lens", LENS, "--units", f"0:{UNITS}", *settings]
    cost("microscope_atlas.cli", [HERE / "generate", folder], command)
    multiplied(Folder(atlas), count)
    return atlas


def multiplied(storage: Folder, count: int) -> None:
    """Write the first file again for the units behind, with what the manifest, the index and the card say of them."""
    manifest = read_manifest(storage)
    (first,) = manifest.shards.values()
    table, rows = manifest.table(LENS), pq.read_table(storage.root / first.path).to_pylist()
    for at in range(1, count):
        units = replace(first.units, start=at * UNITS, stop=(at + 1) * UNITS)
        own = [_as(row, row["unit"] + at * UNITS, table) for row in rows]
        made = content_id(units, manifest.lenses[LENS], manifest.models[units.model]["weights_sha256"])
        shard = write_shard(storage, units, made, own, table)
        manifest.shards[shard.path] = shard
    manifest.planned = union([each.units for each in manifest.shards.values()])
    images.update(storage, manifest)
    write_manifest(storage, manifest)
    save_card(storage, manifest)


def _as(row: dict[str, Any], unit: int, table: Table) -> dict[str, Any]:
    """The row of another unit: with its image's name."""
    row = {**row, "unit": unit}
    name = "-".join(str(row[column.name]) for column in table.keys)
    return {**row, "image": {**row["image"], "path": f"{name}.jpg"}}


if __name__ == "__main__":
    main()
