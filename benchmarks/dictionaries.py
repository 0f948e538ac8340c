"""What the units of a large dictionary cost, beside as many of the layer's own: seconds a step, and the most memory.

    python -m benchmarks.dictionaries                       # 49,152 units behind a block of ViT-B/32
    python -m benchmarks.dictionaries --steps 4 --units 64 --device cuda

Random weights, and a random dictionary: both take as long as trained ones. Each case runs in a process of its own.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from microscope_atlas.atlas.dictionaries import Attached
from microscope_atlas.lenses.feature_visualization import FeatureVisualization
from microscope_atlas.lenses.lens import Subject
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.dictionaries.attached import attach, keep
from microscope_atlas.models.dictionaries.dictionary import Activation, Dictionary
from microscope_atlas.run.shard import one_thread

KEPT = 32  # of TopK
MOST = {"relu": 1.3, "jumprelu": 1.3, "topk": 2.0}  # times the seconds of as many channels
MOST_MEMORY = 1.2


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    if asked.case:
        print(*_measured(asked))
        return
    seconds, memory = _apart("channels", sys.argv[1:])
    rows, slow = [{"case": "channels", "seconds_a_step": seconds, "gigabytes": memory}], []
    for case in asked.cases:
        took, most = _apart(case, sys.argv[1:])
        times, times_memory = took / seconds, most / memory
        rows.append(
            {"case": case, "seconds_a_step": took, "gigabytes": most, "times": times, "times_memory": times_memory}
        )
        if times > MOST[case] or times_memory > MOST_MEMORY:
            slow.append(case)
    for row in rows:
        print(
            ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else str(value) for name, value in row.items())
        )
    if slow:
        sys.exit(f"above what was promised: {', '.join(slow)}")


def _apart(case: str, given: Sequence[str]) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.dictionaries", *given, "--case", case]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-2:]
    return float(said[0]), float(said[1])


def _measured(asked: argparse.Namespace) -> tuple[float, float]:
    """Seconds of a step, and the most memory in GB."""
    device, layer = torch.device(asked.device), asked.layer
    plain = organism(asked.model)
    if asked.case != "channels":
        layer = f"{asked.layer}_sae"
        width = plain.layer(asked.layer).units
        attach(asked.model, {layer: _random(asked.case, asked.size, width, asked.layer)})
    known = organism(asked.model)
    network = weights.network(known, weights.load(known, "random"), device)
    subject, one = Subject(known, known.layer(layer), device, lambda: network), FeatureVisualization()
    recipe = one.shortened(
        replace(one.recipe("draft"), batch=asked.units, max_size=None, methods=("maco",)), asked.steps
    )
    recipe = replace(recipe, maco=replace(recipe.maco, crops=replace(recipe.maco.crops, count=1)))
    took = []
    with one_thread():
        for steps in (1, 1 + asked.steps):
            began = time.monotonic()
            for _ in one.rows(subject, range(asked.units), one.shortened(recipe, steps)):
                pass
            took.append(time.monotonic() - began)
    if device.type == "cuda":
        most = torch.cuda.max_memory_allocated() / 1e9
    else:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return (took[1] - took[0]) / asked.steps, most


def _random(activation: Activation, units: int, width: int, behind: str) -> Attached:
    stream = torch.Generator().manual_seed(0)
    threshold = torch.full((units,), 0.1) if activation == "jumprelu" else None
    encoder = torch.randn(units, width, generator=stream) / width**0.5
    made = Dictionary(
        encoder, activation, torch.zeros(units), threshold=threshold, k=KEPT if activation == "topk" else None
    )
    keep(made)
    return Attached(behind, made.sha256, units, made.described, "all", "random")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="timm:vit_base_patch32_224")
    parser.add_argument("--layer", default="blocks_9")
    parser.add_argument("--size", type=int, default=49_152, help="units of the dictionary")
    parser.add_argument("--units", type=int, default=64, help="that are rendered")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cases", nargs="+", default=list(MOST), choices=MOST)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
