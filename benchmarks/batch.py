"""How many pictures at once: seconds a unit and step, and memory, by the batch; and the pixels that it should have.

    python -m benchmarks.batch                                        # three layers
    python -m benchmarks.batch vgg19_caffe --device cuda --batches 16 64 256

For each layer it proposes the smallest batch that is within 3% of the fastest; for the recipe, which has as many
pictures in a batch as `batch_pixels` hold, the number of pixels that costs the layers least, as shares of what each
takes in its slowest batch. It changes nothing: `render --batch-pixels` does.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch

from benchmarks import report
from benchmarks.ours import settings
from benchmarks.throughput import case, each_layer, measured
from microscope_atlas.lenses.recipe import QUALITIES
from microscope_atlas.run.engines.local import num_cores

PLACES = ("efficientnet_lite0/blocks_2", "inceptionv1/mixed3a", "inceptionv1/mixed4c")
BATCHES = (4, 8, 16, 32, 64)
NEAR = 1.03  # times the fastest: what counts as no slower


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    workers = asked.workers or (num_cores() if torch.device(asked.device).type == "cpu" else 1)
    layers = []
    for place in each_layer(asked.places or PLACES):
        tried = []
        for batch in asked.batches:
            one = case(place, asked, {**settings(asked.set), "batch": batch, "batch_pixels": sys.maxsize})
            tried.append(measured(one, batch, asked.steps, asked.turns, workers, {}))
        layers.append({"layer": place, "size": tried[0]["size"], "proposed": proposed(tried), "batches": tried})
        print(place, layers[-1]["proposed"], flush=True)
    report.show(
        "milliseconds a unit and step, by pictures at once; and the most memory of a process, GB", _told(layers)
    )
    pixels = proposed_pixels(layers)
    print(f"--batch-pixels {pixels}")
    about = {**report.about(asked.device), "workers": workers}
    report.write(asked.out, about, settings=settings(asked.set), proposed_pixels=pixels, layers=layers)


def proposed(tried: Sequence[Mapping[str, Any]]) -> int:
    """The smallest batch that is about as fast as the fastest."""
    best = min(each["seconds_per_step"] for each in tried)
    return min(int(each["batch"]) for each in tried if each["seconds_per_step"] <= NEAR * best)


def proposed_pixels(layers: Sequence[Mapping[str, Any]]) -> int:
    """The fewest pixels of a batch that cost the layers least, each at the largest batch tried that has no more."""
    sizes: list[int] = sorted(each["batch"] * layer["size"] ** 2 for layer in layers for each in layer["batches"])
    return min(sizes, key=lambda pixels: statistics.fmean(_share(layer, pixels) for layer in layers))


def _share(layer: Mapping[str, Any], pixels: int) -> float:
    """Of the slowest batch's time, what a layer takes in batches of so many pixels."""
    least, *more = sorted(layer["batches"], key=itemgetter("batch"))
    chosen = [least, *(each for each in more if each["batch"] * layer["size"] ** 2 <= pixels)][-1]
    slowest = max(each["seconds_per_step"] for each in layer["batches"])
    return float(chosen["seconds_per_step"] / slowest) if slowest else 1.0


def _told(layers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "layer": layer["layer"],
            "px": layer["size"],
            **{f"{each['batch']}": 1e3 * each["seconds_per_step"] for each in layer["batches"]},
            **{f"GB {each['batch']}": each["peak_memory_bytes"] / 1e9 for each in layer["batches"]},
            "proposed": layer["proposed"],
        }
        for layer in layers
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch")
    parser.add_argument("places", nargs="*", metavar="MODEL[/LAYER]")
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES)
    parser.add_argument("--quality", default="standard", choices=QUALITIES)
    parser.add_argument("--steps", type=int, default=4, help="between the renders whose difference is taken")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--size", type=int, help="px on a side; by the receptive field")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, help="processes; one a core on a CPU, else 1")
    parser.add_argument("--set", default="", metavar="PATH=VALUE,...", help="of the recipe")
    parser.add_argument("--out", type=Path, default=report.FOLDER / "batch.json")
    return parser


if __name__ == "__main__":
    main()
