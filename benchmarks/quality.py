"""How good pictures are after so many steps: their scores, plain and in random views, beside those of a longer ascent.

    python -m benchmarks.quality                                              # 1,024 steps, 4 units
    python -m benchmarks.quality --reference 4096 --units 8
    python -m benchmarks.quality --variant "slow: ascent.learning_rate=0.02"  # other settings, as many as named
    python -m benchmarks.quality --steps 64 --reference 128 --against "$V01"  # beside the recipe of version 0.1:
    # V01="0.1: ascent.learning_rate=0.05,ascent.last_learning_rate=None,ascent.beta1=0.9,ascent.beta2=0.999"

Ours, ours with the settings of each --variant, which is bfloat16 unless others are named, and Lucent's, where it is
installed, on the same trained network, units and number of px. Every picture, in bytes as an atlas stores it, is judged
by the same network in float32, by the mean of the unit over the picture: `score` on the picture as it is, `robust` as
the mean over 24 random views of it, turned, scaled and shifted as far as while it was made. A score alone misleads: it
rises where the views of the last steps come close to the plain picture, and the robust score falls. A ratio is a unit's
score over what our recipe, or the one of --against, reaches for that unit with the reference's steps. Lucent optimises
one unit at a time in its own views; random streams differ. `saturated` is the share of values within 2 of 0 or 255.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
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
from microscope_atlas.lenses.geometry import shift, unit_size
from microscope_atlas.lenses.lens import Subject
from microscope_atlas.lenses.recipe import QUALITIES, changed
from microscope_atlas.models.networks.network import Network
from microscope_atlas.rendering.objectives import Channel, similarity
from microscope_atlas.rendering.views import Views, draw_views, sample_views
from microscope_atlas.run.engines.local import keep_freed_memory, num_cores

PLACES = ("inceptionv1_caffe/inception_4c", "efficientnet_lite0/blocks_6")
VARIANTS = ("bfloat16: ascent.precision=bfloat16",)  # where none is asked for; drafts are in float32
OURS, LUCENT = "ours", "Lucent"
SCORES = ("score", "robust")
ROBUST_VIEWS = 24


@dataclass(frozen=True)
class Judged:
    """A picture, and how good it is."""

    picture: Tensor  # (size, size, 3) in bytes
    score: float
    robust: float
    agreement: float | None = None  # with the same unit's of another seed, 0 to 1

    @property
    def saturated(self) -> float:
        """The share of its values that are as dark or as light as can be."""
        return ((self.picture < 2) | (self.picture > 253)).float().mean().item()


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
    against, changes = variant(asked.against) if asked.against else (OURS, {})
    variants = {OURS: {}, **dict(map(variant, asked.variant or (() if asked.against else VARIANTS))), against: changes}
    wanted = {name: {*asked.steps} for name in variants}
    wanted[against] = {*(asked.steps if against == OURS else ()), asked.reference}
    lucent = not asked.no_lucent and _has_lucent()
    layers = []
    for place in each_layer(asked.places or PLACES):
        model, _, layer = place.partition("/")
        case = Case(model, layer, asked.device, asked.weights, asked.quality, settings(asked.set), asked.size)
        units = spaced(asked.units, case.subject.layer.units, asked.offset)
        tasks = list(_tasks(units, wanted, workers if on_cpu else 1, lucent))
        found: Found = {}
        with Workers(workers, partial(_ready, case, variants, asked.seeds)) as us:
            for task, made in us.spread(tasks):
                for (unit, steps), judged in made.items():
                    found.setdefault((task.who, steps), {})[unit] = judged
        rows = compared(units, found, (against, asked.reference))
        layers.append({"layer": place, "units": units, "of": rows})
        report.show(f"{place}, {len(units)} units, over {asked.reference} steps of {against}", _told(rows))
        if asked.pictures:
            asked.pictures.mkdir(parents=True, exist_ok=True)
            sheet(units, found).save(asked.pictures / f"{model}-{layer}.png")
    about = {**report.about(asked.device, ("torch-lucent",)), "quality": asked.quality, "reference": asked.reference}
    named = {name: {**settings(asked.set), **changes} for name, changes in variants.items()}
    not_measured = {} if lucent else {LUCENT: "left out" if asked.no_lucent else "not installed"}
    report.write(asked.out, about, against=against, settings=named, not_measured=not_measured, layers=layers)


def variant(text: str) -> tuple[str, dict[str, Any]]:
    """`NAME: PATH=VALUE,...`, as the command line has it."""
    name, separator, changes = text.partition(":")
    if not separator or name.strip() in ("", OURS, LUCENT):
        raise ValueError(f"{text!r} is no variant; expected NAME: PATH=VALUE,..., of a name that is not taken")
    return name.strip(), settings(changes)


def spaced(count: int, num_units: int, offset: int = 0) -> list[int]:
    """So many of a layer's units, evenly spaced from number `offset`."""
    return sorted({(at * num_units // count + offset) % num_units for at in range(count)})


Found = dict[tuple[str, int], dict[int, Judged]]  # who, steps -> unit -> its picture


def compared(units: Sequence[int], found: Found, reference: tuple[str, int]) -> list[dict[str, Any]]:
    """Of each one compared and number of steps: scores, and their ratio to the reference's unit by unit."""
    return [
        {
            "who": who,
            "steps": steps,
            **{kind: report.summed([getattr(own[unit], kind) for unit in units]) for kind in SCORES},
            **{f"{kind}_ratio": ratio(kind, units, own, found[reference]) for kind in SCORES},
            "saturated": report.rounded(statistics.mean(own[unit].saturated for unit in units)),
            "agreement": _mean([own[unit].agreement for unit in units]),
            "scores": [report.rounded(own[unit].score, 6) for unit in units],
        }
        for (who, steps), own in sorted(found.items(), key=_order)
    ]


def sheet(units: Sequence[int], found: Found) -> Image.Image:
    """A row of pictures for each one compared and number of steps, in the order of the table; a column a unit."""
    rows = [[made[unit].picture.numpy() for unit in units] for _, made in sorted(found.items(), key=_order)]
    return Image.fromarray(np.concatenate([np.concatenate(row, 1) for row in rows]))


def _order(item: tuple[tuple[str, int], Any]) -> tuple[bool, tuple[str, int]]:
    return item[0][0] != OURS, item[0]


def ratio(
    kind: str, units: Sequence[int], own: Mapping[int, Judged], best: Mapping[int, Judged]
) -> dict[str, Any] | None:
    """Of scores to the reference's: mean with its standard error, median, quartiles; None where all are silent."""
    ratios = [getattr(own[unit], kind) / getattr(best[unit], kind) for unit in units if getattr(best[unit], kind) > 0]
    return report.averaged(ratios)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return report.rounded(statistics.mean(known)) if known else None


def _tasks(units: Sequence[int], wanted: Mapping[str, set[int]], parts: int, lucent: bool) -> Iterator[Task]:
    """What there is to do, the longest first."""
    each = -(-len(units) // parts)
    every = sorted(set().union(*wanted.values()), reverse=True)
    if lucent:
        yield from (Task(LUCENT, (unit,), tuple(sorted(every))) for unit in units)
    for number in every:
        for name in (name for name, steps in wanted.items() if number in steps):
            yield from (Task(name, tuple(units[at : at + each]), (number,)) for at in range(0, len(units), each))


class Reseeded(Subject):
    """A subject whose pictures have other random streams."""

    def key(self, unit: int | None = None) -> str:
        return f"{super().key(unit)}, again"


class Judge:
    """What a layer's network, in float32, thinks of pictures of its units, plain and in random views."""

    def __init__(self, subject: Subject, views: Views):
        """`views` are those that pictures are made in."""
        self._subject, self._node = subject, subject.graph.objective_node(subject.layer.name, direction=1)
        kind = replace(views, shift=shift(subject.layer, views.shift))
        self._views = draw_views([torch.Generator().manual_seed(at) for at in range(ROBUST_VIEWS)], 1, kind)[0]

    def __call__(self, unit: int, picture: Tensor, other: Tensor | None = None) -> Judged:
        """A picture of bytes, (size, size, 3); `other` is the same unit's of another seed."""
        shown = (picture.permute(2, 0, 1) / 255)[None]
        in_views = sample_views(shown.expand(ROBUST_VIEWS, -1, -1, -1), self._views, len(picture))
        activity = Channel(torch.tensor([unit] * (ROBUST_VIEWS + 1)))(self._seen(torch.cat([shown, in_views])))
        plain, *others = activity.tolist()
        alike = None
        if other is not None:
            pair = torch.cat([shown, (other.permute(2, 0, 1) / 255)[None]])
            alike = similarity(self._seen(pair), 2)[0].item()
        return Judged(picture, plain, statistics.mean(others), alike)

    def _seen(self, pictures: Tensor) -> Tensor:
        with torch.no_grad():
            shown = pictures.contiguous(memory_format=torch.channels_last)
            return self._subject.activations(self._node)(shown.to(self._subject.device))


def _ready(
    case: Case, variants: Mapping[str, Mapping[str, Any]], seeds: bool
) -> Callable[[Task], dict[tuple[int, int], Judged]]:
    """Load the network; what is given then renders and judges."""
    keep_freed_memory()
    subject = case.subject
    again = Reseeded(**{each.name: getattr(subject, each.name) for each in fields(subject)})
    px = unit_size(subject.layer, subject.organism.input_size, case.recipe.max_size)
    judged = Judge(subject, case.recipe.ascent.views)

    def do(task: Task) -> dict[tuple[int, int], Judged]:
        made: dict[tuple[int, int], tuple[Tensor, Tensor | None]] = {}
        if task.who == LUCENT:
            (unit,) = task.units
            pictures = by_lucent(subject, unit, px, task.steps)
            made = {(unit, steps): (picture, None) for steps, picture in zip(task.steps, pictures, strict=True)}
        else:
            (steps,) = task.steps
            recipe = changed(case.recipe, {"ascent.steps": steps, "robust_views": 0, **variants[task.who]})
            rows = rendered(subject, task.units, recipe)
            others = rendered(again, task.units, recipe) if seeds else [{"image": None}] * len(rows)
            made = {
                (row["unit"], steps): (row["image"], other["image"]) for row, other in zip(rows, others, strict=True)
            }
        return {key: judged(key[0], *pictures) for key, pictures in made.items()}

    return do


def by_lucent(subject: Subject, unit: int, px: int, steps: Sequence[int]) -> Tensor:
    """Lucent's pictures of a unit after each of `steps`, by its own recipe: bytes, (steps, px, px, 3)."""
    torch.manual_seed(unit)
    np.random.seed(unit)  # that Lucent draws its views from
    node = subject.graph.objective_node(subject.layer.name, direction=1)
    shown = peers.lucent_render(Cut(subject.graph, node), f"network_{node}", unit, px, steps, own=False)
    return (shown.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)


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
            **{
                f"{kind} ratio": ratio and f"{ratio['mean']} ± {ratio['error']}"
                for kind, ratio in ((kind, row[f"{kind}_ratio"]) for kind in SCORES)
            },
            "saturated": row["saturated"],
            "agreement": row["agreement"],
        }
        for row in rows
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality")
    parser.add_argument("places", nargs="*", metavar="MODEL[/LAYER]")
    parser.add_argument("--units", type=int, default=4, help="of each layer, evenly spaced")
    parser.add_argument(
        "--offset", type=int, default=0, help="of the first unit: for others than a recipe was chosen by"
    )
    parser.add_argument("--steps", type=int, nargs="*", default=(64, 128, 256, 512))
    parser.add_argument("--reference", type=int, default=1024, help="steps of what the others are compared with")
    parser.add_argument("--variant", action="append", metavar="NAME:PATH=VALUE,...", help="settings to try")
    parser.add_argument(
        "--against", metavar="NAME:PATH=VALUE,...", help="settings of what the others are compared with"
    )
    parser.add_argument("--seeds", action="store_true", help="render all twice, and say how alike the two are")
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
