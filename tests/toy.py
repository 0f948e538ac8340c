"""A small network that rounds and rectifies as real ones do, and one whose answers are known by hand."""

import torch
from torch import Tensor, nn

from generate.models.graph import Graph
from generate.models.ops import Concat, LocalResponseNorm, Preprocess, steady_rounding


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
