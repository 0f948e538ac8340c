"""How good pictures are after so many steps: the objective on the clean picture, beside that of a much longer ascent.

    python -m benchmarks.quality                                              # 1,024 steps, 4 units
    python -m benchmarks.quality --reference 4096 --units 8
    python -m benchmarks.quality --variant "slow: ascent.learning_rate=0.02"  # other settings, as many as named

Ours, ours with the settings of each --variant, which is bfloat16 unless others are named, and Lucent's, where it is
installed, on the same trained network, units and number of px. Every picture, in bytes as an atlas stores it, is judged
by the same network in float32: the mean of the unit over the picture, no view. A ratio is a unit's score over what our
unchanged recipe reaches for that unit with the reference's steps. Lucent optimises one unit at a time in its own views;
random streams differ.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks import peers, report
from benchmarks.ours import Case, rendered, settings
from benchmarks.throughput import each_layer
from benchmarks.workers import Workers
from microscope_atlas.errors import ExtraMissing
from microscope_atlas.lenses.geometry import unit_size
from microscope_atlas.lenses.recipe import QUALITIES, changed
from microscope_atlas.models.networks.network import Network
from microscope_atlas.rendering.objectives import Channel
from microscope_atlas.run.engines.local import keep_freed_memory, num_cores

PLACES = ("inceptionv1_caffe/inception_4c", "efficientnet_lite0/blocks_6")
VARIANTS = ("bfloat16: ascent.precision=bfloat16",)  # where none is asked for; drafts are in float32
OURS, LUCENT = "ours", "Lucent"


@dataclass(frozen=True)
class Task:
    """Some units, to be rendered by one of those compared, with so many steps; or after each of them."""

    who: str
    units: tuple[int, ...]
    steps: tuple[int, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    on_cpu = torch.device(asked.device).type == "cpu"
    workers = asked.workers or (num_cores() if on_cpu else 1)
    variants = {OURS: {}, **dict(map(variant, asked.variant or VARIANTS))}
    lucent = not asked.no_lucent and _has_lucent()
    layers = []
    for place in each_layer(asked.places or PLACES):
        model, _, layer = place.partition("/")
        case = Case(model, layer, asked.device, asked.weights, asked.quality, settings(asked.set), asked.size)
        units = spaced(asked.units, case.subject.layer.units)
        tasks = list(_tasks(units, variants, asked.steps, asked.reference, workers if on_cpu else 1, lucent))
        pictures: dict[tuple[str, int], dict[int, Tensor]] = {}
        scores: dict[tuple[str, int], dict[int, float]] = {}
        with Workers(workers, partial(_ready, case, variants)) as us:
            for task, made in us.spread(tasks):
                for (unit, steps), (score, picture) in made.items():
                    scores.setdefault((task.who, steps), {})[unit] = score
                    pictures.setdefault((task.who, steps), {})[unit] = picture
        found = compared(units, scores, asked.reference)
        layers.append({"layer": place, "units": units, "of": found})
        report.show(f"{place}, {len(units)} units, over {asked.reference} steps of ours", _told(found))
        if asked.pictures:
            asked.pictures.mkdir(parents=True, exist_ok=True)
            sheet(units, pictures).save(asked.pictures / f"{model}-{layer}.png")
    about = {**report.about(asked.device, ("torch-lucent",)), "quality": asked.quality, "reference": asked.reference}
    named = {name: {**settings(asked.set), **changes} for name, changes in variants.items()}
    not_measured = {} if lucent else {LUCENT: "left out" if asked.no_lucent else "not installed"}
    report.write(asked.out, about, settings=named, not_measured=not_measured, layers=layers)


def variant(text: str) -> tuple[str, dict[str, Any]]:
    """`NAME: PATH=VALUE,...`, as the command line has it."""
    name, separator, changes = text.partition(":")
    if not separator or name.strip() in ("", OURS, LUCENT):
        raise ValueError(f"{text!r} is no variant; expected NAME: PATH=VALUE,..., of a name that is not taken")
    return name.strip(), settings(changes)


def spaced(count: int, num_units: int) -> list[int]:
    """So many of a layer's units, evenly spaced from the first."""
    return sorted({at * num_units // count for at in range(count)})


def compared(
    units: Sequence[int], scores: Mapping[tuple[str, int], Mapping[int, float]], reference: int
) -> list[dict[str, Any]]:
    """Of each one compared and number of steps: scores, and their ratio to the reference's unit by unit."""
    best = scores[OURS, reference]
    alive = [unit for unit in units if best[unit] > 0]  # a unit that stays silent has no ratio
    return [
        {
            "who": who,
            "steps": steps,
            "score": report.summed([own[unit] for unit in units]),
            "ratio": report.summed([own[unit] / best[unit] for unit in alive]) if alive else None,
            "scores": [report.rounded(own[unit], 6) for unit in units],
        }
        for (who, steps), own in sorted(scores.items(), key=lambda item: (item[0][0] != OURS, item[0]))
    ]


def sheet(units: Sequence[int], pictures: Mapping[tuple[str, int], Mapping[int, Tensor]]) -> Image.Image:
    """A row of pictures for each one compared and number of steps, in the order of the table; a column a unit."""
    rows = sorted(pictures, key=lambda key: (key[0] != OURS, key))
    return Image.fromarray(
        np.concatenate([np.concatenate([pictures[row][unit].numpy() for unit in units], 1) for row in rows])
    )


def _tasks(
    units: Sequence[int], variants: Mapping[str, Any], steps: Sequence[int], reference: int, parts: int, lucent: bool
) -> Iterator[Task]:
    """What there is to do, the longest first."""
    each = -(-len(units) // parts)
    wanted = sorted({*steps, reference}, reverse=True)
    if lucent:
        yield from (Task(LUCENT, (unit,), tuple(sorted(wanted))) for unit in units)
    for number in wanted:
        for name in variants:
            if name == OURS or number in steps:
                yield from (Task(name, tuple(units[at : at + each]), (number,)) for at in range(0, len(units), each))


Found = dict[tuple[int, int], tuple[float, Tensor]]  # unit, steps -> its score, and the picture in bytes


def _ready(case: Case, variants: Mapping[str, Mapping[str, Any]]) -> Callable[[Task], Found]:
    """Load the network; what is given then renders and judges."""
    keep_freed_memory()
    subject = case.subject
    node = subject.graph.objective_node(case.layer, direction=1)
    px = unit_size(subject.layer, subject.organism.input_size, case.recipe.max_size)

    def judged(unit: int, picture: Tensor) -> float:
        shown = (picture.permute(2, 0, 1) / 255).expand(2, -1, -1, -1).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            acts = subject.activations(node)(shown.to(subject.device))
            return Channel(torch.tensor([unit, unit], device=subject.device))(acts)[0].item()

    def do(task: Task) -> Found:
        made = {}
        if task.who == LUCENT:
            (unit,) = task.units
            torch.manual_seed(unit)
            np.random.seed(unit)  # that Lucent draws its views from
            found = peers.lucent_render(Cut(subject.graph, node), f"network_{node}", unit, px, task.steps, own=False)
            pictures = (found.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)
            made = {(unit, steps): picture for steps, picture in zip(task.steps, pictures, strict=True)}
        else:
            (steps,) = task.steps
            recipe = changed(case.recipe, {**variants[task.who], "ascent.steps": steps})
            made = {(row["unit"], steps): row["image"] for row in rendered(subject, task.units, recipe)}
        return {key: (judged(key[0], picture), picture) for key, picture in made.items()}

    return do


class Cut(nn.Module):
    """A network that ends at a node, for a library that runs whole networks and looks into them."""

    def __init__(self, network: Network, node: str):
        super().__init__()
        self.network, self.node = network, node

    def forward(self, pictures: Tensor) -> Tensor:
        acts: Tensor = self.network(pictures, [self.node])[0]
        return acts


def _has_lucent() -> bool:
    try:
        peers.lucent("optvis.render")
    except ExtraMissing:
        return False
    return True


def _told(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "": row["who"],
            "steps": row["steps"],
            "score": row["score"]["median"],
            "ratio": row["ratio"] and row["ratio"]["median"],
            "lower quartile": row["ratio"] and row["ratio"]["lower"],
            "upper": row["ratio"] and row["ratio"]["upper"],
        }
        for row in rows
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality")
    parser.add_argument("places", nargs="*", metavar="MODEL[/LAYER]")
    parser.add_argument("--units", type=int, default=4, help="of each layer, evenly spaced")
    parser.add_argument("--steps", type=int, nargs="*", default=(64, 128, 256, 512))
    parser.add_argument("--reference", type=int, default=1024, help="steps of what the others are compared with")
    parser.add_argument("--variant", action="append", metavar="NAME:PATH=VALUE,...", help="settings to try")
    parser.add_argument("--set", default="", metavar="PATH=VALUE,...", help="of every recipe of ours")
    parser.add_argument("--no-lucent", action="store_true")
    parser.add_argument("--quality", default="draft", choices=QUALITIES, help="that the recipe is taken from")
    parser.add_argument("--weights", default="pretrained", choices=("pretrained", "random"))
    parser.add_argument("--size", type=int, help="px on a side; by the receptive field")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, help="processes; one a core on a CPU, else 1")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="put a sheet of each layer's pictures there")
    parser.add_argument("--out", type=Path, default=report.FOLDER / "quality.json")
    return parser


if __name__ == "__main__":
    main()
