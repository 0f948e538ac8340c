"""The operations that torch.nn lacks, or has only in slower or other forms."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Dilation of 1x1 kernels on a CPU, where it changes nothing but the code that runs: with one thread and fewer than 16
# samples PyTorch (aten/src/ATen/native/Convolution.cpp, use_mkldnn) leaves oneDNN for a plain matrix product, which is
# slower and rounds differently; dilated kernels it always gives to oneDNN.
STEADY = 2


class Preprocess(nn.Module):
    """A network's own input range: RGB in [0, 1] becomes `(255 * channels - mean) / std`.

    `bgr` swaps the channels first, as Caffe's networks want it; `mean` and `std` are in the network's order, `std` one
    for all channels or one for each.
    """

    mean: Tensor
    std: float | Tensor

    def __init__(
        self, mean: tuple[float, float, float], std: float | tuple[float, float, float] = 1.0, bgr: bool = False
    ):
        super().__init__()
        self.bgr = bgr
        if isinstance(std, tuple):
            self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        else:
            self.std = std
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        if self.bgr:
            pictures = pictures.flip(1)
        return (pictures * 255.0 - self.mean) / self.std


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding.

    Output size is ceil(input / stride); what padding is needed is split with the odd row and column at the bottom and
    right, so for stride 2 it depends on whether the input size is even: https://www.tensorflow.org/api_docs/python/tf/nn
    """

    def forward(self, input: Tensor) -> Tensor:
        (top, bottom), (left, right) = same_padding(input.shape[2:], self.kernel_size, self.stride)
        if (top, left) != (bottom, right):
            input, top, left = _Padded.apply(input, (left, right, top, bottom)), 0, 0  # type: ignore[no-untyped-call]
        return F.conv2d(input, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)


class _Padded(torch.autograd.Function):
    """Zeros around pictures, as F.pad has them, by edges (left, right, top, bottom).

    Only the edges are filled, and the gradient is a view: 7 ms less, of 22, for 16 maps of 56 px and 96 channels.
    """

    piecewise_linear = True

    @staticmethod
    def forward(ctx, x: Tensor, edges: tuple[int, int, int, int]) -> Tensor:  # type: ignore[no-untyped-def]
        left, right, top, bottom = ctx.edges = edges
        height, width = x.shape[2:]
        last = x.is_contiguous(memory_format=torch.channels_last)
        padded = torch.empty(
            (*x.shape[:2], top + height + bottom, left + width + right),
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last if last else torch.contiguous_format,
        )
        rows = padded[:, :, top : top + height]
        for edge in (padded[:, :, :top], padded[:, :, top + height :], rows[..., :left], rows[..., left + width :]):
            edge.zero_()
        rows[..., left : left + width] = x
        return padded

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        left, right, top, bottom = ctx.edges
        return grad[:, :, top : grad.shape[2] - bottom, left : grad.shape[3] - right], None


def same_padding(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """What TensorFlow's SAME adds before and after a picture of `size` px, of its height and of its width."""
    height, width = (
        max((-(-length // step) - 1) * step + window - length, 0)
        for length, window, step in zip(size, kernel, stride, strict=True)
    )
    return (height // 2, height - height // 2), (width // 2, width - width // 2)


class Concat(nn.Module):
    """Channels of several inputs behind one another."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=1)


class Add(nn.Module):
    """Sum of its inputs: a residual connection."""

    def forward(self, *inputs: Tensor) -> Tensor:
        total = inputs[0]
        for other in inputs[1:]:
            total = total + other
        return total


class SteadyLinear(nn.Linear):
    """A dense layer that rounds a sample the same way whatever the batch: on a CPU matrix products do not.

    Measured with PyTorch 2.13: of batches of 2, 3, 5, 8, 16 and 32, with one thread and two, all agree bit for bit.
    """

    def forward(self, input: Tensor) -> Tensor:
        rows = input.flatten(0, -2)[:, :, None, None]
        product = F.conv2d(rows, self.weight[:, :, None, None], self.bias, dilation=STEADY)
        return product.reshape(*input.shape[:-1], self.out_features)


class GlobalAveragePool(nn.Module):
    """Mean over all positions: (batch, channels, height, width) -> (batch, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class LocalResponseNorm(nn.Module):
    """Krizhevsky et al. (2012), section 3.3: `y = x / (k + alpha / size * sum x^2) ** beta` over `size` channels.

    The window is centred and cut at the first and last channel; alpha is divided by the window's size, as in Caffe and
    torch.nn.LocalResponseNorm, with which it agrees. That one builds the sum from a 3-D pool and took 45% of a
    rendering step; here the sum over channels is a 1x1 convolution with a banded matrix, and the gradient is closed:
    `dx = g s^-beta - 2 alpha beta / size * x * sum(g x s^(-beta-1))`. In float32 whatever is around it: alpha is small,
    and bfloat16 would round the sum away.
    """

    def __init__(self, size: int, alpha: float, beta: float, k: float):
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"

    def forward(self, x: Tensor) -> Tensor:
        x = x.float() if x.dtype == torch.bfloat16 else x
        window = _band(x.shape[1], self.size, x.dtype, x.device)
        with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):
            result: Tensor = _Lrn.apply(x, window, self.alpha / self.size, self.beta, self.k)  # type: ignore[no-untyped-call]
        return result


@lru_cache(maxsize=8)
def _band(channels: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Which channels stand within each one's window, as a 1x1 kernel: (channels, channels, 1, 1), ones and zeros."""
    at = torch.arange(channels, device=device)
    return ((at[:, None] - at[None, :]).abs() <= size // 2).to(dtype)[:, :, None, None]


def _sum_over_window(x: Tensor, window: Tensor) -> Tensor:
    return F.conv2d(x, window, dilation=STEADY if x.device.type == "cpu" else 1)


class _Lrn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, window: Tensor, alpha: float, beta: float, k: float) -> Tensor:  # type: ignore[no-untyped-def]
        s = _sum_over_window(x * x, window).mul_(alpha).add_(k)
        scale = s.pow(-beta)
        ctx.save_for_backward(x, window, s, scale)
        ctx.alpha, ctx.beta = alpha, beta
        return x * scale

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[no-untyped-def]
        x, window, s, scale = ctx.saved_tensors
        direct = grad * scale
        through_sum = _sum_over_window((direct * x).div_(s), window)
        return direct.addcmul_(x, through_sum, value=-2 * ctx.alpha * ctx.beta), None, None, None, None


class SameMaxPool2d(nn.MaxPool2d):
    """Max pool with TensorFlow's SAME padding, which no maximum can come from."""

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = ((size, size) if isinstance(size, int) else size for size in (self.kernel_size, self.stride))
        (top, bottom), (left, right) = same_padding(input.shape[2:], kernel, stride)
        if (top, left) == (bottom, right):
            return F.max_pool2d(input, kernel, stride, (top, left))
        if (top, left) == (0, 0):  # windows that look past the last row and column are cut off there
            return F.max_pool2d(input, kernel, stride, ceil_mode=True)
        return F.max_pool2d(F.pad(input, (left, right, top, bottom), value=-torch.inf), kernel, stride)


class UnscaledBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that shifts but does not scale, as TF-slim's Inceptions have it: gamma is 1 and no parameter."""

    def __init__(self, num_features: int, eps: float):
        super().__init__(num_features, eps)
        del self.weight
        self.register_buffer("weight", torch.ones(num_features), persistent=False)


@contextmanager
def rounded_as_built(network: nn.Module) -> Iterator[None]:
    """Dense layers are PyTorch's own again, as before steady_rounding: one function each, on what they are given."""
    steady = [op for op in network.modules() if type(op) is SteadyLinear]
    for op in steady:
        op.__class__ = nn.Linear  # type: ignore[assignment]  # a class of that
    try:
        yield
    finally:
        for op in steady:
            op.__class__ = SteadyLinear


def steady_rounding(network: nn.Module) -> None:
    """On a CPU with one thread: have every sample rounded the same way whatever the batch, in place.

    Without it a unit's picture would depend on its companions: rounding grows through hundreds of steps.
    """
    for op in network.modules():
        if isinstance(op, nn.Conv2d) and op.kernel_size == (1, 1):
            op.dilation = (STEADY, STEADY)
        elif type(op) is nn.Linear:
            op.__class__ = SteadyLinear
