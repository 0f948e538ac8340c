"""Whole runs and whole shards: how their cost grows with the units, and what encoding and writing take of it."""

import io
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import report
from benchmarks.ours import LENS
from benchmarks.workers import Workers, peak_memory
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.lenses.recipe import changed
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.run import run
from microscope_atlas.run.engines.local import LocalEngine, keep_freed_memory
from microscope_atlas.run.plan import Job
from microscope_atlas.run.shard import ShardFinished, render_shard
from microscope_atlas.run.stored import encode

UNITS_PER_SHARD = 16


def scaled(place: str, units: int, recipe: Any, device: str, workers: int) -> dict[str, Any]:
    """A run of so many units into a new atlas, in a process of its own: its seconds, and the most memory of any part.

    The engine has `workers` processes. The clock runs from the first look at the atlas to its finished card.
    """
    with Workers(1, partial(_run, place, recipe, device, workers)) as process:
        _, ((seconds, rows, memory),) = process.together(units)
    return {
        "units": units,
        "pictures": rows,
        "seconds": report.rounded(seconds),
        "seconds_per_unit": report.rounded(seconds / units),
        "peak_memory_bytes": memory,
    }


def _run(place: str, recipe: Any, device: str, workers: int) -> Callable[[int], tuple[float, int, int]]:
    model, _, layer = place.partition("/")
    known = organism(model)
    given = weights.load(known, "random")

    keep_freed_memory()
    engine = LocalEngine(torch.device(device), workers)

    def render(units: int) -> tuple[float, int, int]:
        request = run.RenderRequest(known, given, "random", {layer: range(units)})
        with TemporaryDirectory() as folder:
            start = time.perf_counter()
            atlas = Folder(Path(folder) / "atlas")
            outcome = run.render(atlas, [request], {LENS: recipe}, engine, UNITS_PER_SHARD, lambda *_: None)
            return time.perf_counter() - start, outcome.made, peak_memory(device)

    render(1)  # imports what a first run does
    return render


def overhead(place: str, units: int, recipe: Any, device: str) -> dict[str, Any]:
    """A shard of a layer's first units: what encoding its images and writing it take of its time.

    Images are encoded while the shard is made; how long that takes is found by encoding them once more. Writing is what
    comes after the last rows.
    """
    with Workers(1, partial(_shard, place, recipe, device)) as process:
        _, ((seconds, encoding, writing, pictures),) = process.together(units)
    return {
        "layer": place,
        "pictures": pictures,
        "seconds": report.rounded(seconds),
        "encoding_seconds": report.rounded(encoding),
        "writing_seconds": report.rounded(writing),
        "share": report.rounded((encoding + writing) / seconds),
    }


def _shard(place: str, recipe: Any, device: str) -> Callable[[int], tuple[float, float, float, int]]:
    keep_freed_memory()
    model, _, layer = place.partition("/")
    sha256 = weights.load(organism(model), "random").sha256

    def shard(folder: Path, steps: int, units: int) -> tuple[float, float, list[bytes]]:
        asked = changed(recipe, {"ascent.steps": steps})
        job = Job(UnitRange(LENS, model, layer, 0, units), asked, "random", sha256)
        start = made = time.perf_counter()
        for event in render_shard(job, Folder(folder), torch.device(device)):
            if not isinstance(event, ShardFinished):
                made = time.perf_counter()
        end = time.perf_counter()
        rows = read_shard(folder / job.units.path, ("image",)).to_pylist()
        return end - start, end - made, [row["image"]["bytes"] for row in rows if row["image"]]

    def render(units: int) -> tuple[float, float, float, int]:
        with TemporaryDirectory() as folder:
            shard(Path(folder) / "first", 1, 1)  # loads the network, and finds kernels
            seconds, writing, files = shard(Path(folder) / "atlas", recipe.ascent.steps, units)
        pictures = [torch.from_numpy(np.array(Image.open(io.BytesIO(file)))) for file in files]
        start = time.perf_counter()
        for picture in pictures:
            encode(picture)
        return seconds, time.perf_counter() - start, writing, len(pictures)

    return render
