"""What the Space costs over an atlas of all organisms: start, memory, processor time of each kind of page.

    python -m benchmarks.space_scale              # ten minutes, most of them to write two gigabytes of rows
    python -m benchmarks.space_scale --keep big   # and leave the atlas in big/

The atlas has every unit of every layer of all organisms. Its rows are those of one unit, rendered as briefly as can be,
under the names of all others: as many rows, images and files as drafts have. The pictures are small, since pages do not
open them. A server of its own is asked for the home page, every network, every layer, some units with their pictures,
the unit beside each, and some searches; how much processor time it spent on each is what Linux counts for all its
threads. Medians, and the most memory, go to benchmarks/results/space_scale.json.
"""

import argparse
import io
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from html import unescape
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pyarrow.parquet as pq
from PIL import Image

from benchmarks import report
from benchmarks.space_before import served
from benchmarks.startup import HERE
from microscope_atlas.atlas import images
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import Manifest, read_manifest, write_manifest
from microscope_atlas.atlas.organisms import organisms
from microscope_atlas.atlas.shards import write_shard
from microscope_atlas.atlas.tables import Table
from microscope_atlas.atlas.units import UnitRange, content_id, union
from microscope_atlas.lenses.registry import lens
from microscope_atlas.publish.card import save_card
from tests import atlases

LENSES = ("feature_visualization", "responses", "dataset_samples", "deepdream", "units")
LAYER, UNIT = "blocks_4", 0  # whose rows all others have
PLACE = {"x": 0.0, "y": 0.0, "trustworthiness": 1.0}  # on the maps, which one unit alone has not
READY_SECONDS = 10  # in which a server makes ready what searches need
A_FILE = 64  # units, of lenses that go unit by unit
SEARCHES = ("golden retriever", "resnet50", "golden retreiver", "mixed4c 44", "inceptionv1 4c:447", "curve", "zzzzz")
IMAGES = re.compile(r'src="(/picture\?[^"]*)"')


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.space_scale", description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", help="Default: all organisms.")
    parser.add_argument("--units", type=int, default=200, help="whose pages are read")
    parser.add_argument("--python", default=sys.executable, help="that serves it. Default: this one.")
    parser.add_argument("--keep", type=Path, help="where the atlas is made, and stays")
    parser.add_argument("--out", type=Path, default=report.FOLDER / "space_scale.json")
    asked = parser.parse_args(arguments)
    with nullcontext(asked.keep) if asked.keep else TemporaryDirectory() as folder:
        root = Path(folder) / "atlas"
        if not root.is_dir():
            atlases.render_every(root, {LAYER: range(UNIT + 1)}, lenses=LENSES)
            multiplied(Folder(root), asked.models or list(organisms()))
        manifest = read_manifest(Folder(root))
        found = visited(root, manifest, asked.units, asked.python)
    version = subprocess.run([asked.python, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    about = report.about(libraries=("gradio",)) | {"command": "python -m benchmarks.space_scale"}
    about |= {
        "served_by_python": version,
        "units": sum(each.stop - each.start for each in manifest.planned if each.lens == "units"),
        "rows": sum(shard.rows for shard in manifest.shards.values()),
        "files": len(manifest.shards),
    }
    report.show(f"{about['units']:,} units, {about['rows']:,} rows", [found])
    report.write(asked.out, about, **found)


def multiplied(storage: Folder, models: Sequence[str]) -> None:
    """Write the rows of one unit again for every unit of every layer of these models, in place of what was there."""
    manifest = read_manifest(storage)
    (given,) = manifest.models.values()
    rows: dict[str, list[dict[str, Any]]] = {}
    for path, shard in manifest.shards.items():
        own = pq.read_table(storage.root / path).to_pylist()
        rows.setdefault(shard.units.lens, []).extend(row for row in own if row.get("unit", UNIT) == UNIT)
        storage.remove(path)
    manifest.models = dict.fromkeys(models, given)
    manifest.shards = {}
    small = io.BytesIO()
    Image.new("RGB", (16, 16), "gray").save(small, "JPEG")
    for model in models:
        for layer, about in organisms()[model].layers.items():
            for name, template in rows.items():
                size = A_FILE if lens(name).divisible else about.units
                for start in range(0, about.units, size):
                    units = UnitRange(name, model, layer, start, min(start + size, about.units))
                    _write(storage, manifest, units, template, small.getvalue())
        print(model, flush=True)
    manifest.planned = union([each.units for each in manifest.shards.values()])
    images.update(storage, manifest)
    write_manifest(storage, manifest)
    save_card(storage, manifest)


def _write(storage: Folder, manifest: Manifest, units: UnitRange, rows: Sequence[dict[str, Any]], image: bytes) -> None:
    table = manifest.table(units.lens)
    each = range(units.start, units.stop) if table.level == "unit" else (units.start,)
    own = [_as(row, units, at, table, image) for at in each for row in rows]
    made = content_id(units, manifest.lenses[units.lens], manifest.models[units.model]["weights_sha256"])
    shard = write_shard(storage, units, made, own, table)
    manifest.shards[shard.path] = shard


def _as(row: dict[str, Any], units: UnitRange, unit: int, table: Table, image: bytes) -> dict[str, Any]:
    """The row of another unit: with a small picture under its name."""
    changed = {"model": units.model, "layer": units.layer, "unit": unit, "layer_map": PLACE, "model_map": PLACE}
    row = row | {name: value for name, value in changed.items() if name in row}
    name = "-".join(str(row[column.name]) for column in table.keys)
    return {**row, **{each: {"bytes": image, "path": f"{name}.jpg"} for each in table.images if row.get(each)}}


def visited(root: Path, manifest: Manifest, number: int, python: str) -> dict[str, Any]:
    """What a server of this atlas spends."""
    drawn = random.Random(0)
    known = organisms()
    places = [(model, layer) for model in manifest.models for layer in known[model].layers]
    chosen = drawn.choices(places, k=number)
    units = [f"{model}/{layer}/{drawn.randrange(known[model].layers[layer].units)}" for model, layer in chosen]
    browse = [python, "-m", "microscope_atlas.cli", "browse", str(root)]
    with served(browse, HERE) as (process, address):
        server = Server(process, address)
        time.sleep(READY_SECONDS)
        found: dict[str, Any] = {
            "start_cpu_seconds": round(server.spent(), 1),
            "start_megabytes": round(server.memory()),
        }
        kinds = {
            "home": [""],
            "network": list(manifest.models),
            "layer": ["/".join(place) for place in places],
            "unit": units,
            "search": [f"?q={quote(words)}" for words in SEARCHES for _ in range(3)],
        }
        for kind, links in kinds.items():
            spent = []
            pictures = []
            beside = []
            for link in links:
                page, took = server.read(link)
                spent.append(took)
                if kind == "unit":
                    pictures += [server.read(unescape(each)[1:])[1] for each in IMAGES.findall(page.decode())]
                    key, _, unit = link.rpartition("/")
                    beside.append(server.read(f"{key}/{int(unit) ^ 1}")[1])
            found[f"{kind}_cpu_ms"] = round(1000 * median(spent), 1)
            found[f"{kind}_most_cpu_ms"] = round(1000 * max(spent), 1)
            found[f"{kind}_megabytes"] = round(server.memory())
            if pictures:
                found["picture_cpu_ms"] = round(1000 * median(pictures), 2)
                found["unit_beside_cpu_ms"] = round(1000 * median(beside), 1)
        found["megabytes"] = round(server.memory())
    return found


class Server:
    """A process that serves an atlas."""

    def __init__(self, process: "subprocess.Popen[bytes]", address: str) -> None:
        self.process, self.address = process, address

    def read(self, link: str) -> tuple[bytes, float]:
        """What is at a link, and the seconds of processor time that it took."""
        before = self.spent()
        with urlopen(self.address + link) as answer:
            return answer.read(), self.spent() - before

    def spent(self) -> float:
        """Seconds of processor time of all its threads, those too that have ended: what clock_getcpuclockid is for."""
        return time.clock_gettime(~self.process.pid << 3 | 2)

    def memory(self) -> float:
        """MB resident, at most so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e6  # type: ignore[index]


if __name__ == "__main__":
    main()
