import numpy as np
import pytest
import torch
from torch import Tensor

from microscope_atlas.lenses import correlation
from microscope_atlas.lenses.correlation import Nearest, standardized, varying


def drawn(units: int, pictures: int = 64, seed: int = 0) -> Tensor:
    """Answers with a common part, so that correlations are of every size."""
    stream = np.random.default_rng(seed)
    values = stream.normal(size=(units, pictures)) + stream.normal(size=(units, 1)) * stream.normal(size=pictures)
    return torch.tensor(np.maximum(values, 0), dtype=torch.float32)


def nearest(own: Tensor, places: list[int], parts: list[tuple[Tensor, list[int]]], most: int) -> list[dict[int, float]]:
    near = Nearest(standardized(own), places, most)
    for answers, there in parts:
        near.see(standardized(answers), there)
    return [dict(found) for found in near.found()]


def test_correlations_are_those_of_numpy_highest_first() -> None:
    answers = drawn(40)
    expected = np.corrcoef(answers.numpy().astype(np.float64))
    np.fill_diagonal(expected, -2)
    for unit, found in enumerate(nearest(answers, list(range(40)), [(answers, list(range(40)))], 7)):
        assert list(found) == np.argsort(-expected[unit])[:7].tolist()
        assert list(found.values()) == pytest.approx(np.sort(expected[unit])[:-8:-1], abs=6e-6)


def test_parts_and_their_lengths_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, places = drawn(50, pictures=2048), list(range(50))
    whole = nearest(answers[:9], places[:9], [(answers, places)], 10)
    monkeypatch.setattr(correlation, "ROWS", 2)
    for length in (1, 7, 33):
        parts = [(answers[at : at + length], places[at : at + length]) for at in range(0, 50, length)]
        assert nearest(answers[:9], places[:9], parts, 10) == whole
    assert nearest(answers[4:5], [4], [(answers, places)], 10) == whole[4:5]


def test_ties_go_to_the_first() -> None:
    answers = drawn(6)
    twins = torch.cat([answers[:1], answers[1:2].repeat(30, 1), answers[:1] * 2])
    (found,) = nearest(answers[:1], [0], [(twins[:17], list(range(17))), (twins[17:], list(range(17, 32)))], 5)
    assert list(found) == [31, 1, 2, 3, 4]
    assert found[31] == 1
    assert len({found[at] for at in (1, 2, 3, 4)}) == 1


def test_opposites_are_last() -> None:
    rising = torch.arange(8.0)[None]
    (found,) = nearest(rising, [0], [(torch.cat([-rising, rising, rising.square()]), [1, 2, 3])], 3)
    assert list(found) == [2, 3, 1]
    assert (found[2], found[1]) == (1, -1)


def test_few_others_give_few() -> None:
    assert nearest(drawn(1), [0], [(drawn(1), [0])], 3) == [{}]


def test_what_is_constant_or_not_finite_varies_not() -> None:
    answers = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 1e-6], [0.0, torch.nan, 1.0], [0.0, torch.inf, 1.0]])
    assert varying(answers).tolist() == [False, True, False, False]


def test_products_are_exact() -> None:
    answers = standardized(drawn(200, pictures=2048))
    backwards = answers.flip(1)
    assert torch.equal(answers @ answers.T, backwards @ backwards.T)
    assert torch.equal(answers, answers.round())
    assert float((answers @ answers.T).abs().max()) < 2**53
