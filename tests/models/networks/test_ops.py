import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from microscope_atlas.models.networks.ops import (
    LocalResponseNorm,
    Preprocess,
    SameConv2d,
    SameMaxPool2d,
    _Padded,
    same_padding,
)


def test_preprocessing_turns_the_range_and_the_channels() -> None:
    picture = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1)
    assert Preprocess((1.0, 2.0, 3.0), bgr=True)(picture).flatten().tolist() == [-1.0, 125.5, 252.0]
    assert Preprocess((127.5,) * 3, std=127.5)(picture).flatten().tolist() == [1.0, 0.0, -1.0]


@pytest.mark.parametrize("channels", [1, 4, 7, 16])
@pytest.mark.parametrize(
    ("size", "alpha", "beta", "k"), [(5, 1e-4, 0.75, 1.0), (11, 11e-4, 0.5, 2.0), (3, 0.5, 0.9, 1)]
)
def test_response_norm_is_torchs(channels: int, size: int, alpha: float, beta: float, k: float) -> None:
    x = torch.randn(2, channels, 5, 4, generator=torch.Generator().manual_seed(0)) * 30
    expected = F.local_response_norm(x, size, alpha, beta, k)
    torch.testing.assert_close(LocalResponseNorm(size, alpha, beta, k)(x), expected)


def test_response_norms_gradient_is_that_of_its_differences() -> None:
    norm = LocalResponseNorm(5, alpha=0.5, beta=0.75, k=1.0)
    x = torch.randn(1, 7, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (x,))


def test_response_norms_gradient_is_torchs() -> None:
    x = (torch.randn(2, 16, 5, 5, generator=torch.Generator().manual_seed(1)) * 30).requires_grad_(True)
    up = torch.randn(2, 16, 5, 5, generator=torch.Generator().manual_seed(2))

    def gradient(y: Tensor) -> Tensor:
        return torch.autograd.grad((y * up).sum(), x)[0]

    ours = gradient(LocalResponseNorm(5, 1e-2, 0.75, 1.0)(x))
    torch.testing.assert_close(ours, gradient(F.local_response_norm(x, 5, 1e-2, 0.75, 1.0)))


def test_response_norm_of_a_sample_does_not_depend_on_companions() -> None:
    norm = LocalResponseNorm(5, 1e-2, 0.75, 1.0)
    x = torch.randn(9, 64, 7, 7, requires_grad=True)
    together = norm(x)
    gradient = torch.autograd.grad(together.square().sum(), x)[0]
    for count in (2, 3, 5):
        alone = norm(x[:count])
        assert torch.equal(alone, together[:count])
        assert torch.equal(torch.autograd.grad(alone.square().sum(), x)[0][:count], gradient[:count])


def test_response_norm_is_in_float32_within_lower_precision() -> None:
    norm = LocalResponseNorm(5, 1e-4, 0.75, 1.0)
    x = torch.randn(2, 16, 5, 5, generator=torch.Generator().manual_seed(1)).mul(300).requires_grad_(True)
    expected = norm(x)
    with torch.autocast("cpu", torch.bfloat16):
        lower, from_lower = norm(x), norm(x.bfloat16())
    assert torch.equal(lower, expected)
    assert from_lower.dtype == torch.float32
    gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in (lower, expected)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (224, 3, 2, (0, 1)),
        (225, 3, 2, (1, 1)),
        (7, 5, 1, (2, 2)),
        (8, 1, 2, (0, 0)),
        (9, 7, 2, (3, 3)),
        (8, 7, 2, (2, 3)),
    ],
)
def test_same_padding_is_tensorflows(size: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    assert same_padding((size, size), (kernel, kernel), (stride, stride)) == (expected, expected)


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_convolution_is_a_valid_one_on_the_padded_input(size: int, stride: int) -> None:
    conv = SameConv2d(3, 4, 3, stride)
    x = torch.randn(2, 3, size, size)
    (top, bottom), (left, right) = same_padding((size, size), (3, 3), (stride, stride))
    expected = F.conv2d(F.pad(x, (left, right, top, bottom)), conv.weight, conv.bias, stride)
    assert expected.shape[-1] == -(-size // stride)
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("edges", [(0, 1, 0, 1), (1, 2, 0, 0), (0, 0, 3, 1), (2, 1, 1, 2)])
def test_padding_is_pytorchs_with_its_gradient(edges: tuple[int, ...], memory_format: torch.memory_format) -> None:
    x = torch.randn(2, 3, 5, 4).to(memory_format=memory_format).requires_grad_()
    ours, expected = _Padded.apply(x, edges), F.pad(x, edges)
    assert torch.equal(ours, expected)
    assert ours.is_contiguous(memory_format=memory_format)
    weights = torch.randn_like(expected)
    (found,), (right,) = (torch.autograd.grad((each * weights).sum(), x) for each in (ours, expected))
    assert torch.equal(found, right)


@pytest.mark.parametrize("kernel", [(3, 3), (2, 2), (3, 1)])
@pytest.mark.parametrize("size", [7, 8, 9, 12])
def test_same_max_pool_is_a_valid_one_on_the_padded_input(size: int, kernel: tuple[int, int]) -> None:
    x = torch.randn(2, 3, size, size).requires_grad_()
    (top, bottom), (left, right) = same_padding((size, size), kernel, (2, 2))
    expected = F.max_pool2d(F.pad(x, (left, right, top, bottom), value=-torch.inf), kernel, 2)
    found = SameMaxPool2d(kernel, 2)(x)
    assert torch.equal(found, expected)
    weights = torch.randn_like(expected)
    (ours,), (theirs,) = (torch.autograd.grad((each * weights).sum(), x) for each in (found, expected))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("size", [8, 9])
def test_same_max_pool_takes_nothing_from_its_padding(size: int) -> None:
    x = -torch.rand(1, 1, size, size) - 1
    pooled = SameMaxPool2d(3, 2)(x)
    assert pooled.shape[-1] == -(-size // 2)
    assert pooled.max() <= -1
