"""A network of one's own that does little but sleep, as long as its batch is large."""

import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from microscope_atlas.models.adapters.trained import Trained

NAME = "own:tests.run.engines.sleeping.network"
TOGETHER = "MICROSCOPE_ATLAS_TEST_TOGETHER"  # in the environment: how many processes begin at once, and a folder
SECONDS = 0.06  # for a picture


class Sleeping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 1)
        self.met = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.met and x.requires_grad:
            self.met = True
            _meet()
        time.sleep(SECONDS * len(x))
        return self.conv(x)  # type: ignore[no-any-return]


def _meet() -> None:
    """Wait for the other processes, so that the seconds in which they start are not counted."""
    if together := os.environ.get(TOGETHER):
        count, folder = together.split(":")
        (Path(folder) / str(os.getpid())).touch()
        while len(list(Path(folder).iterdir())) < int(count):
            time.sleep(0.01)


def network() -> Trained:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Trained(nn.Sequential(Sleeping()), input_size=8, layers=["0.conv"])
