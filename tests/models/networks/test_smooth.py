from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microscope_atlas.models.networks.smooth import Smooth

FUNCTIONS: list[Callable[[Tensor], Tensor]] = [
    F.gelu,
    lambda x: F.gelu(x, approximate="tanh"),
    F.silu,
    F.mish,
    F.softplus,
    F.elu,
    F.selu,
    F.celu,
    torch.sigmoid,
    Tensor.sigmoid,
    Tensor.tanh,
    torch.exp,
    lambda x: F.silu(x.clone(), inplace=True),
    lambda x: F.elu(x.clone(), inplace=True),
    lambda x: x.clone().sigmoid_(),
]


def maps(shape: tuple[int, ...], precision: torch.dtype) -> Tensor:
    pictures = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(precision)
    return pictures.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else pictures


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(7, 5, 9, 9), (7, 3, 1, 1), (7, 5), (7, 3, 5)])
@pytest.mark.parametrize("number", range(len(FUNCTIONS)))
def test_picture_is_rounded_alike_in_every_batch(number: int, shape: tuple[int, ...], precision: torch.dtype) -> None:
    function, all_of_them = FUNCTIONS[number], maps(shape, precision)
    weights = maps(shape, precision).flip(0)

    def both(count: int) -> tuple[Tensor, Tensor]:
        read = all_of_them[:count].detach().clone().requires_grad_()
        with Smooth():
            value = function(read)
            (value * weights[:count]).sum().backward()
        assert read.grad is not None
        return value.detach(), read.grad

    values, gradients = both(7)
    for count in (1, 2, 3, 6):
        fewer, their_gradients = both(count)
        assert torch.equal(fewer, values[:count])
        assert torch.equal(their_gradients, gradients[:count])


@pytest.mark.parametrize("number", range(len(FUNCTIONS)))
def test_values_and_layout_are_those_of_the_function(number: int) -> None:
    read = maps((3, 5, 9, 9), torch.float32)
    with Smooth():
        value = FUNCTIONS[number](read)
    assert value.stride() == read.stride()
    torch.testing.assert_close(value, FUNCTIONS[number](read), rtol=1e-6, atol=1e-6)


def test_in_place_changes_what_was_given() -> None:
    read = maps((3, 5, 9, 9), torch.float32)
    for function in (nn.SiLU(True), nn.Mish(True), nn.ELU(2.0, True), nn.CELU(2.0, True), nn.SELU(True)):
        given = read.clone()
        with Smooth():
            assert function(given) is given
        torch.testing.assert_close(given, function(read.clone()))
