"""Networks as a user may bring them."""

import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microscope_atlas.models.adapters.trained import Trained


class Residual(nn.Module):
    """Two convolutions and a sum, rectified by a function and in place."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.conv1(x), inplace=True)
        total = self.conv2(inner)
        total += x
        return total.relu_()


class Small(nn.Module):
    """A stem, a residual block, a head on maps with channels last, and logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2, padding=2), nn.BatchNorm2d(8), nn.ReLU6(inplace=True))
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.block = Residual(8)
        self.mixer = nn.Linear(8, 6)
        self.logits = nn.Linear(6, 4)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.pool(self.stem(x)))
        x = self.mixer(x.permute(0, 2, 3, 1))
        return self.logits(x.mean((1, 2)))


class Gated(nn.Module):
    """Smooth activations of narrow layers and odd sizes, and a squeeze-and-excitation gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, padding=1)
        self.squeeze, self.excite = nn.Conv2d(5, 3, 1), nn.Conv2d(3, 5, 1)
        self.conv = nn.Conv2d(5, 4, 3, padding=1)
        self.logits = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.stem(x))
        x = x * self.excite(F.silu(self.squeeze(x.mean((2, 3), keepdim=True)))).sigmoid()
        return self.logits(F.gelu(self.conv(x)).mean((2, 3)))


def gated() -> Trained:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Trained(Gated(), input_size=31)


def small() -> Trained:
    return Trained(_seeded(), input_size=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5), classes=("a", "b", "c", "d"))


def chosen() -> Trained:
    return Trained(_seeded(), input_size=32, layers=["block", "stem", "block.conv2"], license="CC0-1.0")


def never_called() -> Trained:
    return Trained(_seeded(), input_size=32, layers=["unused"])


def no_map() -> Trained:
    return Trained(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(2)), input_size=8, layers=["1"])


def no_such_module() -> Trained:
    return Trained(_seeded(), input_size=32, layers=["block.conv3"])


def slow() -> Trained:
    """Takes a minute to load, and says when it begins to."""
    Path(os.environ["LOADING"]).touch()
    time.sleep(60)
    return small()


def bare() -> nn.Module:
    return _seeded()


def _seeded() -> Small:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Small()
    module.stem[1].running_mean.fill_(0.1)  # type: ignore[operator, union-attr]
    return module


def empty() -> Trained:
    """With parameters that hold nothing, as those of prompts that are not used."""
    module = _seeded()
    module.prompts = nn.Parameter(torch.zeros(0, 8))
    module.places = nn.Parameter(torch.zeros(4, 0))
    return Trained(module, input_size=32)
