"""Render one shard: the one function that every engine calls."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from generate.errors import WeightsError
from generate.lenses.lens import Row, Subject
from generate.lenses.registry import lens
from generate.models import weights
from generate.models.catalog import organism
from generate.models.network import Network
from generate.plan import Job
from generate.store import Shard, write_shard


@dataclass(frozen=True)
class Made:
    """Some images were made; their shard is not written yet."""

    images: int


@dataclass(frozen=True)
class Finished:
    """A shard is in its place."""

    shard: Shard


def render_shard(job: Job, root: Path, device: torch.device) -> Iterator[Made | Finished]:
    """Render a job's units and write its shard into the atlas at `root`; tells of images as they are made."""
    subject = _subject(job, device)
    made_by = {
        "model": job.units.model,
        "layer": job.units.layer,
        "weights_sha256": job.weights_sha256,
        "software": software(),
        "device": device_name(device),
    }
    rows: list[Row] = []
    units = range(job.units.start, job.units.stop)
    with _one_thread():
        for some in lens(job.units.lens).rows(subject, units, job.recipe):
            rows += [_finished({**made_by, **row}) for row in some]
            yield Made(len(some))
    yield Finished(write_shard(root, job.units, job.id, rows))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Render with one thread a process: with more, gradients are rounded differently with the size of the batch."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def software() -> str:
    """What makes the rows of this process: `microscope-atlas 0.1.0, torch 2.13.0+cpu`."""
    return f"microscope-atlas {version('microscope-atlas')}, torch {torch.__version__}"


def device_name(device: torch.device) -> str:
    """`cpu`, `mps`, or the accelerator's own name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def encode(pixels: Tensor) -> bytes:
    """(height, width, 3) bytes -> JPEG, quality 95, colour at full resolution.

    Renders are full of fine colour, which lossy WebP halves in both directions: on renders of inception_4c it keeps
    29 dB at quality 90, this 36 dB, at 8 and 17 KB an image of 112 px (PNG: 32 KB).
    """
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def _finished(row: Row) -> dict[str, Any]:
    """A row as it is stored: its image encoded, its recipe as JSON."""
    image = row["image"]
    if image is not None:
        parts = (row["model"], row["layer"], row["unit"], row["objective"], f"{row['direction']:+d}", row["variant"])
        name = "-".join(str(part) for part in parts) + ".jpg"
        image = {"bytes": encode(image), "path": name}
    return {**row, "image": image, "recipe": json.dumps(row["recipe"], sort_keys=True)}


def _subject(job: Job, device: torch.device) -> Subject:
    known = organism(job.units.model)
    graph, sha256 = _network(job.units.model, job.weights, device)
    if sha256 != job.weights_sha256:
        raise WeightsError(f"weights of {known.name} have sha256 {sha256} here, the plan expects {job.weights_sha256}")
    return Subject(known, graph, known.layer(job.units.layer), device)


@lru_cache(maxsize=1)
def _network(model: str, kind: weights.WeightsKind, device: torch.device) -> tuple[Network, str]:
    """A process renders many shards of one model: it is loaded once."""
    given = weights.load(organism(model), kind)
    return weights.network(organism(model), given, device), given.sha256
