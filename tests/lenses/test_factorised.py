import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from microscope_atlas.lenses.factorised import factorised

# two parts that share no unit: of length 5 along (3, 4), and of length 1 along the last
ACTIVATIONS = torch.tensor([[3.0, 4.0, 0.0], [6.0, 8.0, 0.0], [0.0, 0.0, 1.0], [3.0, 4.0, 2.0]])


def noisy(units: int = 24) -> torch.Tensor:
    random = np.random.default_rng(0)
    parts = random.random((60, 4)) ** 4 @ random.random((4, units)) ** 8
    return torch.tensor(parts + 0.01 * random.random((60, units)), dtype=torch.float32)


def test_parts_that_share_no_unit_are_found_the_greater_first() -> None:
    found = factorised(ACTIVATIONS, 2, 0)
    assert torch.allclose(found.directions, torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]), atol=1e-3)
    assert torch.allclose(found.weights, torch.tensor([[5.0, 0.0], [10.0, 0.0], [0.0, 1.0], [5.0, 2.0]]), atol=0.02)
    assert found.explained == pytest.approx(1, abs=1e-5)


def test_one_group_explains_what_the_first_singular_value_does() -> None:
    values = np.linalg.svd(ACTIVATIONS.numpy(), compute_uv=False)
    assert factorised(ACTIVATIONS, 1, 0).explained == pytest.approx(values[0] ** 2 / (values**2).sum(), abs=1e-5)


def test_nothing_is_below_zero_and_directions_have_length_one() -> None:
    found = factorised(noisy(), 4, 0)
    assert found.weights.min() >= 0
    assert found.directions.min() >= 0
    assert torch.allclose(found.directions.norm(dim=1), torch.ones(4), atol=1e-6)
    assert found.explained > 0.99


def test_threads_change_no_byte() -> None:
    made = []
    for threads in (1, 4):
        with threadpool_limits(threads):
            made.append(factorised(noisy(), 4, 3))
    assert made[0].weights.numpy().tobytes() == made[1].weights.numpy().tobytes()
    assert made[0].directions.numpy().tobytes() == made[1].directions.numpy().tobytes()
    assert made[0].explained == made[1].explained


@pytest.mark.parametrize("groups", [0, 4])
def test_more_groups_than_units_are_refused(groups: int) -> None:
    with pytest.raises(ValueError, match=f"{groups} groups, expected 1 to 3"):
        factorised(ACTIVATIONS, groups, 0)


@pytest.mark.parametrize("activations", [-ACTIVATIONS, 0 * ACTIVATIONS, ACTIVATIONS / 0])
def test_what_cannot_be_taken_apart_is_refused(activations: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="finite, none below zero and not all zero"):
        factorised(activations, 2, 0)
