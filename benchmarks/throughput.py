"""How many units x steps a second, layer by layer, how far that is from the machine's limit, and what it needs.

    python -m benchmarks.throughput                                   # a few layers of a few organisms
    python -m benchmarks.throughput vgg19_caffe/conv4_2 inceptionv1   # a layer, and all of an organism
    python -m benchmarks.throughput --scaling                         # time and memory as units, and steps, grow
    python -m benchmarks.throughput --overhead                        # what encoding and writing take

The floor is the arithmetic of convolutions and matrix products, forward and back to the picture, at the rate at which
the same processes multiply large matrices, measured first. A step's seconds are the difference between a render of
many steps and one of few, over the steps between; what remains is what each picture costs whatever its steps.
Weights are random: they change no time.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks import report
from benchmarks.ours import LENS, Case, Render, few, first, prepare, settings
from benchmarks.runs import overhead, scaled
from benchmarks.workers import Workers
from microscope_atlas.lenses.recipe import QUALITIES, changed
from microscope_atlas.lenses.registry import lens
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.networks.flops import flops
from microscope_atlas.run.engines.local import num_cores

UNITS = (10, 100, 1000)  # of the runs that show how cost grows
STEPS = (4, 16)  # times as many, with the units in the middle
PLACES = (  # an early, a middle and a late layer, and the middle ones of the largest networks
    *("inceptionv1/mixed3a", "inceptionv1/mixed4c", "inceptionv1/mixed5b"),
    *("vgg19_caffe/conv4_2", "inceptionv4_slim/Mixed_5d", "efficientnet_lite0/blocks_6"),
)
MATRIX = {"cpu": 2048, "cuda": 8192, "mps": 4096}  # rows and columns


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    on_cpu = torch.device(asked.device).type == "cpu"
    asked.workers = asked.workers or (num_cores() if on_cpu else 1)
    limits = {kind: matrix_rate(kind, asked.device, asked.workers, asked.matrix) for kind in ("float32", "bfloat16")}
    about = {**report.about(asked.device), "workers": asked.workers, "quality": asked.quality}
    about["flops_per_second"] = limits
    print({kind: f"{rate / 1e9:,.0f} GFLOP/s" for kind, rate in limits.items()})
    changes = settings(asked.set)
    if asked.scaling:
        small = {"ascent.steps": asked.steps, "max_size": 32, "methods": ("fourier",), "variants": 0}
        recipe = changed(lens(LENS).recipe(asked.quality), {**small, **changes})
        grown = partial(scaled, asked.scaling_layer, device=asked.device, workers=asked.workers)
        by_units = [{"steps": asked.steps, **grown(units, recipe)} for units in asked.units]
        middle = by_units[len(by_units) // 2]
        longer = (asked.steps * times for times in STEPS)
        by_steps = [
            dict(middle),
            *({"steps": n, **grown(middle["units"], changed(recipe, {"ascent.steps": n}))} for n in longer),
        ]
        for what, rows in (("unit", by_units), ("step", by_steps)):
            for before, row in pairwise(rows):
                further = row[f"{what}s"] - before[f"{what}s"]
                row[f"seconds_per_further_{what}"] = report.rounded((row["seconds"] - before["seconds"]) / further)
            report.show(f"{asked.scaling_layer}, {asked.workers} processes", rows)
        path = asked.out or report.FOLDER / "scaling.json"
        report.write(path, about, settings=changes, by_units=by_units, by_steps=by_steps)
        return
    if asked.overhead:
        places = asked.places or ("efficientnet_lite0/blocks_2", "inceptionv1/mixed4c")
        recipe = changed(lens(LENS).recipe(asked.quality), changes)
        rows = [overhead(place, asked.shard_units, recipe, asked.device) for place in each_layer(places)]
        report.show(f"seconds of a shard, {asked.quality} quality", rows)
        report.write(asked.out or report.FOLDER / "overhead.json", about, settings=changes, overhead=rows)
        return
    rows = []
    for place in each_layer(asked.places or PLACES):
        one = case(place, asked, changes)
        rows.append(measured(one, one.batch, asked.steps, asked.turns, asked.workers, limits))
        print(report.rounded(rows[-1]["units_x_steps_per_second"]), place, flush=True)
    report.show(f"{asked.quality} quality, {asked.workers} processes", [told(row) for row in rows])
    report.write(asked.out or report.FOLDER / "throughput.json", about, settings=changes, layers=rows)


def case(place: str, asked: argparse.Namespace, changes: dict[str, Any]) -> Case:
    model, _, layer = place.partition("/")
    return Case(model, layer, asked.device, quality=asked.quality, changes=changes, size=asked.size)


def each_layer(places: Iterable[str]) -> list[str]:
    """`model/layer`; of a model alone all its layers."""
    found: list[str] = []
    for place in places:
        model, _, layer = place.partition("/")
        found += [
            f"{model}/{name}" for name in ([organism(model).layer(layer).name] if layer else organism(model).layers)
        ]
    return found


def measured(case: Case, batch: int, steps: int, turns: int, workers: int, limits: dict[str, float]) -> dict[str, Any]:
    """One layer: seconds of the machine for a unit and step, and for a unit whatever its steps; memory of a process."""
    units = first(batch, case.subject.layer.units)
    fewest = few(case.device)
    times: dict[int, list[float]] = {fewest: [], fewest + steps: []}
    with Workers(workers, partial(prepare, case)) as us:
        us.together(Render(units, fewest))
        for _ in range(turns):
            for number, found in times.items():
                seconds, answers = us.together(Render(units, number))
                found.append(seconds / (batch * workers))
    short, long = (statistics.median(found) for found in times.values())
    step = max(long - short, 0.0) / steps
    made = answers[0][0][0]["recipe"]
    floor = arithmetic(case.model, made["target"], made["size"])
    return {
        "model": case.model,
        "layer": case.layer,
        "size": made["size"],
        "batch": batch,
        "precision": made["ascent"]["precision"],
        "seconds_per_step": report.rounded(step),
        "seconds_per_picture": report.rounded(max(short - fewest * step, 0.0)),
        "units_x_steps_per_second": report.rounded(1 / step) if step else None,
        "flop_per_step": floor,
        "of_matrix_rate": {
            kind: report.rounded(floor / step / rate) if step else None for kind, rate in limits.items()
        },
        "peak_memory_bytes": max(memory for _, memory in answers),
    }


def told(row: dict[str, Any]) -> dict[str, Any]:
    """A layer's measurements as the table has them."""
    return {
        "layer": f"{row['model']}/{row['layer']}",
        "px": row["size"],
        "batch": row["batch"],
        "precision": row["precision"],
        "unit-steps/s": row["units_x_steps_per_second"],
        "ms": 1e3 * row["seconds_per_step"],
        "ms a picture": 1e3 * row["seconds_per_picture"],
        "GFLOP": row["flop_per_step"] / 1e9,
        **{f"% of {kind}": share and 100 * share for kind, share in row["of_matrix_rate"].items()},
        "GB": row["peak_memory_bytes"] / 1e9,
    }


def arithmetic(model: str, node: str, size: int) -> int:
    """FLOP of one picture and step; see flops."""
    with torch.device("meta"):
        return flops(organism(model).build(), node, size)


def matrix_rate(kind: str, device: str, workers: int, size: int | None = None) -> float:
    """FLOP a second at which so many processes multiply square matrices, all of them together: the best of ten."""
    with Workers(workers, partial(_multiply, kind, device, size)) as processes:
        return max(float(sum(processes.together(None)[1])) for _ in range(10))


def _multiply(kind: str, device: str, size: int | None) -> Callable[[None], float]:
    where = torch.device(device)
    length = size or MATRIX[where.type]
    one, other = (torch.randn(length, length, device=where, dtype=getattr(torch, kind)) for _ in range(2))
    rounds = 20 if where.type == "cuda" else 1

    def multiply(task: None) -> float:
        if where.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(rounds):
            product = one @ other
        product[0, 0].item()  # waits for the device
        return 2.0 * rounds * length**3 / (time.perf_counter() - start)

    multiply(None)
    return multiply


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput")
    parser.add_argument("places", nargs="*", metavar="MODEL[/LAYER]")
    parser.add_argument("--quality", default="standard", choices=QUALITIES)
    parser.add_argument("--steps", type=int, default=8, help="between the renders whose difference is taken")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--size", type=int, help="px on a side; by the receptive field")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, help="processes; one a core on a CPU, else 1")
    parser.add_argument("--matrix", type=int, help="rows of the matrices that the limit is measured with")
    parser.add_argument("--set", default="", metavar="PATH=VALUE,...", help="of the recipe: batch=32")
    parser.add_argument("--scaling", action="store_true", help="whole runs of more and more units")
    parser.add_argument("--scaling-layer", default="efficientnet_lite0/head", metavar="MODEL/LAYER")
    parser.add_argument("--units", type=int, nargs="*", default=UNITS, help="of the runs")
    parser.add_argument("--overhead", action="store_true", help="what encoding and writing take of a shard's time")
    parser.add_argument("--shard-units", type=int, default=4)
    parser.add_argument("--out", type=Path)
    return parser


if __name__ == "__main__":
    main()
