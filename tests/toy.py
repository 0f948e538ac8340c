"""A small network that rounds and rectifies as real ones do, and some whose answers are known by hand."""

import torch
from torch import Tensor, nn

from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.ops import Concat, LocalResponseNorm, Preprocess, steady_rounding


def network() -> Graph:
    """Convolutions, local response norm, pools and a concatenation, with weights drawn from a fixed seed."""
    g = network_to_be_initialised()
    stream = torch.Generator().manual_seed(0)
    for parameter in g.parameters():
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
        nn.init.normal_(parameter, std=(2 / fan_in) ** 0.5 if parameter.dim() > 1 else 0.1, generator=stream)
    steady_rounding(g)
    return g.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[no-any-return, call-overload]


def network_to_be_initialised() -> Graph:
    g = Graph()
    x = g.add("input", Preprocess((117.0, 117.0, 117.0), std=60.0))
    x = g.add("conv1", nn.ReLU(), g.add("conv1_pre", nn.Conv2d(3, 16, 5, stride=2, padding=2), x))
    x = g.add("norm1", LocalResponseNorm(5, 1e-2, 0.75, 1.0), x)
    x = g.add("pool1", nn.MaxPool2d(3, 2, padding=1), x)
    one = g.add("mixed_1x1", nn.Conv2d(16, 8, 1), x)
    three = g.add("mixed_3x3", nn.Conv2d(16, 24, 3, padding=1), x)
    x = g.add("mixed", nn.ReLU(), g.add("mixed_pre", Concat(), one, three))
    x = g.add("flat", nn.AdaptiveAvgPool2d(1), x)
    g.add("logits", nn.Linear(32, 10), g.add("flat1", nn.Flatten(), x))
    return g


def redness(pictures: Tensor) -> Tensor:
    """One unit whose activation is red minus the mean of green and blue, at every pixel: its best picture is red."""
    return pictures[:, :1] - pictures[:, 1:].mean(1, keepdim=True)


def handmade() -> Graph:
    """Two layers and two classes whose answers can be worked out by hand; pictures are shown to them in -1..1.

    conv1  0  edge: right column minus left column of a 3 x 3 window, all colours added: rising brightness
           1  red: red minus the mean of green and blue, at the position itself
           2  dark: minus the mean of the colours, at the position itself
    conv2  0  edge plus red, at the position itself
           1  twice the edge one position to the left, minus red
    logits 0  the mean of conv2's first unit
           1  the mean of its second minus the mean of its first
    """
    g = Graph()
    x = g.add("input", Preprocess((127.5, 127.5, 127.5), std=127.5))
    x = g.add("conv1", nn.ReLU(), g.add("conv1_pre", nn.Conv2d(3, 3, 3, padding=1), x))
    x = g.add("conv2", nn.ReLU(), g.add("conv2_pre", nn.Conv2d(3, 2, 3, padding=1), x))
    x = g.add("flat", nn.Flatten(), g.add("pool", nn.AdaptiveAvgPool2d(1), x))
    g.add("logits", nn.Linear(2, 2), x)
    with torch.no_grad():
        for parameter in g.parameters():
            parameter.zero_()
        conv1, conv2, logits = (g.get_submodule(name).weight for name in ("conv1_pre", "conv2_pre", "logits"))
        conv1[0, :, :, 0], conv1[0, :, :, 2] = -1.0, 1.0
        conv1[1, :, 1, 1] = torch.tensor([1.0, -0.5, -0.5])
        conv1[2, :, 1, 1] = -1 / 3
        conv2[0, 0, 1, 1] = conv2[0, 1, 1, 1] = 1.0
        conv2[1, 0, 1, 0], conv2[1, 1, 1, 1] = 2.0, -1.0
        logits[0, 0] = 1.0
        logits[1, 0], logits[1, 1] = -1.0, 1.0
    return g.eval().requires_grad_(False)


HANDMADE_LAYERS: dict[str, str | None] = {"conv1": None, "conv2": None, "logits": None}
