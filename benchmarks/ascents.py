r"""What a lens' ascent reaches under other settings: the scores of its rows, plain and in random views.

    python -m benchmarks.ascents deepdream efficientnet_lite0/blocks_6 --against "longer: ascent.steps=256"
    python -m benchmarks.ascents feature_visualization efficientnet_lite0/blocks_6 --units 6 \
        --set "methods=('maco',)" --variant "fewer: maco.steps=48" --against "longer: maco.steps=128"
    python -m benchmarks.ascents deepdream --against "$V01,ascent.steps=128"  # version 0.1's; quality.py has V01

Any lens whose rows have a `score` and a `robust_score`: see quality.py for why both. The lens makes its rows as it does
in an atlas; the network judges in float32 whatever the ascent's precision, in 24 random views. A ratio is a row's score
over that of the same row under the settings of --against, without their signs: silencing pictures score below zero.
Rows that score nothing there are left out.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.ours import Case, settings
from benchmarks.quality import OURS, ROBUST_VIEWS, spaced, variant
from benchmarks.throughput import each_layer
from benchmarks.workers import Workers
from microscope_atlas.lenses.recipe import QUALITIES, changed
from microscope_atlas.lenses.registry import lens
from microscope_atlas.run.engines.local import keep_freed_memory, num_cores

PLACES = ("efficientnet_lite0/blocks_6", "inceptionv1_caffe/inception_4c")
SCORES = ("score", "robust_score")

Name = tuple[Any, ...]  # what tells a row of a layer from its others
Scores = dict[Name, tuple[float | None, ...]]
Task = tuple[str, tuple[int, ...]]  # whose settings, and the units


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    one = lens(asked.lens)
    against, changes = variant(asked.against)
    variants = {OURS: {}, **dict(map(variant, asked.variant or ())), against: changes}
    workers = asked.workers or num_cores()
    layers = []
    for place in each_layer(asked.places or PLACES):
        model, _, layer = place.partition("/")
        case = Case(model, layer, asked.device, asked.weights)
        units = spaced(asked.units, case.subject.layer.units, asked.offset)
        parts = [tuple(units[at::workers]) for at in range(workers)] if one.divisible else [tuple(units)]
        tasks = [(who, part) for who in variants for part in parts if part]
        found: dict[str, Scores] = {}
        made = partial(_ready, case, asked.lens, asked.quality, settings(asked.set), variants)
        with Workers(min(workers, len(tasks)), made) as us:
            for (who, _), scores in us.spread(tasks):
                found.setdefault(who, {}).update(scores)
        rows = list(compared(found, against))
        layers.append({"layer": place, "units": units if one.divisible else None, "of": rows})
        report.show(f"{asked.lens} of {place}, {len(found[against])} rows, over {against}", _told(rows))
    named = {name: {**settings(asked.set), **changes} for name, changes in variants.items()}
    about = {**report.about(asked.device), "lens": asked.lens, "quality": asked.quality}
    report.write(asked.out, about, against=against, settings=named, layers=layers)


def compared(found: Mapping[str, Scores], against: str) -> Iterator[dict[str, Any]]:
    """Of each one's settings: mean ratio of its rows' scores to those of `against`, with its standard error."""
    for who, own in found.items():
        yield {"who": who, **{kind: _ratio(own, found[against], at) for at, kind in enumerate(SCORES)}}


def _ratio(own: Scores, best: Scores, at: int) -> dict[str, Any] | None:
    pairs = [(own[name][at], scores[at]) for name, scores in best.items()]
    ratios = [abs(mine) / abs(there) for mine, there in pairs if mine is not None and there]
    return report.averaged(ratios)


def _ready(
    case: Case, name: str, quality: Any, shared: Mapping[str, Any], variants: Mapping[str, Mapping[str, Any]]
) -> Callable[[Task], Scores]:
    """Load the network; what is given then makes rows."""
    keep_freed_memory()
    subject, one = case.subject, lens(name)
    keys = [column.name for column in one.table.columns if column.key]

    def do(task: Task) -> Scores:
        who, units = task
        recipe = changed(one.recipe(quality), {"robust_views": ROBUST_VIEWS, **shared, **variants[who]})
        every = (row for rows in one.rows(subject, units, recipe) for row in rows)
        return {tuple(row.get(key) for key in keys): tuple(row[kind] for kind in SCORES) for row in every}

    return do


def _told(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"": row["who"], **{kind: row[kind] and f"{row[kind]['mean']} ± {row[kind]['error']}" for kind in SCORES}}
        for row in rows
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ascents")
    parser.add_argument("lens")
    parser.add_argument("places", nargs="*", metavar="MODEL[/LAYER]")
    parser.add_argument("--units", type=int, default=4, help="of each layer, evenly spaced, where a lens has units")
    parser.add_argument("--offset", type=int, default=0, help="of the first unit")
    parser.add_argument("--variant", action="append", metavar="NAME:PATH=VALUE,...", help="settings to try")
    parser.add_argument("--against", required=True, metavar="NAME:PATH=VALUE,...", help="settings to compare with")
    parser.add_argument("--set", default="", metavar="PATH=VALUE,...", help="of every recipe")
    parser.add_argument("--quality", default="draft", choices=QUALITIES, help="that the recipe is taken from")
    parser.add_argument("--weights", default="pretrained", choices=("pretrained", "random"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, help="processes; one a core")
    parser.add_argument("--out", type=Path, default=report.FOLDER / "ascents.json")
    return parser


if __name__ == "__main__":
    main()
