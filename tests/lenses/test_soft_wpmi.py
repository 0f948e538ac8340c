"""Soft-WPMI, as CLIP-Dissect has it: by hand, and beside a plain version in NumPy."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from microscope_atlas.lenses import soft_wpmi as module
from microscope_atlas.lenses.soft_wpmi import FLOOR, Constants, best, soft_wpmi


def plain(cosines: np.ndarray, responses: np.ndarray, c: Constants) -> np.ndarray:
    """Scores (units, texts), written as the paper has them, a unit, a picture and a text at a time."""
    shares = np.exp(c.temperature * cosines)
    shares /= shares.sum(1, keepdims=True)
    evidence = np.zeros((len(responses), cosines.shape[1]))
    for unit, answers in enumerate(responses):
        for rank, picture in enumerate(np.argsort(-answers, kind="stable")[: c.best]):
            if answers[picture] > 0:
                chance = c.first - rank / c.best * (c.first - c.last)
                evidence[unit] += np.log(1 + chance * (shares[picture] - 1) + FLOOR)
    return evidence - c.weight * np.log(np.exp(evidence).mean(0))


def test_score_by_hand() -> None:
    """Two pictures, two texts, each picture goes with one of them by a softmax of 3 to 1; of each unit the best one.

    p(t|B) is 1 + (3/4 - 1) / 2 = 7/8 for the picture's own text and 1 + (1/4 - 1) / 2 = 5/8 for the other; on average
    over the two units each text has 6/8.
    """
    constants = Constants(best=1, temperature=math.log(3), first=0.5, last=0.5)
    found = soft_wpmi(torch.eye(2).double(), torch.eye(2).double(), torch.tensor([[2.0, 1], [0, 3]]), constants, 2)
    assert found.texts.tolist() == [[0, 1], [1, 0]]
    assert (
        found.scores.tolist()
        == [[pytest.approx(math.log(7 / 6), abs=1e-6), pytest.approx(math.log(5 / 6), abs=1e-6)]] * 2
    )


def test_score_is_that_of_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 4)  # so that texts come in parts
    stream = torch.Generator().manual_seed(0)
    pictures = F.normalize(torch.randn(30, 6, generator=stream).double(), dim=1)
    texts = F.normalize(torch.randn(11, 6, generator=stream).double(), dim=1)
    responses = torch.randn(19, 30, generator=stream).double()
    constants = Constants(best=8, weight=0.7)
    found = soft_wpmi(pictures, texts, responses, constants, 11)
    expected = plain((pictures @ texts.T).numpy(), responses.numpy(), constants)
    order = np.argsort(-expected, 1, kind="stable")
    assert (found.texts.numpy() == order).all()
    assert found.scores.numpy() == pytest.approx(np.take_along_axis(expected, order, 1), abs=1e-9)


def test_of_equals_the_earlier_text_is_first_across_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    same = torch.ones(7, 1).double()
    found = soft_wpmi(torch.ones(4, 1).double(), same, torch.rand(3, 4).double(), Constants(best=2), 3)
    assert found.texts.tolist() == [[0, 1, 2]] * 3


def test_chances_fall_evenly_as_the_authors_have_them_and_unexciting_pictures_count_for_nothing() -> None:
    numbers, chances = best(torch.tensor([[0.0, 5, 1, -1]]).double(), Constants(best=4, first=0.9, last=0.5))
    assert numbers.tolist() == [[1, 2, 0, 3]]
    assert chances.tolist() == [[pytest.approx(0.9), pytest.approx(0.8), 0, 0]]


def test_defaults_are_those_of_the_paper() -> None:
    assert vars(Constants()) == {"best": 100, "temperature": 10.0, "first": 0.998, "last": 0.97, "weight": 1.0}
