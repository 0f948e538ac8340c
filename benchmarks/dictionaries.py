"""What the units of a large dictionary cost, beside as many of the layer's own.

    python -m benchmarks.dictionaries                       # 49,152 units behind a block of ViT-B/32: four minutes
    python -m benchmarks.dictionaries --part responses      # one of its two parts alone

Two parts. `render`: so many units of it, and so many of the layer's own, are rendered for a few steps of MACO; the
seconds of each, and the most memory. `responses`: those of all its units to few and to many photos, behind a layer of a
small network, from which the rows of a thousand are made; the most memory. Seconds are a processor's. Random weights,
and a random dictionary: both take as long as trained ones. Each case runs in a process of its own. It ends with 1 where
a promise is not kept.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import report
from microscope_atlas.atlas.dictionaries import Attached
from microscope_atlas.lenses.feature_visualization import FeatureVisualization
from microscope_atlas.lenses.lens import Subject
from microscope_atlas.lenses.responses import Responses
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.dictionaries.attached import attach, keep
from microscope_atlas.models.dictionaries.dictionary import Activation, Dictionary
from microscope_atlas.run.shard import one_thread

KEPT = 32  # of TopK
MOST = {"relu": 1.3, "jumprelu": 1.3, "topk": 2.0}  # times the seconds of as many channels
MOST_MEMORY = 1.2  # times theirs
MOST_GROWTH = 1.05  # of memory, with 2.5 times the photos
ROWS = 1024
PARTS = ("render", "responses")
SMALL, SMALL_LAYER, PX = "own:tests.models.kinds_of_networks.transformer", "blocks_1", 32  # of `responses`


def main(arguments: Sequence[str] | None = None) -> None:
    given = list(sys.argv[1:] if arguments is None else arguments)
    asked = _parser().parse_args(given)
    if asked.case:
        print(*(_passed(asked) if asked.case == "responses" else _rendered(asked)))
        return
    results: dict[str, Any] = {}
    slow: list[str] = []
    if asked.part in (None, "render"):
        results["render"], missed = _rows(asked.cases, given)
        report.show(f"{asked.units} units, {asked.steps} steps", results["render"])
        slow += missed
    if asked.part in (None, "responses"):
        few, many = (_apart("responses", [*given, "--count", str(count)]) for count in asked.photos)
        results["responses"] = [
            {"photos": count, "seconds": took, "gigabytes": most}
            for count, (took, most) in zip(asked.photos, (few, many), strict=True)
        ]
        report.show(f"responses of {asked.size} units", results["responses"])
        slow += ["responses"] if many[1] > MOST_GROWTH * few[1] else []
    about = report.about(asked.device, ("timm",)) | {"command": f"python -m benchmarks.dictionaries {' '.join(given)}"}
    settings = {name: getattr(asked, name) for name in ("model", "layer", "size", "units", "steps")}
    report.write(asked.out, about, settings=settings, **results)
    if slow:
        sys.exit(f"above what was promised: {', '.join(slow)}")


def _rows(cases: Sequence[str], given: Sequence[str]) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Of each case its seconds and memory, and those of the layer's own channels they are so many times."""
    seconds, memory = _apart("channels", given)
    rows: list[Mapping[str, Any]] = [{"case": "channels", "seconds": seconds, "gigabytes": memory}]
    slow = []
    for case in cases:
        took, most = _apart(case, given)
        times, times_memory = report.rounded(took / seconds), report.rounded(most / memory)
        rows.append({"case": case, "seconds": took, "gigabytes": most, "times": times, "times_memory": times_memory})
        if times > MOST[case] or times_memory > MOST_MEMORY:
            slow.append(case)
    return rows, slow


def _apart(case: str, given: Sequence[str]) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.dictionaries", *given, "--case", case]
    seconds, memory = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-2:]
    return report.rounded(float(seconds)), report.rounded(float(memory))


def _rendered(asked: argparse.Namespace) -> tuple[float, float]:
    """Seconds that the units take, and the most memory in GB."""
    device = torch.device(asked.device)
    layer = asked.layer if asked.case == "channels" else _attached(asked.model, asked.layer, asked.case, asked.size)
    known = organism(asked.model)
    network = weights.network(known, weights.random(known), device)
    subject, one, clock = (
        Subject(known, known.layer(layer), device, lambda: network),
        FeatureVisualization(),
        _clock(device),
    )
    recipe = replace(one.recipe("draft"), batch=asked.units, batch_pixels=2**40, max_size=None, methods=("maco",))
    recipe = replace(recipe, robust_views=1, maco=replace(recipe.maco, crops=replace(recipe.maco.crops, count=1)))
    with one_thread():
        for units, steps in ((2, 1), (asked.units, asked.steps)):  # few first: what is made once
            began = clock()
            for _ in one.rows(subject, range(units), one.shortened(recipe, steps)):
                pass
            took = clock() - began
    return took, _most(device)


def _passed(asked: argparse.Namespace) -> tuple[float, float]:
    """Seconds that the responses of all units take, and the most memory in GB."""
    device, layer = torch.device(asked.device), _attached(SMALL, SMALL_LAYER, "relu", asked.size)
    known = organism(SMALL)
    network = weights.network(known, weights.load(known), device)
    subject, one, clock = Subject(known, known.layer(layer), device, lambda: network), Responses(), _clock(device)
    with TemporaryDirectory() as folder, one_thread():
        stream = np.random.default_rng(0)
        for number in range(asked.count):
            noise = stream.integers(0, 256, (PX, PX, 3), np.uint8)
            Image.fromarray(noise).save(Path(folder) / f"{number:05}.png")
        recipe = one.recipe("draft").with_pictures(folder)
        began = clock()
        for _ in one.rows(subject, range(min(ROWS, asked.size)), recipe):  # made of what is known of all
            pass
        took = clock() - began
    return took, _most(device)


def _clock(device: torch.device) -> Callable[[], float]:
    """Of a processor, whatever else it does: one thread computes. An accelerator is waited for."""
    return time.process_time if device.type == "cpu" else time.monotonic


def _most(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _attached(model: str, behind: str, activation: Activation, units: int) -> str:
    """The layer that a random dictionary makes behind a model's."""
    width = organism(model).layer(behind).units
    stream = torch.Generator().manual_seed(0)
    threshold = torch.full((units,), 0.1) if activation == "jumprelu" else None
    encoder = torch.randn(units, width, generator=stream) / width**0.5
    k = KEPT if activation == "topk" else None
    made = Dictionary(encoder, activation, torch.zeros(units), threshold=threshold, k=k)
    keep(made)
    attach(model, {f"{behind}_sae": Attached(behind, made.sha256, units, made.described, "all", "random")})
    return f"{behind}_sae"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="timm:vit_base_patch32_224")
    parser.add_argument("--layer", default="blocks_5")
    parser.add_argument("--size", type=int, default=49_152, help="units of the dictionary")
    parser.add_argument("--units", type=int, default=64, help="that are rendered")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--photos", type=int, nargs=2, default=[400, 1000], help="that all units respond to")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cases", nargs="+", default=list(MOST), choices=MOST)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--out", type=Path, default=report.FOLDER / "dictionaries.json")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
