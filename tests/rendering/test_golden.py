"""Pictures that were right once: a change for speed leaves them alone.

`python -m tests.rendering.test_golden` writes them anew, for a change that means to change them.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from microscope_atlas.rendering.ascend import SETTLING_LONGER, Ascent, ascend
from microscope_atlas.rendering.objectives import Channel, Diverse, Neuron, Objective
from tests import toy

FILE = Path(__file__).with_name("golden.npz")
UNITS = torch.tensor([1, 1, 9, 9])
STEPS = 24
OBJECTIVES: dict[str, tuple[Objective, Ascent]] = {
    "channel": (Channel(UNITS), Ascent(STEPS)),
    "neuron": (Neuron(UNITS), Ascent(STEPS)),
    "diverse": (Diverse(Channel(UNITS), variants=2, weight=1.0), Ascent(STEPS)),
    "settling": (Channel(UNITS), replace(SETTLING_LONGER, steps=STEPS)),
}


def pictures(objective: Objective, settings: Ascent) -> np.ndarray:
    """(4, 3, 32, 32), RGB as bytes: few steps, so that another processor's rounding has not grown yet."""
    graph = toy.network()
    frames = ascend(lambda p: graph(p, ["mixed"])[0], objective, range(4), settings, 32, torch.device("cpu"))
    *_, last = frames
    return (last.pictures * 255).round().byte().numpy()


def test_pictures_are_those_of_before() -> None:
    with np.load(FILE) as golden:
        assert set(golden.files) == set(OBJECTIVES)
        for name, given in OBJECTIVES.items():
            far = np.abs(pictures(*given).astype(int) - golden[name].astype(int))
            assert far.max() <= 3, name
            assert golden[name].std() > 20, name


if __name__ == "__main__":
    torch.set_num_threads(1)
    np.savez_compressed(FILE, allow_pickle=False, **{name: pictures(*given) for name, given in OBJECTIVES.items()})
