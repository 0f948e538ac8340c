"""Whether it pays to stop each unit's ascent when its score has settled, instead of all after the same steps.

    python -m benchmarks.early_stop      # four minutes

A unit has settled when the mean score of the last `window` steps is less than `tolerance` above that of the window
before. A rule is as good as the scores at which it stops units, over what each reaches in the end, beside the scores
after as many steps for all as the rule takes on average. Scores are those of the ascent, on random views, averaged over
the last 32 steps.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import report
from benchmarks.ours import Case, first
from benchmarks.throughput import each_layer
from benchmarks.workers import Workers
from microscope_atlas.lenses.geometry import shift, unit_size
from microscope_atlas.lenses.lens import seed
from microscope_atlas.rendering.ascend import ascend
from microscope_atlas.rendering.objectives import Channel
from microscope_atlas.run.engines.local import keep_freed_memory, num_cores

PLACES = ("inceptionv1_caffe/inception_3b", "inceptionv1_caffe/inception_4c", "efficientnet_lite0/blocks_6")
WINDOWS = (32, 64)
TOLERANCES = (0.005, 0.01, 0.02, 0.03)
LAST = 32  # steps that a score is averaged over


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    layers = []
    for place in each_layer(asked.places or PLACES):
        model, _, layer = place.partition("/")
        case = Case(model, layer, asked.device, asked.weights)
        units = first(asked.units, case.subject.layer.units)
        with Workers(asked.workers, partial(_ready, case, asked.steps)) as us:
            parts = [units[at :: asked.workers] for at in range(asked.workers)]
            scores = torch.cat([found for _, found in us.spread([part for part in parts if part])], 1)
        rules = list(compared(scores))
        layers.append({"layer": place, "units": len(units), "rules": rules})
        report.show(f"{place}, {len(units)} units, shares of the score after {asked.steps} steps", rules)
    report.write(asked.out, {**report.about(asked.device), "steps": asked.steps}, layers=layers)


def compared(scores: Tensor) -> Iterator[dict[str, Any]]:
    """For each rule what it gives, and what the same number of steps gives to all; `scores` is (steps, units)."""
    end = scores[-LAST:].mean(0)
    for window in WINDOWS:
        for tolerance in TOLERANCES:
            stops = settled(scores, window, tolerance)
            mean = round(sum(stops) / len(stops))
            alone = torch.stack([scores[stop - LAST : stop, unit].mean() for unit, stop in enumerate(stops)]) / end
            alike = scores[mean - LAST : mean].mean(0) / end
            yield {
                "window": window,
                "tolerance": tolerance,
                "mean steps": mean,
                "settled": report.rounded(alone.mean().item(), 3),
                "lowest": report.rounded(alone.min().item(), 3),
                "all alike": report.rounded(alike.mean().item(), 3),
                "lowest of these": report.rounded(alike.min().item(), 3),
            }


def settled(scores: Tensor, window: int, tolerance: float) -> list[int]:
    """After how many steps each unit has settled, the last where it never does; `scores` is (steps, units)."""
    means = scores[: len(scores) // window * window].reshape(-1, window, scores.shape[1]).mean(1)
    rises = means[1:] / means[:-1] - 1
    stops = []
    for rise in rises.T:
        (small,) = (rise < tolerance).nonzero(as_tuple=True)
        stops.append(window * (int(small[0]) + 2) if len(small) else len(scores))
    return stops


def _ready(case: Case, steps: int) -> Any:
    """Load the network; units that are given then are rendered, and their scores at every step told."""
    keep_freed_memory()
    subject, recipe = case.subject, case.recipe
    node = subject.graph.objective_node(case.layer, direction=1)
    px = unit_size(subject.layer, subject.organism.input_size, recipe.max_size)
    views = replace(recipe.ascent.views, shift=shift(subject.layer, recipe.ascent.views.shift))
    ascent = replace(recipe.ascent, steps=steps, views=views)

    def do(units: Sequence[int]) -> Tensor:
        scores: list[Tensor] = []
        channel = Channel(torch.tensor(units, device=subject.device))

        def told(acts: Tensor) -> Tensor:
            scores.append(channel(acts).detach())
            return channel(acts)

        seeds = [seed(subject.key(unit), "channel", 1, 0) for unit in units]
        *_, _last = ascend(
            subject.activations(node), told, seeds, ascent, px, subject.device, channel, subject.least(case.batch)
        )
        return torch.stack(scores).cpu()

    return do


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.early_stop")
    parser.add_argument("places", nargs="*", metavar="MODEL/LAYER")
    parser.add_argument("--units", type=int, default=16)
    parser.add_argument("--steps", type=int, default=512)
    parser.add_argument("--weights", default="pretrained", choices=("pretrained", "random"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=num_cores(), help="processes")
    parser.add_argument("--out", type=Path, default=report.FOLDER / "early_stop.json")
    return parser


if __name__ == "__main__":
    main()
