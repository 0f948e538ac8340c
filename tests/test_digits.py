"""A vision transformer trained on the spot: its neurons answer strokes, and their pictures show them."""

from pathlib import Path

import pytest
import torch

from tests.models import digits

pytestmark = pytest.mark.long  # four minutes, two of them to train it


def test_pictures_of_neurons_have_the_strokes_of_the_digits_that_excite_them(tmp_path: Path) -> None:
    module = digits.network().module
    assert digits.accuracy(module) >= 0.9
    shown = digits.shown(tmp_path, workers=1)
    assert len(shown) == digits.SHOWN
    alike = [digits.apart(digits.orientation(each.made), digits.orientation(each.samples)) <= 30 for each in shown]
    assert sum(alike) >= 8  # by chance four of twelve


def test_orientation_of_stripes() -> None:
    at = torch.arange(32.0)
    upright = (at / 2).sin().expand(32, 32)
    assert digits.orientation(upright) == pytest.approx(90, abs=1e-3)
    assert digits.apart(digits.orientation(upright.T), 0) < 1e-3
    rising = ((at[:, None] + at[None, :]) / 3).sin()  # as a slash, since rows are counted downwards
    assert digits.orientation(rising) == pytest.approx(45, abs=1e-3)
    assert digits.orientation(rising.flip(1)) == pytest.approx(135, abs=1e-3)
