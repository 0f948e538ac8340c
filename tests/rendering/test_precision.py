"""Lower precision makes pictures as good: on trained weights, where activations have their real ranges."""

from dataclasses import replace

import pytest
import torch

from microscope_atlas.models import weights
from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.rendering.ascend import Ascent, Frame, Precision, ascend
from microscope_atlas.rendering.objectives import Channel

UNITS = torch.arange(0, 24, 3)
SETTINGS = Ascent(steps=48)


@pytest.mark.long
def test_units_are_excited_as_much_in_bfloat16_as_in_float32() -> None:
    graph = weights.network(CATALOG["efficientnet_lite0"], weights.load(CATALOG["efficientnet_lite0"]))

    def made(precision: Precision) -> Frame:
        def activations(pictures: torch.Tensor) -> torch.Tensor:
            return graph(pictures, ["blocks_4"])[0]

        settings = replace(SETTINGS, precision=precision)
        *_, frame = ascend(activations, Channel(UNITS), range(len(UNITS)), settings, 64, torch.device("cpu"))
        return frame

    lower, exact = made("bfloat16"), made("float32")
    assert not torch.equal(lower.pictures, exact.pictures)
    assert (exact.scores > 0).all()
    assert abs((lower.scores / exact.scores).log().mean()) < 0.03
