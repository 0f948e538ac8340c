"""Seconds a unit until its picture is as good as Lucent's: each library at its own recipe, the pictures judged alike.

    pip install -e '.[lucent]'
    python -m benchmarks.to_score                                # an early, a middle and a late layer
    python -m benchmarks.to_score inceptionv1_caffe/inception_4c

The same trained network for all. Lucent makes its own 512 steps of each unit, one unit at a time, on 224 px, with all
cores in one process. Ours renders whole batches, with the units among them, in a process on each core, on a canvas by
the layer's receptive field: in 32 steps, then in more of them, until the pictures' robust score is that of Lucent's, as
the mean over the units of their ratio; see quality.py for what that score is. Whoever does not render waits, and the
two take turns, so that both are timed on the same machine. Layers count by their number of units.

With --horama-steps, Horama makes one unit of each layer in so many steps, of the 1,000 that are its own, on its own
1,280 px by six crops a step; judged is what a crop of middle size in the middle shows. Its MACO downloads a spectrum
first, and is not measured.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import peers, quality, report
from benchmarks.ours import Case, rendered, settings
from benchmarks.quality import Judge, Judged, spaced
from benchmarks.throughput import each_layer
from benchmarks.workers import Workers
from microscope_atlas.lenses.lens import Subject
from microscope_atlas.lenses.recipe import changed, precision_for
from microscope_atlas.rendering.views import centre
from microscope_atlas.run.engines.local import keep_freed_memory, num_cores

PLACES = tuple(f"inceptionv1_caffe/{layer}" for layer in ("conv2_3x3", "inception_4c", "inception_5b"))
CANVAS = 224  # px
LADDER = (32, 48, 64, 80, 96, 128, 192, 256, 384, 512)  # steps of ours that are tried


@dataclass(frozen=True)
class Task:
    """Pictures to be made of these units in so many steps; of which those of `judged` are judged."""

    steps: int
    units: tuple[int, ...]
    judged: tuple[int, ...]


@dataclass(frozen=True)
class Made:
    """What it took to make pictures, and how good they are."""

    steps: int
    seconds: float  # a unit, with all cores
    judged: Mapping[int, Judged]  # by unit

    def over(self, other: "Made") -> float | None:
        """The mean ratio of robust scores over the units of another; None where that one's are all silent."""
        found = quality.ratio("robust", [*other.judged], self.judged, other.judged)
        return found["mean"] if found else None

    def told(self) -> dict[str, Any]:
        robust = {str(unit): report.rounded(each.robust) for unit, each in self.judged.items()}
        return {"steps": self.steps, "seconds": report.rounded(self.seconds), "robust": robust}


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    if asked.horama_steps and (why := peers.why_not_horama()):
        raise SystemExit(f"Horama cannot be measured here: {why}")
    layers = [_layer(asked, place) for place in each_layer(asked.places or PLACES)]
    units = [layer["units"] for layer in layers]
    sooner = {
        name: report.rounded(statistics.fmean(ratios, weights=units))
        for name in layers[0]["peers"]
        if None not in (ratios := [layer["peers"][name]["times_ours"] for layer in layers])
    }
    rows = [{"layer": layer["layer"], "": name, **each} for layer in layers for name, each in layer["peers"].items()]
    report.show("seconds a unit, and until ours is as good", [{**row, "robust": None} for row in rows])
    print("on average over the layers' units, times as long as ours:", sooner)
    report.write(asked.out, report.about("cpu", ("torch-lucent", "kornia", "horama")), layers=layers, mean=sooner)


def _layer(asked: argparse.Namespace, place: str) -> dict[str, Any]:
    model, _, layer = place.partition("/")
    precision = precision_for(torch.device("cpu"))
    changes = {"ascent.precision": precision, "robust_views": 0, **settings(asked.set)}
    case = Case(model, layer, kind=asked.weights, changes=changes)
    known = case.subject.layer
    units = spaced(asked.units, known.units, asked.offset)
    batch = tuple([*units, *(unit for unit in range(known.units) if unit not in units)][: max(case.batch, len(units))])
    lucents: list[Made] = []
    ours: list[Made] = []
    ladder = iter(asked.ladder)
    with ExitStack() as stack:
        us = stack.enter_context(Workers(num_cores(), partial(_ready, case, partial(by_us, case.recipe))))
        lucent = stack.enter_context(Workers(1, partial(_ready, case, partial(by_lucent, asked.canvas)), num_cores()))

        def climb() -> bool:
            steps = next(ladder, None)
            if steps is not None:
                ours.append(_made(us, Task(steps, batch, tuple(units))))
            return steps is not None

        for unit in units:
            lucents.append(_made(lucent, Task(asked.steps, (unit,), (unit,))))
            climb()
        found = {"Lucent": _together(lucents)}
        if asked.horama_steps:
            horama = stack.enter_context(Workers(1, partial(_ready, case, by_horama), num_cores()))
            found["Horama"] = _made(horama, Task(asked.horama_steps, (units[0],), (units[0],)))
        while any(_as_good(ours, peer) is None for peer in found.values()) and climb():
            pass
    return {
        "layer": place,
        "units": known.units,
        "of": units,
        "batch": len(batch),
        "precision": precision,
        "ours": [each.told() for each in ours],
        "peers": {name: peer.told() | beside(ours, peer) for name, peer in found.items()},
    }


def beside(ours: Sequence[Made], peer: Made) -> dict[str, Any]:
    """When ours is as good as a peer, and how many times as long that one takes; None where it never is."""
    reached = _as_good(ours, peer)
    if reached is None:
        return {"our_steps": None, "our_seconds": None, "robust_ratio": None, "times_ours": None}
    return {
        "our_steps": reached.steps,
        "our_seconds": report.rounded(reached.seconds),
        "robust_ratio": reached.over(peer),
        "times_ours": report.rounded(peer.seconds / reached.seconds),
    }


def _as_good(ours: Sequence[Made], peer: Made) -> Made | None:
    """The first of ours whose units score as a peer's do; None where there is none yet."""
    return next((each for each in ours if (ratio := each.over(peer)) is not None and ratio >= 1), None)


def _together(each: Sequence[Made]) -> Made:
    """A peer's units, which were made one at a time, as one."""
    judged = {unit: picture for made in each for unit, picture in made.judged.items()}
    return Made(each[0].steps, statistics.mean(made.seconds for made in each), judged)


def _made(by: Workers, task: Task) -> Made:
    """What it takes to do a task; where there are several processes each does it, so that all cores are busy."""
    _, answers = by.together(task)
    seconds = max(seconds for seconds, _ in answers) / (len(task.units) * len(answers))
    return Made(task.steps, seconds, answers[0][1])


Answer = tuple[float, dict[int, Judged]]  # seconds of rendering alone
Pictures = Mapping[int, Tensor]  # of units: bytes, (size, size, 3)


def _ready(case: Case, render: Callable[[Subject, Task], Pictures]) -> Callable[[Task], Answer]:
    """Load the network; what is given then renders, and judges."""
    subject = case.subject
    judge = Judge(subject, case.recipe.ascent.views)

    def do(task: Task) -> Answer:
        began = time.perf_counter()
        pictures = render(subject, task)
        seconds = time.perf_counter() - began
        return seconds, {unit: judge(unit, pictures[unit]) for unit in task.judged}

    return do


def by_us(recipe: Any, subject: Subject, task: Task) -> Pictures:
    """Units as an atlas has them."""
    keep_freed_memory()
    rows = rendered(subject, task.units, changed(recipe, {"ascent.steps": task.steps}))
    return {row["unit"]: row["image"] for row in rows}


def by_lucent(canvas: int, subject: Subject, task: Task) -> Pictures:
    """See quality.by_lucent: the picture of one unit after its last step."""
    (unit,) = task.units
    return {unit: quality.by_lucent(subject, unit, canvas, [task.steps])[0]}


def by_horama(subject: Subject, task: Task) -> Pictures:
    """What a crop in the middle of Horama's picture of one unit shows, 224 px on a side."""
    (unit,) = task.units
    torch.manual_seed(unit)
    activations = subject.activations(subject.graph.objective_node(subject.layer.name, direction=1))
    shown = peers.horama_render(activations, unit, task.steps, str(subject.device))
    side = round(shown.shape[-1] * peers.HORAMA_CROP)
    cropped = centre(shown[None], side)
    seen = F.interpolate(cropped, (CANVAS, CANVAS), mode="bicubic", align_corners=False, antialias=True)
    return {unit: (seen[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.to_score")
    parser.add_argument("places", nargs="*", metavar="MODEL[/LAYER]")
    parser.add_argument("--units", type=int, default=4, help="of each layer, evenly spaced")
    parser.add_argument("--offset", type=int, default=3, help="of the first unit: settings were chosen by others")
    parser.add_argument("--steps", type=int, default=512, help="Lucent's")
    parser.add_argument("--canvas", type=int, default=CANVAS, help="px on a side, Lucent's")
    parser.add_argument("--ladder", type=int, nargs="+", default=LADDER, help="steps of ours, from few to many")
    parser.add_argument("--horama-steps", type=int, help="of Horama's, which is left out otherwise")
    parser.add_argument("--weights", default="pretrained", choices=("pretrained", "random"))
    parser.add_argument("--set", default="", metavar="PATH=VALUE,...", help="of our recipe, of standard quality")
    parser.add_argument("--out", type=Path, default=report.FOLDER / "to_score.json")
    return parser


if __name__ == "__main__":
    main()
