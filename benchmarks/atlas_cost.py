"""What an atlas of everything costs: hours of this machine for each organism and each lens, at a quality.

    python -m benchmarks.atlas_cost                                              # drafts
    python -m benchmarks.atlas_cost --quality standard --device cuda --minutes 20
    python -m benchmarks.atlas_cost --throughput benchmarks/results/throughput.json

Some layers are measured, as many as the minutes allow, each through every lens: a short render of a few units tells the
seconds of a picture, and of a step of it. What lies between two measured layers is interpolated by their arithmetic
(FLOP of a picture forward and back), both on logarithmic scales; what lies outside is taken in proportion. Lenses that
only digest rows are measured once, and taken to cost each unit the same. Every rate in the JSON says which it is. It is
that of a layer alone; in the hours, layers that share a pass take less together.

The rates are of the machine, all its processes together, and without the seconds that a run takes to start.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import report
from benchmarks.ours import LENS, few, settings
from benchmarks.rates import Rate, Rates, arithmetic, digested, interpolated, measured, ready
from benchmarks.workers import Workers
from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.lenses.recipe import QUALITIES, changed
from microscope_atlas.lenses.registry import LENSES, UNASKED, lens
from microscope_atlas.models.catalog import CATALOG, organism
from microscope_atlas.run.costs import BESIDE
from microscope_atlas.run.engines.local import num_cores

LATER = ("contrastive_16x", "contrastive_4x", "contrastive_rn50")  # not in the atlas that is costed
NINE = tuple(name for name in CATALOG if name not in ("efficientnet_lite0", "efficientnet_lite1", *LATER))
NETWORK_LENSES = tuple(name for name in UNASKED if not LENSES[name].reads)  # of those that an atlas has unasked
DIGESTED = "inceptionv1/mixed3a"

Place = tuple[str, str]  # model, layer


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    on_cpu = torch.device(asked.device).type == "cpu"
    workers = asked.workers or (num_cores() if on_cpu else 1)
    units = asked.units or (4 if on_cpu else None)
    recipes = {name: lens(name).recipe(asked.quality) for name in NETWORK_LENSES}
    recipes[LENS] = changed(recipes[LENS], settings(asked.set))
    layers = {(model, layer.name): layer for model in asked.models for layer in organism(model).layers.values()}
    flop = {
        name: {place: arithmetic(name, recipe, place[0], layer) for place, layer in layers.items()}
        for name, recipe in recipes.items()
    }
    found: dict[str, dict[Place, Rates]] = {name: {} for name in recipes}
    start = time.monotonic()
    with Workers(workers, partial(ready, asked.device)) as us:
        for name, place in _chosen(layers, flop, found, start + 60 * asked.minutes):
            found[name][place] = measured(
                us, name, recipes[name], place[0], layers[place], few(asked.device), asked.steps, units
            )
            print(f"{time.monotonic() - start:5.0f} s  {name} {'/'.join(place)}", flush=True)
    if asked.throughput:
        for place, given in _given(asked.throughput, asked.quality).items():
            found[LENS][place] = {**given, **found[LENS].get(place, {})}
    digests = digested(asked.digest, asked.quality, asked.device, workers)
    rates = []
    for place, layer in layers.items():
        for name, recipe in recipes.items():
            here = found[name].get(place, {})
            seconds = _seconds(name, recipe, layer, found[name], flop[name][place], here)
            missing = [part for part in lens(name).parts(recipe) if part.name not in here]
            how = "interpolated" if not here else "in part measured" if missing else "measured"
            rates.append(_rate(name, place, layer, seconds, how))
        for name, each in digests.items():
            rates.append(_rate(name, place, layer, each * layer.units, f"as of {asked.digest}"))
    hours = _hours(rates)
    report.show(f"hours of this machine, {asked.quality} quality, {workers} processes", hours)
    about = {**report.about(asked.device), "workers": workers, "quality": asked.quality}
    report.write(asked.out, about, settings=settings(asked.set), hours=hours, rates=rates)


def _chosen(
    layers: Mapping[Place, Layer],
    flop: Mapping[str, Mapping[Place, float]],
    found: Mapping[str, Mapping[Place, Any]],
    deadline: float,
) -> Iterator[tuple[str, Place]]:
    """Lenses and places to measure until the deadline, those already found left out; each lens at least once.

    Of all layers in the order of their arithmetic: the one in the middle of the cost, then those at its quarters, and
    so on; so that most is known of what costs most.
    """
    ranked = {
        name: sorted(layers, key=lambda place, name=name: flop[name][place])  # type: ignore[misc]
        for name in flop
    }
    for share in _shares(4 * len(layers)):
        for name, places in ranked.items():
            total = sum(flop[name][place] * layers[place].units for place in places)
            so_far = 0.0
            for place in places:
                so_far += flop[name][place] * layers[place].units
                if so_far >= share * total:
                    break
            if place not in found[name] and (not found[name] or time.monotonic() < deadline):
                yield name, place


def _shares(count: int) -> Iterator[float]:
    """The first so many of 1/2, 1/4, 3/4, 1/8, 3/8, ..."""
    denominator, numerator = 2, 1
    for _ in range(count):
        yield numerator / denominator
        numerator += 2
        if numerator > denominator:
            denominator, numerator = 2 * denominator, 1


def _given(path: Path, quality: str) -> dict[Place, Rates]:
    """Of feature visualization what throughput.py has measured."""
    read = json.loads(path.read_text())
    if read["about"]["quality"] != quality:
        raise ValueError(f"{path} was measured for {read['about']['quality']} quality, not for {quality}")
    return {
        (row["model"], row["layer"]): {
            "fourier": Rate(row["flop_per_step"], row["seconds_per_step"], row["seconds_per_picture"])
        }
        for row in read["layers"]
    }


def _seconds(
    name: str,
    recipe: Any,
    layer: Layer,
    found: Mapping[Place, Mapping[str, Rate]],
    flop: float,
    here: Mapping[str, Rate],
) -> float:
    """Of a layer through a lens, whole."""
    total = 0.0
    for part in lens(name).parts(recipe):
        known = [rates[part.name] for rates in found.values() if part.name in rates]
        rate = here.get(part.name) or interpolated(known, flop)
        total += part.pictures * (part.steps * rate.step + rate.picture)
    return total * (layer.units if lens(name).level == "unit" and lens(name).divisible else 1)


def _rate(name: str, place: Place, layer: Layer, seconds: float, how: str) -> dict[str, Any]:
    return {
        "lens": name,
        "model": place[0],
        "layer": place[1],
        "units": layer.units,
        "seconds": report.rounded(seconds),
        "seconds_per_unit": report.rounded(seconds / layer.units),
        "how": how,
    }


def _hours(rates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each organism and one for all, a column for each lens and one for all; see `_together`."""
    table: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys((*UNASKED, "all"), 0.0))
    each: dict[tuple[str, str], list[float]] = defaultdict(list)
    for rate in rates:
        each[rate["model"], rate["lens"]].append(rate["seconds"])
    for (model, name), seconds in each.items():
        for row in (model, "all"):
            for column in (name, "all"):
                table[row][column] += _together(name, seconds) / 3600
    table["all"] = table.pop("all")  # the last row
    return [
        {"model": model, **{name: report.rounded(hours) for name, hours in row.items()}} for model, row in table.items()
    ]


def _together(name: str, seconds: Sequence[float]) -> float:
    """All layers of an organism through a lens; where they share a pass, less than each takes alone: see Costs."""
    shared = BESIDE if lens(name).shares_pass else 1.0
    return max(seconds) + shared * (sum(seconds) - max(seconds))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.atlas_cost")
    parser.add_argument("--quality", default="draft", choices=QUALITIES)
    parser.add_argument("--models", nargs="*", default=NINE, metavar="MODEL")
    parser.add_argument("--minutes", type=float, default=4, help="of measuring; each lens is measured at least once")
    parser.add_argument("--throughput", type=Path, metavar="JSON", help="take what throughput.py has measured")
    parser.add_argument("--units", type=int, help="of a measurement; 4 on a CPU, else the recipe's batch")
    parser.add_argument("--steps", type=int, default=4, help="between the renders whose difference is taken")
    parser.add_argument("--digest", default=DIGESTED, metavar="MODEL/LAYER", help="that digests are measured on")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, help="processes; one a core on a CPU, else 1")
    parser.add_argument("--set", default="", metavar="PATH=VALUE,...", help="of feature visualization's recipe")
    parser.add_argument("--out", type=Path, default=report.FOLDER / "atlas_cost.json")
    return parser


if __name__ == "__main__":
    main()
