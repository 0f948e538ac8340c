"""Pictures that were right once: a change for speed leaves them alone.

`python -m tests.rendering.test_golden` writes them anew, for a change that means to change them.
"""

from pathlib import Path

import numpy as np
import torch

from microscope_atlas.rendering.ascend import Ascent, ascend
from microscope_atlas.rendering.objectives import Channel, Diverse, Neuron, Objective
from tests import toy

FILE = Path(__file__).with_name("golden.npz")
UNITS = torch.tensor([1, 1, 9, 9])
OBJECTIVES: dict[str, Objective] = {
    "channel": Channel(UNITS),
    "neuron": Neuron(UNITS),
    "diverse": Diverse(Channel(UNITS), variants=2, weight=1.0),
}


def pictures(objective: Objective) -> np.ndarray:
    """(4, 3, 32, 32), RGB as bytes: few steps, so that another processor's rounding has not grown yet."""
    graph = toy.network()
    frames = ascend(lambda p: graph(p, ["mixed"])[0], objective, range(4), Ascent(steps=24), 32, torch.device("cpu"))
    *_, last = frames
    return (last.pictures * 255).round().byte().numpy()


def test_pictures_are_those_of_before() -> None:
    with np.load(FILE) as golden:
        assert set(golden.files) == set(OBJECTIVES)
        for name, objective in OBJECTIVES.items():
            far = np.abs(pictures(objective).astype(int) - golden[name].astype(int))
            assert far.max() <= 3, name
            assert golden[name].std() > 20, name


if __name__ == "__main__":
    torch.set_num_threads(1)
    np.savez_compressed(FILE, allow_pickle=False, **{name: pictures(o) for name, o in OBJECTIVES.items()})
