"""Attribution, of functions whose answers are worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from microscope_atlas.rendering.attribution import Unreached, attribute

# two units on a map of 1 x 2
ACTS = torch.tensor([[[1.0, 2.0]], [[3.0, 0.5]]])


def linear(acts: Tensor) -> Tensor:
    """2 a at the left, -b at the right, and 5."""
    return 2 * acts[:, 0, 0, 0] - acts[:, 1, 0, 1] + 5


def rectified(acts: Tensor) -> Tensor:
    """`3 relu(a_left - b_left + 4) - 2 relu(a_right - 3) + relu(b_right + 1) - 1`, a hidden layer of three and a sum.

    At ACTS the hidden ones are 2, 0 (from -1) and 1.5: 3 * 2 + 1.5 - 1 = 6.5.
    """
    a, b = acts[:, 0, 0], acts[:, 1, 0]
    hidden = [a[:, 0] - b[:, 0] + 4, a[:, 1] - 3, b[:, 1] + 1]
    first, second, third = (each.relu() for each in hidden)
    return 3 * first - 2 * second + third - 1


def test_of_what_is_linear_all_is_explained() -> None:
    made = attribute(ACTS, linear)
    assert made.amounts.tolist() == [[[2.0, 0.0]], [[0.0, -0.5]]]
    assert made.units.tolist() == [2.0, -0.5]
    assert made.places.tolist() == [[2.0, -0.5]]
    assert (made.target, made.total, made.remainder, made.at_zero) == (6.5, 1.5, 5.0, 5.0)
    assert made.explained == 1 and made.nonlinear == ()


def test_of_what_is_rectified_the_sum_is_the_target_without_what_biases_give() -> None:
    made = attribute(ACTS, rectified)
    assert made.amounts.tolist() == [[[3.0, 0.0]], [[-9.0, 0.5]]]  # what is below zero lets nothing through
    assert made.target == 6.5
    assert made.remainder == 3 * 4 + 1 - 1 == made.target - made.total  # biases, each through the piece's own slopes
    assert made.nonlinear == ()
    # the whole layer silent: 3 * 4 + 1 - 1 = 12, so the target rises by 5.5, which the sum of -5.5 foresees
    assert made.at_zero == 12 and made.explained == 1


def test_what_is_explained_falls_short_where_a_silent_layer_is_in_another_piece() -> None:
    made = attribute(torch.tensor([2.0, 1.0]), lambda acts: (acts.sum(1) - 1).relu())
    assert (made.target, made.total, made.at_zero) == (2.0, 3.0, 0.0)
    assert made.explained == 1.5


def test_silenced_units_fall_as_far_as_by_hand() -> None:
    made = attribute(ACTS, rectified)
    # without a: 3 relu(1) + 1.5 - 1 = 3.5, which its amount of 3 foresees; without b: 3 * 5 + 1 - 1 = 15
    assert made.drops([[0], [1], [], [0, 1]]).tolist() == [3.0, -8.5, 0.0, -5.5]
    assert made.drops([[0], [1], []], batch=1).tolist() == [3.0, -8.5, 0.0]
    assert made.drops([]).tolist() == []


def test_ablation_silences_the_most_credited_and_as_many_others() -> None:
    weights = torch.tensor([4.0, 3.0, 2.0, 1.0, -5.0, 9.0])
    made = attribute(torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.0]), lambda acts: acts @ weights)
    found = made.ablate(top=2, draws=40, seed=3)
    assert found.units == (0, 1) and found.attributed == found.drop == 7
    # of 2, 1 and -5, the others that are active, two each time
    assert set(found.random_drops) == {3.0, -3.0, -4.0} and len(found.random_drops) == 40
    assert found.random_drop == pytest.approx(sum(found.random_drops) / 40)
    assert made.ablate(top=2, draws=40, seed=3) == found != made.ablate(top=2, draws=40, seed=4)


def test_units_against_are_never_silenced_as_those_for() -> None:
    made = attribute(torch.ones(3), lambda acts: acts @ torch.tensor([2.0, -1.0, -3.0]))
    assert made.strongest(5) == [0] and made.strongest(5, -1) == [2, 1]
    assert made.ablate(top=3).units == (0,)


def test_as_many_others_are_silenced_where_few_are_active() -> None:
    made = attribute(torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.0]), lambda acts: acts.sum(1))
    found = made.ablate(top=4)
    assert found.units == (0, 1) and found.attributed == found.drop == 2
    assert set(found.random_drops) == {2.0}
    alone = attribute(torch.tensor([2.0, 0.0]), lambda acts: acts.sum(1)).ablate()
    assert (alone.units, alone.drop, alone.random_drops) == ((0,), 2, ()) and math.isnan(alone.random_drop)


@pytest.mark.parametrize(("top", "draws"), [(0, 4), (-1, 4), (4, 0)])
def test_nothing_to_silence_is_refused(top: int, draws: int) -> None:
    with pytest.raises(ValueError, match=f"top is {top} and draws {draws}; expected 1 or more of each"):
        attribute(torch.ones(4), lambda acts: acts.sum(1)).ablate(top, draws)


def test_rank_correlation_is_one_where_amounts_are_what_is_lost() -> None:
    weights = torch.tensor([4.0, -3.0, 2.0, 1.0])
    assert attribute(torch.ones(4), lambda acts: acts @ weights).rank_correlation() == pytest.approx(1)
    assert math.isnan(attribute(torch.tensor([1.0, 0.0]), lambda acts: acts.sum(1)).rank_correlation())


def test_rank_correlation_is_by_hand_where_the_two_differ() -> None:
    # amounts 1, 2 and 6; without each the square of 6 falls by 36 - 25 = 11, 36 - 16 = 20 and 36 - 9 = 27
    made = attribute(torch.tensor([1.0, 2.0, 3.0]), lambda acts: acts.sum(1) ** 2)
    assert made.rank_correlation() == pytest.approx(1)
    # the larger of 5 a and 4 b, and 2 c: amounts 5, 0 and 2, but without a b stands in, so 1, 0 and 2 are lost
    made = attribute(torch.ones(3), lambda acts: torch.maximum(5 * acts[:, 0], 4 * acts[:, 1]) + 2 * acts[:, 2])
    assert made.units.tolist() == [5, 0, 2] and made.drops([[0], [1], [2]]).tolist() == [1, 0, 2]
    assert made.rank_correlation() == pytest.approx(0.5)  # 1 - 6 (1 + 0 + 1) / (3 (9 - 1))


def test_units_that_give_alike_share_a_rank() -> None:
    assert math.isnan(attribute(torch.ones(4), lambda acts: acts.sum(1)).rank_correlation())
    # amounts 5, 0, 0 and 2 have the ranks 4, 1.5, 1.5 and 3; lost are 1, 0, 0 and 2, as the second stands in for the
    # first: 3, 1.5, 1.5 and 4. Less their mean of 2.5: products 0.75 + 1 + 1 + 0.75, squares 4.5 each
    made = attribute(
        torch.ones(4), lambda acts: torch.maximum(5 * acts[:, 0], 4 * acts[:, 1]) + 0 * acts[:, 2] + 2 * acts[:, 3]
    )
    assert made.units.tolist() == [5, 0, 0, 2]
    assert made.rank_correlation() == pytest.approx(3.5 / 4.5)


def test_steps_that_are_not_linear_are_named() -> None:
    made = attribute(torch.tensor([1.0, -2.0]), lambda acts: torch.softmax(acts, 1)[:, 0])
    assert made.nonlinear == ("Softmax",)


def test_a_target_that_the_layer_does_not_reach_is_refused() -> None:
    with pytest.raises(Unreached):
        attribute(ACTS, lambda acts: torch.ones(len(acts)))
