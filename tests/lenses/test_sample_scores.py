import numpy as np
import pytest
import torch
import torch.nn.functional as F

from microscope_atlas.lenses.sample_scores import clusters, likeness, likeness_between, nearest, polysemanticity

RIGHT, UP = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])


def around(direction: torch.Tensor, count: int, noise: float = 0.05, seed: int = 0) -> torch.Tensor:
    """Directions near one, (count, 3), of length 1."""
    random = np.random.default_rng(seed)
    return F.normalize(direction + noise * torch.tensor(random.normal(size=(count, 3)), dtype=torch.float32), dim=1)


def test_likeness_is_the_mean_cosine_over_pairs() -> None:
    half = torch.tensor([0.6, 0.8, 0.0])
    assert likeness(torch.stack([RIGHT, UP, half])) == pytest.approx((0 + 0.6 + 0.8) / 3)
    assert likeness(torch.stack([RIGHT] * 5)) == pytest.approx(1)
    assert likeness(torch.stack([RIGHT, UP])) == 0


def test_pairs_of_the_same_picture_do_not_count_as_random() -> None:
    vectors = torch.stack([RIGHT, RIGHT, torch.tensor([0.6, 0.8, 0.0])])
    assert likeness_between(vectors, torch.tensor([4, 4, 7])) == pytest.approx(0.6)
    assert likeness_between(vectors, torch.tensor([4, 4, 4])) is None


def test_two_meanings_at_a_right_angle_are_one_apart() -> None:
    both = torch.stack([RIGHT] * 4 + [UP] * 4)
    assert polysemanticity(both) == pytest.approx(1)
    assert clusters(both) == [4, 4]
    assert polysemanticity(torch.stack([RIGHT] * 8)) == 0
    assert clusters(torch.stack([RIGHT] * 8)) == [8]


def test_merged_samples_are_more_polysemantic_than_either_half() -> None:
    one, other = around(RIGHT, 16), around(UP, 16, seed=1)
    merged = torch.cat([one[:8], other[:8]])
    assert polysemanticity(merged) > 10 * max(polysemanticity(one), polysemanticity(other))
    assert likeness(merged) < min(likeness(one), likeness(other))
    assert clusters(merged) == [8, 8]


def test_one_outlier_is_no_second_meaning() -> None:
    vectors = torch.stack([RIGHT] * 7 + [UP])
    middle = torch.tensor([7.0, 1.0]) / 50**0.5
    expected = 1 - (7 * middle[0] + middle[1]) / 8
    assert polysemanticity(vectors) == pytest.approx(float(expected), abs=1e-6)


def test_three_meanings_are_three_clusters() -> None:
    third = torch.tensor([0.0, 0.0, 1.0])
    vectors = torch.cat([around(RIGHT, 7), around(UP, 5), around(third, 4)])
    assert clusters(vectors) == [7, 5, 4]


def test_samples_without_structure_are_one_cluster() -> None:
    scattered = F.normalize(torch.tensor(np.random.default_rng(0).normal(size=(16, 64)), dtype=torch.float32), dim=1)
    assert clusters(scattered) == [16]


def test_nearest_is_the_twin_and_of_equals_the_first() -> None:
    means = torch.stack([RIGHT, UP, 3 * RIGHT, torch.tensor([0.6, 0.8, 0.0])])
    assert nearest(means) == [(2, 1), (3, 0.8), (0, 1), (1, 0.8)]
    assert nearest(means[:1]) == [None]
