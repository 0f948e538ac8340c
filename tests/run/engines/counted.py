"""A network of one's own that notes each time that it is asked for."""

import os
from pathlib import Path

import torch
from torch import nn

from microscope_atlas.models.adapters.trained import Trained

NAME = "own:tests.run.engines.counted.network"
NOTES = "MICROSCOPE_ATLAS_TEST_NOTES"  # the file, in the environment


def network() -> Trained:
    if path := os.environ.get(NOTES):
        with Path(path).open("a") as file:
            file.write(f"{os.getpid()}\n")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Trained(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)), input_size=16)
