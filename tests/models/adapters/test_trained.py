"""Settings that cannot be are refused where they are written, with the reason."""

from typing import Any

import pytest
from torch import nn

from microscope_atlas import Trained
from microscope_atlas.errors import NetworkFailed


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"mean": (123.675, 116.28, 103.53)},
            r"mean=\(123.675, .*that of pictures in \[0, 1\]: divide by 255",
        ),
        ({"std": (58.4, 57.1, 57.4)}, "std=.*divide by 255"),
        ({"std": (0.0, 1.0, 1.0)}, "std=.*above 0"),
        ({"std": (0.2, -0.2, 0.2)}, "std="),
        ({"mean": (0.5, float("nan"), 0.5)}, "mean=.*expected a number for each of 3 channels, or one for all"),
        ({"mean": (0.5, 0.5)}, "mean=.*expected a number for each of 3 channels"),
        ({"mean": 0.5}, r"mean=0\.5"),
        ({"mean": "0.5"}, "mean='0.5'"),
        ({"mean": (0.5,) * 3, "channels": 1}, "mean=.*for each of 1 channels"),
        ({"channels": 2}, r"channels=2\); expected 1 \(grey\), 3 \(RGB\), 4"),
        ({"channels": True}, "channels=True"),
        ({"input_size": 0}, "input_size=0.*px on a side"),
        ({"input_size": 32.0}, r"input_size=32\.0"),
        ({"input_size": (32, 32)}, r"input_size=\(32, 32\)"),
        ({"layers": "conv"}, r"layers='conv'\); expected several paths of modules"),
        ({"layers": [1]}, "layers=1"),
        ({"layers": None}, "layers=None"),
        ({"license": None}, "license=None.*leave it out where nobody states it"),
        ({"license": ""}, "license=''"),
        ({"license": "MIT\nand more"}, "license="),
        ({"title": " "}, "title=' '"),
        ({"dataset": None}, "dataset=None"),
        ({"classes": "abc"}, "classes='abc'.*names of the logits"),
        ({"classes": ()}, r"classes=\(\)"),
        ({"classes": [1, 2]}, "classes=1"),
        ({"module": lambda x: x}, "module='function'.*a torch.nn.Module"),
    ],
)
def test_setting_that_cannot_be_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(NetworkFailed, match=rf"Trained\({reason}"):
        Trained(**{"module": nn.Conv2d(3, 4, 3), "input_size": 32, **settings})


def test_lists_are_taken_as_they_come() -> None:
    given = Trained(nn.Conv2d(3, 4, 3), 32, mean=[0.5], std=[1, 1, 1], layers=["a"], classes=["b"])  # type: ignore[arg-type]
    assert (given.mean, given.std, given.layers, given.classes) == ((0.5,), (1.0, 1.0, 1.0), ("a",), ("b",))
