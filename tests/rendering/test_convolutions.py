from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microscope_atlas.rendering.ascend import Ascent, Precision, ascend
from microscope_atlas.rendering.convolutions import Convolutions, FastConvolutions
from microscope_atlas.rendering.objectives import Channel
from microscope_atlas.rendering.relu import RedirectedReLU

CPU = torch.device("cpu")


def random(*shape: int, seed: int = 0) -> Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return made.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else made


def kernels(out: int, into: int, side: int) -> Tensor:
    """Of such a size that what comes out has a variance of about 1."""
    return random(out, into, side, side, seed=1) / (into * side**2) ** 0.5


def both(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any, fast: bool) -> tuple[Tensor, Tensor, str]:
    """What a convolution makes of `x`, the gradient of a random sum of it, and what autograd calls it."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    with FastConvolutions() if fast else nullcontext():
        made = F.conv2d(x, weight, bias, *rest)
        (gradient,) = torch.autograd.grad(made, x, random(*made.shape, seed=2).to(made.dtype))
    assert made.grad_fn is not None
    return made.detach(), gradient, made.grad_fn.name()


TILED = [
    (1, 1, (28, 28)),
    (1, 0, (30, 22)),
    (1, 2, (26, 30)),
    (1, (0, 1), (30, 28)),
    (1, (2,), (26, 26)),
    (1, "same", (24, 40)),
    (1, "valid", (34, 22)),
    ((1, 1), 1, (21, 44)),
    (1, 1, (16, 16)),  # few tiles, several samples at once
    (1, 1, (80, 80)),  # many, some rows at once
]
FIRST = [
    (7, 2, 3, (32, 41)),
    (7, 2, 0, (33, 40)),
    (7, (2, 2), (3, 0), (30, 30)),
    (11, 4, 0, (40, 43)),
    (11, 4, 2, (41, 50)),
    (8, 4, 1, (31, 33)),
    (5, 3, 2, (20, 22)),
    (5, 2, "valid", (31, 33)),
]


@pytest.mark.parametrize(("stride", "padding", "size"), TILED)
@pytest.mark.parametrize("biased", [True, False])
def test_tiles_give_what_a_convolution_is(stride: Any, padding: Any, size: tuple[int, int], biased: bool) -> None:
    x, weight, bias = random(3, 96, *size), kernels(128, 96, 3), random(128) if biased else None
    made, gradient, kind = both(x, weight, bias, stride, padding, fast=True)
    exact = both(x.double(), weight.double(), None if bias is None else bias.double(), stride, padding, fast=False)
    assert kind == "_TiledBackward"
    assert (made - exact[0]).abs().max() < 1e-4
    assert (gradient - exact[1]).abs().max() < 1e-4
    assert made.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), FIRST)
@pytest.mark.parametrize("channels", [1, 3])
def test_first_convolution_has_its_gradient(
    kernel: int, stride: Any, padding: Any, size: tuple[int, int], channels: int
) -> None:
    x, weight, bias = random(2, channels, *size), kernels(8, channels, kernel), random(8)
    made, gradient, kind = both(x, weight, bias, stride, padding, fast=True)
    exact = both(x.double(), weight.double(), bias.double(), stride, padding, fast=False)
    assert kind == "_FirstBackward"
    assert torch.equal(made, F.conv2d(x, weight, bias, stride, padding))
    assert (gradient - exact[1]).abs().max() < 1e-5


@pytest.mark.parametrize("count", [1, 2, 16, 17, 40])
def test_dense_layer_gives_its_products(count: int) -> None:
    x, weight, bias = random(count, 300, 1, 1), kernels(70, 300, 1), random(70)
    made, gradient, kind = both(x, weight, bias, 1, 0, 2, fast=True)
    exact = both(x.double(), weight.double(), bias.double(), 1, 0, 2, fast=False)
    assert kind == "_DenseBackward"
    assert (made - exact[0]).abs().max() < 1e-5
    assert (gradient - exact[1]).abs().max() < 1e-5


SHAPES = [
    *(((128, 256, 3), (side, side), (1, 1)) for side in (14, 16, 20, 28, 80)),
    ((3, 64, 7), (64, 64), (2, 3)),
    ((4096, 512, 1), (1, 1), (1, 0)),
]


@pytest.mark.parametrize(("kernel", "size", "rest"), SHAPES)
def test_sample_alone_equals_sample_in_a_batch(
    kernel: tuple[int, int, int], size: tuple[int, int], rest: tuple[int, int]
) -> None:
    into, out, side = kernel
    x, weight, bias = random(17, into, *size), kernels(out, into, side), random(out)
    together = both(x, weight, bias, *rest, fast=True)
    shape = (1, *together[0].shape[1:])
    up = random(*together[0].shape, seed=2)
    for at in (0, 5, 16):
        one = x[at : at + 1].clone(memory_format=torch.channels_last).requires_grad_()
        pair = torch.cat([one, one])  # of one alone oneDNN's kernels are others, which is why ascents have two at least
        with FastConvolutions():
            made = F.conv2d(pair, weight, bias, *rest)
            (gradient,) = torch.autograd.grad(made[:1], one, up[at : at + 1].reshape(shape))
        assert torch.equal(made[0], together[0][at])
        assert torch.equal(gradient[0], together[1][at])


WIDE = kernels(128, 128, 3)
OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "a stride": lambda x: F.conv2d(x, WIDE, stride=2),
    "a dilation": lambda x: F.conv2d(x, WIDE, dilation=2),
    "groups": lambda x: F.conv2d(x, WIDE[:, :64], groups=2),
    "more padding than a kernel reaches": lambda x: F.conv2d(x, WIDE, padding=3),
    "few channels": lambda x: F.conv2d(x[:, :8].contiguous(memory_format=torch.channels_last), WIDE[:8, :8]),
    "few tiles": lambda x: F.conv2d(x[..., :9, :9].contiguous(memory_format=torch.channels_last), WIDE),
    "other kernels": lambda x: F.conv2d(x, WIDE[:, :, :, :1], padding=(1, 0)),
    "channels first": lambda x: F.conv2d(x.contiguous(), WIDE, padding=1),
    "a picture that is no batch": lambda x: F.conv2d(x[0], WIDE, padding=1),
    "double precision": lambda x: F.conv2d(x.double(), WIDE.double(), padding=1),
}


@pytest.mark.parametrize("what", OTHERS)
def test_all_else_is_as_it_was(what: str) -> None:
    x = random(2, 128, 28, 28)
    with FastConvolutions():
        made = OTHERS[what](x)
    assert torch.equal(made, OTHERS[what](x))


def test_weights_that_learn_get_their_gradient() -> None:
    x, weight = random(2, 128, 28, 28), WIDE.clone().requires_grad_()
    with FastConvolutions():
        F.conv2d(x, weight, padding=1).sum().backward()
    assert weight.grad is not None


def test_autocast_decides_first() -> None:
    x = random(2, 128, 28, 28)
    with FastConvolutions(), torch.autocast("cpu", torch.bfloat16):
        assert F.conv2d(x, WIDE, padding=1).dtype == torch.bfloat16


def test_what_is_wrong_is_said_as_ever() -> None:
    with FastConvolutions(), pytest.raises(RuntimeError, match="channels"):
        F.conv2d(random(2, 64, 28, 28), WIDE, padding=1)
    with FastConvolutions(), pytest.raises(RuntimeError, match="same"):
        F.conv2d(random(2, 3, 28, 28), kernels(8, 3, 7), stride=2, padding="same")


class Small(nn.Module):
    """Has one of each: a first convolution, one of 3x3 and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("first", kernels(96, 3, 7) * 4)
        self.register_buffer("second", kernels(128, 96, 3))
        self.register_buffer("dense", kernels(64, 128, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        x = F.relu(F.conv2d(pictures - 0.5, self.first, stride=2, padding=3))
        x = F.relu(F.conv2d(x, self.second, padding=1))
        return F.conv2d(F.max_pool2d(x, x.shape[-1]), self.dense, dilation=2).flatten(1)


def climbed(units: int, convolutions: Convolutions, precision: Precision = "float32") -> tuple[Tensor, Tensor]:
    settings = Ascent(steps=12, convolutions=convolutions, precision=precision)
    *_, frame = ascend(Small(), Channel(torch.arange(units)), range(units), settings, 48, CPU, robust_views=2)
    return frame.pictures, frame.scores


def test_ascent_takes_them_and_goes_the_same_way() -> None:
    fast, direct = climbed(4, "fast"), climbed(4, "direct")
    assert not torch.equal(fast[0], direct[0])
    assert (fast[0] - direct[0]).abs().max() < 0.02
    torch.testing.assert_close(fast[1], direct[1], rtol=1e-2, atol=1e-3)


def test_scores_are_those_of_plain_convolutions() -> None:
    pictures, scores = climbed(4, "fast")
    shown = pictures.contiguous(memory_format=torch.channels_last)
    assert torch.equal(scores, Channel(torch.arange(4))(Small()(shown)))


def test_unit_alone_equals_unit_in_batch() -> None:
    together = climbed(16, "fast")[0]
    for count in (1, 2, 5):
        assert torch.equal(climbed(count, "fast")[0], together[:count])


def test_lower_precision_has_none_of_them() -> None:
    assert torch.equal(climbed(2, "fast", "bfloat16")[0], climbed(2, "direct", "bfloat16")[0])


def test_redirected_rectifiers_stand_beside_them() -> None:
    x = random(2, 96, 28, 28).requires_grad_()
    with FastConvolutions(), RedirectedReLU():
        made = F.relu(F.conv2d(x, kernels(128, 96, 3), random(128) - 100, padding=1))
        made.backward(-torch.ones_like(made))  # all is dead, and would be pulled up
    assert not made.any()
    assert x.grad is not None
    assert x.grad.any()
