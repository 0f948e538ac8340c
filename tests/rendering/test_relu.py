from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microscope_atlas.rendering.relu import RedirectedReLU


def gradient(x: list[list[float]], up: list[list[float]], rectify: Callable[[Tensor], Tensor]) -> list[list[float]]:
    """Gradient of a loss at `x`, whose gradient behind the rectifier is `up`, with the redirected rectifier."""
    values = torch.tensor(x, requires_grad=True)
    with RedirectedReLU():
        (rectify(values) * torch.tensor(up)).sum().backward()
    assert values.grad is not None
    return values.grad.tolist()


def test_live_sample_has_the_plain_gradient() -> None:
    assert gradient([[1.0, -1.0]], [[-1.0, -1.0]], F.relu) == [[-1.0, 0.0]]


def test_dead_sample_is_pulled_up() -> None:
    assert gradient([[-1.0, -2.0]], [[-1.0, -3.0]], F.relu) == [[-1.0, -3.0]]


def test_dead_sample_is_not_pushed_further_down() -> None:
    assert gradient([[-1.0, -2.0]], [[1.0, -3.0]], F.relu) == [[0.0, -3.0]]


def test_dead_sample_beside_a_live_one_is_pulled_up_alone() -> None:
    x, up = [[1.0, -1.0], [-1.0, -1.0]], [[-1.0, -1.0], [-1.0, -1.0]]
    assert gradient(x, up, F.relu) == [[-1.0, 0.0], [-1.0, -1.0]]


def test_relu6_lets_through_what_pulls_down_from_above_six() -> None:
    assert gradient([[7.0, -1.0]], [[1.0, -1.0]], F.relu6) == [[1.0, -1.0]]
    assert gradient([[7.0, 7.0]], [[-1.0, 1.0]], F.relu6) == [[0.0, 1.0]]
    assert gradient([[7.0, 3.0]], [[1.0, 1.0]], F.relu6) == [[0.0, 1.0]]


@pytest.mark.parametrize(
    "rectify", [F.relu, torch.relu, torch.Tensor.relu, nn.ReLU(), nn.ReLU(inplace=True), F.relu6, nn.ReLU6(), F.relu_]
)
def test_every_way_to_write_a_rectifier_is_redirected(rectify: Callable[[Tensor], Tensor]) -> None:
    values = torch.tensor([[-1.0]], requires_grad=True)
    with RedirectedReLU():
        output = rectify(values.clone())
        output.backward(torch.tensor([[-1.0]]))
    assert output.tolist() == [[0.0]]
    assert values.grad is not None
    assert values.grad.tolist() == [[-1.0]]


def test_values_are_those_of_the_plain_rectifier() -> None:
    x = torch.linspace(-10, 10, 41)
    with RedirectedReLU():
        assert torch.equal(F.relu(x), x.clamp(min=0))
        assert torch.equal(F.relu6(x), x.clamp(0, 6))


def test_outside_the_context_nothing_is_redirected() -> None:
    with RedirectedReLU():
        pass
    values = torch.tensor([[-1.0]], requires_grad=True)
    F.relu(values).backward(torch.tensor([[-1.0]]))
    assert values.grad is not None
    assert values.grad.tolist() == [[0.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rectify", "ceiling"), [(F.relu, float("inf")), (F.relu6, 6.0)])
def test_bounds_are_the_rectifiers_own_to_the_last_bit(
    rectify: Callable[[Tensor], Tensor], ceiling: float, dtype: torch.dtype
) -> None:
    here = torch.tensor([0.0, 6.0, 3.0], dtype=dtype)
    edges = torch.cat([here, *(torch.nextafter(here, here + side) for side in (1, -1))])
    edges = edges[(edges == 0) | (edges.abs() > 1e-30)]  # between, a processor may take them for 0
    x = torch.cat([edges, torch.tensor([-1e-30, -1.0, float("nan")], dtype=dtype)])[None].requires_grad_()
    with RedirectedReLU():
        rectify(x).sum().backward()
    values = x.detach().float()
    passes = ~((values < 0) | (values > ceiling))
    assert x.grad is not None
    assert x.grad.tolist() == passes.float().tolist()


@pytest.mark.parametrize("live", [[], [0], [1, 5], [2]])
def test_a_sample_is_dead_only_where_nothing_at_all_passes(live: list[int]) -> None:
    x = torch.full((2, 6), -1.0)
    x[0, live] = 1.0
    found = gradient(x.tolist(), [[-1.0] * 6, [-1.0] * 6], F.relu)
    assert found[0] == ([-1.0 if at in live else 0.0 for at in range(6)] if live else [-1.0] * 6)
    assert found[1] == [-1.0] * 6


def test_gradient_does_not_depend_on_companions() -> None:
    stream = torch.Generator().manual_seed(0)
    x, up = torch.randn(8, 6, 5, 5, generator=stream), torch.randn(8, 6, 5, 5, generator=stream)
    x[::2] = -x[::2].abs()  # every other sample is dead
    together = torch.tensor(gradient(x.tolist(), up.tolist(), F.relu))
    for count in (1, 3, 5):
        alone = torch.tensor(gradient(x[:count].tolist(), up[:count].tolist(), F.relu))
        assert torch.equal(alone, together[:count])
