"""A unit's picture by Lucent, one at a time as it does, and by us, many at once: seconds a unit and step.

    pip install -e '.[lucent]'
    python -m benchmarks.vs_lucent                  # one layer
    python -m benchmarks.vs_lucent --every-layer    # and all convolutional ones

The same InceptionV1 with the same random weights, the same layer, canvas and number of steps, each with its own random
views; see peers.py. Whoever does not measure waits: they take turns, and a ratio is that of two neighbouring turns.
Lucent has all cores in one process, we a process on each; on a GPU both have one process. Our recipe is that of
standard quality, whose networks multiply in bfloat16; beside it stands the same in float32, as Lucent has it.

With --every-layer Lucent's canvas stays, and ours is by the layer's receptive field, as atlases are rendered. Layers
count by their number of units.
"""

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import report
from benchmarks.ours import Case, Render, first, prepare, settings
from benchmarks.peers import (
    MODEL,
    horama_render,
    lucent_inceptionv1,
    lucent_render,
    lucents_layer,
    why_not_horama,
    with_lucents_norms,
)
from benchmarks.workers import Workers
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.run.engines.local import num_cores

EXACT = "float32"  # which all of Lucent's arithmetic is in
# Lucent's InceptionV1 has no auxiliary heads
LAYERS = tuple(n for n, layer in organism(MODEL).layers.items() if layer.kind == "conv" and "head" not in n)


@dataclass(frozen=True)
class Turn:
    """A task of a peer."""

    layer: str
    unit: int
    steps: int


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    on_cpu = torch.device(asked.device).type == "cpu"
    workers = asked.workers or (num_cores() if on_cpu else 1)
    threads = asked.threads or num_cores()
    with ExitStack() as stack:

        def peer(library: str, views: bool = True) -> Workers:
            ready = partial(_peer, library, views, asked.canvas, asked.device)
            return stack.enter_context(Workers(1, ready, threads))

        them = {"Lucent": peer("lucent"), "Lucent without views": peer("lucent", views=False)}
        absent = {"Horama": why_not_horama()}
        if absent["Horama"] is None:
            them["Horama"] = peer("horama")
        one = compare(asked, asked.layer, asked.canvas, workers, them)
        every = []
        if asked.every_layer:
            for layer in asked.only or LAYERS:
                every.append({"layer": layer, **compare(asked, layer, None, workers, {"Lucent": them["Lucent"]})})
    about = report.about(asked.device, ("torch-lucent", "kornia", "horama"))
    setting = {"steps": asked.steps, "workers": workers, "threads": threads, "set": asked.set}
    report.show(
        f"inceptionv1/{asked.layer}, canvas {asked.canvas} px, milliseconds a unit and step",
        [
            {"": f"ours, {one['precision']}", "median": 1e3 * one["ours"]["median"], "times ours": 1.0},
            *(
                {"": n, "median": 1e3 * peer["seconds"]["median"], "times ours": peer["ratio"]["median"]}
                for n, peer in one["peers"].items()
            ),
            *({"": name, "why not": reason} for name, reason in absent.items() if reason),
        ],
    )
    results: dict[str, Any] = {"settings": setting, "layer": asked.layer, "canvas": asked.canvas, "one_layer": one}
    results["not_measured"] = {name: reason for name, reason in absent.items() if reason}
    if every:
        results["every_layer"] = {"layers": every, **averaged(every)}
        report.show(
            f"inceptionv1, ours on canvases by receptive field, Lucent's on {asked.canvas} px, milliseconds",
            [
                {
                    "layer": row["layer"],
                    "units": row["units"],
                    "px": row["size"],
                    "ours": 1e3 * row["ours"]["median"],
                    "Lucent": 1e3 * row["peers"]["Lucent"]["seconds"]["median"],
                    "ratio": row["peers"]["Lucent"]["ratio"]["median"],
                }
                for row in every
            ],
        )
        print({name: value for name, value in results["every_layer"].items() if name != "layers"})
    report.write(asked.out, about, **results)


def compare(
    asked: argparse.Namespace, layer: str, size: int | None, workers: int, peers: Mapping[str, Workers]
) -> dict[str, Any]:
    """One layer by us and by others, in turns: seconds a unit and step, and each one's over ours."""
    case = _case(asked, layer, size)
    units = first(asked.batch or case.batch, case.subject.layer.units)
    ours: list[float] = []
    others: dict[str, list[float]] = {}
    with ExitStack() as stack:
        us = stack.enter_context(Workers(workers, partial(prepare, case)))
        exact = None
        if size and case.recipe.ascent.precision != EXACT:  # once, not for every layer
            exact = stack.enter_context(Workers(workers, partial(prepare, _case(asked, layer, size, EXACT))))
        for turn in range(asked.turns + 1):
            seconds, answers = us.together(Render(units, asked.steps))
            ours.append(seconds / (len(units) * workers * asked.steps))
            if exact:
                seconds, _ = exact.together(Render(units, asked.steps))
                others.setdefault(f"ours in {EXACT}", []).append(seconds / (len(units) * workers * asked.steps))
            for name, peer in peers.items():
                seconds, _ = peer.together(Turn(layer, units[turn % len(units)], asked.steps))
                others.setdefault(name, []).append(seconds / asked.steps)
    # the first turn of each warms up: it loads the network, and finds kernels
    return {
        "units": case.subject.layer.units,
        "batch": len(units),
        "size": answers[0][0][0]["recipe"]["size"],
        "precision": case.recipe.ascent.precision,
        "ours": report.summed(ours[1:]),
        "peers": {
            name: {
                "seconds": report.summed(times[1:]),
                "ratio": report.summed([a / b for a, b in zip(times[1:], ours[1:], strict=True)]),
            }
            for name, times in others.items()
        },
    }


def _case(asked: argparse.Namespace, layer: str, size: int | None, precision: str | None = None) -> Case:
    changes = {**settings(asked.set), **({"ascent.precision": precision} if precision else {})}
    return Case(MODEL, layer, asked.device, size=size, changes=changes, load=with_lucents_norms)


def averaged(layers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Over the units of all layers: the mean ratio, and the ratio of the times that all units take together."""
    units = [row["units"] for row in layers]
    ratios = [row["peers"]["Lucent"]["ratio"]["median"] for row in layers]
    ours = [row["ours"]["median"] for row in layers]
    theirs = [row["peers"]["Lucent"]["seconds"]["median"] for row in layers]
    together = sum(map(float.__mul__, theirs, map(float, units))) / sum(map(float.__mul__, ours, map(float, units)))
    return {
        "mean_ratio_of_a_unit": report.rounded(statistics.fmean(ratios, weights=units)),
        "ratio_of_all_units_together": report.rounded(together),
    }


def _peer(library: str, views: bool, canvas: int, device: str) -> Callable[[Turn], None]:
    """Load the peer's network; what is given then renders a unit."""
    module = lucent_inceptionv1(weights.load(organism(MODEL), "random").tensors).to(device)

    def render(turn: Turn) -> None:
        if library == "horama":
            with lucents_layer(module, turn.layer) as activations:
                horama_render(activations, turn.unit, turn.steps, device, canvas)
        else:
            lucent_render(module, turn.layer, turn.unit, canvas, [turn.steps], views)
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()

    return render


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vs_lucent")
    parser.add_argument("--layer", default="mixed4c", choices=LAYERS)
    parser.add_argument("--canvas", type=int, default=224, help="px on a side")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--batch", type=int, help="units at once, of ours; as the recipe has them")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, help="processes, of ours; one a core on a CPU, else 1")
    parser.add_argument("--threads", type=int, help="of a peer's process; one a core")
    parser.add_argument("--every-layer", action="store_true", help="and the table over all convolutional layers")
    parser.add_argument("--only", nargs="*", choices=LAYERS, help="of every layer these")
    parser.add_argument("--set", default="", metavar="PATH=VALUE,...", help="of our recipe: ascent.learning_rate=0.1")
    parser.add_argument("--out", type=Path, default=report.FOLDER / "vs_lucent.json")
    return parser


if __name__ == "__main__":
    main()
