"""What `ascent.convolutions=fast` saves: single convolutions by their shape, and steps of whole layers, on one thread.

    python -m benchmarks.convolutions
    python -m benchmarks.convolutions inceptionv1/mixed4c --quality standard --shapes 0

Both ways take turns, forward and back to the input, in float32 and on random weights, which change no time. Of each the
lower quartile counts: what else the machine does can only add. The constants from where on each way is faster, in
rendering/convolutions.py, were chosen by the table of shapes.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, get_args

import torch
import torch.nn.functional as F

from benchmarks import report
from benchmarks.ours import Case, first, rendered, settings
from microscope_atlas.lenses.recipe import QUALITIES, changed
from microscope_atlas.models.networks.ops import STEADY
from microscope_atlas.rendering.convolutions import Convolutions, FastConvolutions
from microscope_atlas.run.engines.local import keep_freed_memory
from microscope_atlas.run.shard import one_thread

PLACES = (
    *("vgg19_caffe/conv3_4", "vgg19_caffe/conv4_2", "vgg19_caffe/conv5_1", "vgg19_caffe/fc6"),
    *("alexnet/conv5", "alexnet/fc8", "inceptionv1/mixed4c", "inceptionv1_caffe/inception_4c"),
    *("resnetv2_50_slim/block4_unit_2_conv2", "inceptionv4_slim/Mixed_5d", "efficientnet_lite0/blocks_6"),
)
CHANNELS = ((32, 64), (64, 64), (64, 192), (96, 208), (128, 128), (128, 192), (256, 256), (512, 512))
SIDES = (10, 14, 17, 20, 28, 56, 112)
SHAPES = (  # where it is in a network, batch, input channels, px on a side, output channels, kernel, stride, padding
    *(("3x3", 16, into, side, out, 3, 1, 1) for side in SIDES for into, out in CHANNELS if into * side <= 128 * 112),
    ("first of InceptionV1", 16, 3, 229, 64, 7, 2, 0),
    ("first of the BVLC GoogLeNet, a draft", 16, 3, 112, 64, 7, 2, 3),
    ("first of AlexNet", 15, 3, 227, 96, 11, 4, 0),
    ("first of EfficientNet-Lite0, a draft", 16, 3, 113, 32, 3, 2, 0),
    ("fc6 of VGG19", 16, 25088, 1, 4096, 1, 1, 0),
    ("fc6 of AlexNet", 15, 9216, 1, 4096, 1, 1, 0),
    ("logits of EfficientNet-Lite0", 16, 1280, 1, 1000, 1, 1, 0),
)
WAYS = get_args(Convolutions)


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    keep_freed_memory()
    with one_thread():
        shapes = [of_shape(*shape, turns=asked.turns) for shape in SHAPES[: asked.shapes]]
        report.show("milliseconds a sample, forward and back", shapes)
        layers = []
        for place in asked.places:
            layers.append(of_step(place, asked.quality, asked.steps, asked.units, asked.turns, settings(asked.set)))
            print(place, layers[-1]["times_faster"], flush=True)
    report.show(f"milliseconds a unit and step, {asked.quality} quality", layers)
    report.write(asked.out, {**report.about(), "quality": asked.quality}, shapes=shapes, layers=layers)


def of_shape(
    where: str, batch: int, into: int, side: int, out: int, kernel: int, stride: int, padding: int, turns: int
) -> dict[str, Any]:
    """One convolution, both ways."""
    x = torch.randn(batch, into, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(out, into, kernel, kernel).contiguous(memory_format=torch.channels_last)
    rest = (None, stride, padding, STEADY if kernel == 1 else 1)
    up = torch.randn_like(F.conv2d(x.detach(), weight, *rest))

    def do(way: str) -> None:
        with FastConvolutions() if way == "fast" else nullcontext():
            torch.autograd.grad(F.conv2d(x, weight, *rest), x, up)

    names = {"where": where, "into": into, "out": out, "px": side, "kernel": kernel}
    return {**names, **_compared(do, turns, batch)}


def of_step(place: str, quality: Any, steps: int, units: int, turns: int, changes: dict[str, Any]) -> dict[str, Any]:
    """A step of a layer's units, both ways: renders of so many."""
    model, _, layer = place.partition("/")
    fixed = {"ascent.precision": "float32", "robust_views": 0, "ascent.redirect_steps": 0, **changes}
    case = Case(model, layer, quality=quality, changes={**fixed, "ascent.steps": steps})
    subject, batch = case.subject, min(case.batch, units)
    assert subject.graph is not None  # loaded before anything is measured
    recipes = {way: changed(case.recipe, {"ascent.convolutions": way}) for way in WAYS}

    def do(way: str) -> None:
        rendered(subject, first(batch, subject.layer.units), recipes[way])

    return {"layer": place, "batch": batch, **_compared(do, turns, steps * batch)}


def _compared(do: Callable[[str], None], turns: int, parts: int) -> dict[str, float]:
    """Milliseconds that a part of it takes either way; which goes first changes with each turn."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(turns + 1):  # the first makes ready what the others use
        for way in WAYS if turn % 2 else reversed(WAYS):
            began = time.process_time()
            do(way)
            if turn:
                found[way].append(1e3 * (time.process_time() - began) / parts)
    low = {way: report.summed(each)["lower"] for way, each in found.items()}
    return {**low, "times_faster": round(low["direct"] / low["fast"], 2)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convolutions")
    parser.add_argument("places", nargs="*", default=PLACES, metavar="MODEL/LAYER")
    parser.add_argument("--quality", default="draft", choices=QUALITIES)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--units", type=int, default=16, help="at once, at most")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--shapes", type=int, default=len(SHAPES), help="so many of the single convolutions")
    parser.add_argument("--set", default="", metavar="PATH=VALUE,...", help="of the recipe")
    parser.add_argument("--out", type=Path, default=report.FOLDER / "convolutions.json")
    return parser


if __name__ == "__main__":
    main()
