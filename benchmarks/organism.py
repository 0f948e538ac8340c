"""What a whole network costs who checks, publishes, browses and loads it: time, memory, rows and bytes of each table.

    microscope-atlas render whole --model efficientnet_lite0 --quality draft    # hours
    python -m benchmarks.organism whole

The atlas is checked, and published to a small Hub in this process, whose time does not count. From there `datasets`
loads each config and opens a picture of it, and then streams each to its last row, its pictures left encoded. A Space
over the folder is asked for the home page, the network, every layer, and some units with all of their pictures. Each
runs in a process of its own, once; it ends where one finds other rows than the manifest names. Writes a table and
benchmarks/results/organism.json.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from html import unescape
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from benchmarks import report
from benchmarks.files import speaking_to
from benchmarks.space_before import served
from benchmarks.space_scale import IMAGES, READY_SECONDS, Server
from benchmarks.startup import HERE, Cost, cost, python_cost
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import Manifest, read_manifest
from microscope_atlas.atlas.reader import Atlas
from tests import hub_double

REPO, VERSION = "someone/atlas", "2026.11.0"  # whose tag has a v before it
WAYS = ("loaded", "streamed")
READ = """
import sys
from datasets import load_dataset
repo, version, config, way, expected = sys.argv[1:]
found = 0
for rows in load_dataset(repo, config, revision=f"v{version}", streaming=way == "streamed").values():
    if way == "streamed":
        next(iter(rows))
        found += sum(1 for _ in rows.decode(False))
    else:
        rows[len(rows) // 2]
        found += len(rows)
if found != int(expected):
    sys.exit(f"{config} has {found} rows, {expected} in the manifest")
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.organism", description=__doc__.partition("\n")[0])
    parser.add_argument("atlas", type=Path)
    parser.add_argument("--units", type=int, default=100, help="whose pages are read")
    parser.add_argument("--out", type=Path, default=report.FOLDER / "organism.json")
    asked = parser.parse_args(arguments)
    manifest = read_manifest(Folder(asked.atlas))
    steps: dict[str, dict[str, float]] = {}
    with (
        TemporaryDirectory() as folder,
        hub_double.running() as hub,
        patch.dict(os.environ, speaking_to(hub, Path(folder))),
    ):
        steps["check"] = taken(lambda: command("check", str(asked.atlas)))
        steps["publish"] = taken(lambda: command("publish", str(asked.atlas), REPO, "--version", VERSION))
        names = {manifest.table(shard.units.lens).config for shard in manifest.shards.values()}
        tables = [config(manifest, name) for name in sorted(names)]
        for way in WAYS:
            for table in tables:
                read = ["-c", READ, REPO, VERSION, table["table"], way, str(table["rows"])]
                took = taken(lambda read=read: python_cost(read, [HERE / "generate"]))  # type: ignore[misc]
                table |= {f"{way}_{name}": value for name, value in took.items()}
    browsed = visited(asked.atlas, asked.units)
    report.show("the atlas", [{"what": name, **took} for name, took in steps.items()])
    report.show("each config", tables)
    report.show("the Space", [browsed])
    about = report.about(libraries=("datasets", "huggingface_hub", "gradio", "pyarrow"))
    about |= {
        "command": "python -m benchmarks.organism ATLAS",
        "units": sum(run.stop - run.start for run in manifest.planned if run.lens == "units"),
        "layers": len({(run.model, run.layer) for run in manifest.planned}),
        "rows": sum(table["rows"] for table in tables),
        "files": len(manifest.shards),
        "megabytes": round(sum(Folder(asked.atlas).files().values()) / 1e6),
        "made_with": list(manifest.every_software),
    }
    report.write(asked.out, about, **steps, tables=tables, browse=browsed)


def command(*arguments: str) -> Cost:
    return cost("microscope_atlas.cli", [HERE / "generate", HERE / "space"], arguments)


def taken(run: Callable[[], Cost]) -> dict[str, float]:
    """Of one process: seconds by the clock and of processor time, and memory at most."""
    begun = time.perf_counter()
    spent = run()
    return {
        "seconds": round(time.perf_counter() - begun, 1),
        "cpu_seconds": round(spent.cpu_seconds, 1),
        "megabytes": round(spent.megabytes),
    }


def config(manifest: Manifest, name: str) -> dict[str, Any]:
    """What an atlas has of a config."""
    own = [shard for shard in manifest.shards.values() if manifest.table(shard.units.lens).config == name]
    size = round(sum(shard.bytes for shard in own) / 1e6, 1)
    return {"table": name, "files": len(own), "rows": sum(shard.rows for shard in own), "stored_megabytes": size}


def visited(root: Path, number: int) -> dict[str, float]:
    """What pages of a server of this atlas cost, and their pictures: milliseconds of its processor time, medians."""
    atlas = Atlas(Folder(root))
    layers = [f"{model}/{layer}" for model in atlas.models for layer in atlas.layers(model)]
    there = [f"{layer}/{unit}" for layer in layers for unit in atlas.thumbnails(*layer.split("/"))]
    units = random.Random(0).sample(there, min(number, len(there)))
    with served([sys.executable, "-m", "microscope_atlas.cli", "browse", str(root)], HERE) as (process, address):
        server = Server(process, address)
        time.sleep(READY_SECONDS)
        found: dict[str, float] = {"start_cpu_seconds": round(server.spent(), 1)}
        kinds = {"home": [""], "network": atlas.models, "layer": layers, **({"unit": units} if units else {})}
        for kind, links in kinds.items():
            spent, pictures = [], []
            for link in links:
                page, took = server.read(link)
                spent.append(took)
                if kind == "unit":
                    pictures += [server.read(unescape(each)[1:])[1] for each in IMAGES.findall(page.decode())]
            found[f"{kind}_cpu_ms"] = round(1000 * median(spent), 1)
        found |= {"pictures": len(pictures), "megabytes": round(server.memory())}
    return found


if __name__ == "__main__":
    main()
