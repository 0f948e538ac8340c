"""Convolutions that cost less than PyTorch's own, of networks whose weights do not change.

Of kernels of 3x3, Winograd's minimal filtering, F(4x4, 3x3): Lavin and Gray 2015, https://arxiv.org/abs/1509.09308.
Tiles d of 6x6 pixels, which overlap by 2, and filters g become `B^T d B` and `G g G^T`; their products by element,
summed over channels, are 36 products of matrices, m; `A^T m A` are 4x4 pixels of the result. That is 36 multiplications
in place of 144. The gradient with respect to the input is such a convolution again, its filters turned around.

Of a network's first convolution, with a large kernel and a stride, the gradient with respect to the few channels of a
picture. Pixels that lie a stride apart meet the same part of the kernel: so the gradient is a convolution without a
stride, whose channels are those of each part, and whose pixels are then put in their places.

Of dense layers, which are convolutions of 1x1 so that each sample is rounded alike (networks.ops.SteadyLinear):
PyTorch brings their weights into another order each time, which takes several times as long as the products.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

Convolutions = Literal["direct", "fast"]

READ, MADE = 6, 4  # pixels on a side that a tile reads, and that it makes
# From where on each is faster, as benchmarks/convolutions.py measures
FEWEST_TILES = 16  # of a picture; with fewer the products of matrices are narrow
FEWEST_CHANNELS = 46  # in * out / (in + out), which says how much there is to multiply for what there is to transform
MOST_CHANNELS, LEAST_KERNEL = 4, 5  # of a first convolution
ROWS = 16  # of dense layers' products
AT_LEAST, AT_ONCE = 64, 256  # tiles, about: enough for a product of matrices, and what a processor's cache can keep

B_T = (
    *((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0)),
    *((0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1)),
)
G_24 = ((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24))  # 24 times G
A_T = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
TO_ALL = 7  # of the 36 products the one that each of the 16 pixels gets as it is: where a bias goes


class FastConvolutions(TorchFunctionMode):
    """Within this context the convolutions of any network are computed so where it is faster: on CPUs, in float32.

    All others are computed as ever, those with weights that want a gradient among them. A sample comes out as it would
    in any batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._room = torch.empty(0)  # for filters: to ask for so much memory anew takes longer than to fill it

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        asked = _Asked.of(*args, **(kwargs or {})) if func is F.conv2d else None
        if asked is None:
            return func(*args, **(kwargs or {}))
        if asked.in_tiles:
            return _Tiled.apply(asked.input, asked.weight, asked.bias, asked.padding, self.filters)  # type: ignore[no-untyped-call]
        if asked.is_dense:
            return _Dense.apply(asked.input, asked.weight, asked.bias)  # type: ignore[no-untyped-call]
        if asked.is_first:
            return _First.apply(asked.input, asked.weight, asked.bias, asked.stride, asked.padding)  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))

    def filters(self, weight: Tensor, turned: bool) -> Tensor:
        """Of kernels (out, in, 3, 3) what tiles are multiplied by: (36, in, out); turned around, (36, out, in).

        They hold until the next are asked for.
        """
        out, into = weight.shape[:2]
        if turned:
            taps = weight.flip(2, 3).permute(2, 3, 0, 1)
        else:  # of channels_last weights one transposition of a matrix
            taps = weight.permute(0, 2, 3, 1).reshape(out, -1).t().contiguous()
        if self._room.numel() < (size := 36 * out * into):
            self._room = weight.new_empty(size)
        room = self._room[:size].view(36, -1)
        torch.mm(_transforms()[1], taps.reshape(9, -1), out=room)
        return room.view(36, out, into) if turned else room.view(36, into, out)


@dataclass(frozen=True)
class _Asked:
    """What a convolution is asked for, if it is one that may be computed otherwise."""

    input: Tensor  # channels_last
    weight: Tensor
    bias: Tensor | None
    stride: int
    padding: tuple[int, int]  # above and below, left and right

    @classmethod
    def of(
        cls,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> "_Asked | None":
        if not (
            groups == 1
            and input.dim() == weight.dim() == 4
            and input.shape[1] == weight.shape[1]
            and weight.shape[2] == weight.shape[3]
            and input.dtype == weight.dtype == torch.float32
            and input.device.type == "cpu"
            and input.is_contiguous(memory_format=torch.channels_last)
            and not torch.is_autocast_enabled("cpu")
            and not weight.requires_grad
            and (bias is None or not bias.requires_grad)
            and len(set(_pair(stride))) == 1
        ):
            return None
        kernel = weight.shape[2]
        if kernel > 1 and set(_pair(dilation)) != {1}:
            return None
        if isinstance(padding, str):
            if padding == "same" and kernel != 3:
                return None
            padding = 1 if padding == "same" else 0
        return cls(input, weight, bias, _pair(stride)[0], _pair(padding))

    @property
    def in_tiles(self) -> bool:
        """Whether it is faster in tiles."""
        out, into, kernel, _ = self.weight.shape
        if (kernel, self.stride) != (3, 1) or max(self.padding) > 2:
            return False
        high, wide = (side + 2 * edge - 2 for side, edge in zip(self.input.shape[2:], self.padding, strict=True))
        tiles = -(-high // MADE) * -(-wide // MADE)
        needed = tiles * MADE * MADE / (high * wide) if min(high, wide) > 0 else math.inf  # of pixels that are kept
        return tiles >= FEWEST_TILES and out * into >= FEWEST_CHANNELS * needed * (out + into)

    @property
    def is_dense(self) -> bool:
        """Whether it is a dense layer, whose input has one pixel."""
        return self.input.shape[2:] == self.weight.shape[2:] == (1, 1) and (self.stride, *self.padding) == (1, 0, 0)

    @property
    def is_first(self) -> bool:
        """Whether its gradient is faster as a convolution without a stride."""
        channels, kernel = self.weight.shape[1:3]
        return self.stride > 1 and channels <= MOST_CHANNELS and kernel >= LEAST_KERNEL and kernel > self.stride


def _pair(given: int | Sequence[int]) -> tuple[int, int]:
    both = (given,) if isinstance(given, int) else tuple(given)
    return both[0], both[-1]


class _Tiled(torch.autograd.Function):
    """A convolution of 3x3 by minimal filtering, forward and back."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        padding: tuple[int, int],
        filters: Callable[[Tensor, bool], Tensor],
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.padding, ctx.filters = padding, filters
        return _convolved(x, filters(weight, False), bias, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (weight,) = ctx.saved_tensors
        above, left = ctx.padding
        return _convolved(grad, ctx.filters(weight, True), None, (2 - above, 2 - left)), None, None, None, None


def _convolved(x: Tensor, filters: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    """Tensors (batch, in, ...) by `filters` (36, in, out).

    As many tiles at a time as suits the processor: of a few samples, or some rows of one. How many depends on the shape
    of a sample alone, and what the last samples lack is zeros: so none depends on how many there are.
    """
    (above, left), (count, channels, height, width), out_channels = padding, x.shape, filters.shape[2]
    high, wide = height + 2 * above - 2, width + 2 * left - 2
    down, across = -(-high // MADE), -(-wide // MADE)  # tiles
    rows = -(-down // max(1, round(down * across / AT_ONCE)))
    joined = 2 ** max(0, round(math.log2(AT_LEAST / (down * across))))  # batches are powers of two, too, by default
    to_tiles, _, to_pixels = _transforms()
    result = x.new_empty((-(-count // joined), joined, MADE * down, MADE * across, out_channels))
    padded = x.new_zeros((joined, MADE * down + 2, MADE * across + 2, channels))
    inner = padded[:, above : above + height, left : left + width]
    sample, line, pixel, _ = padded.stride()
    for samples, made in zip(torch.split(x.permute(0, 2, 3, 1), joined), result, strict=True):
        inner[: len(samples)] = samples
        inner[len(samples) :] = 0
        for row in range(0, down, rows):
            block = joined, min(rows, down - row), across
            steps = (line, pixel, sample, MADE * line, MADE * pixel, 1)
            tiles = padded.as_strided((READ, READ, *block, channels), steps, MADE * row * line)
            products = (to_tiles @ tiles.reshape(READ * READ, -1)).view(READ * READ, -1, channels) @ filters
            if bias is not None:
                products[TO_ALL] += bias
            pixels = (to_pixels @ products.flatten(1)).view(MADE, MADE, *block, out_channels)
            place = made[:, MADE * row : MADE * (row + block[1])].unflatten(1, (-1, MADE)).unflatten(3, (-1, MADE))
            place.copy_(pixels.permute(2, 3, 0, 4, 1, 5))
    result = result.flatten(0, 1)[:count, :high, :wide]
    return result.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


@cache
def _transforms() -> tuple[Tensor, Tensor, Tensor]:
    """Of tiles (36, 36), filters (36, 9) and products (16, 36): `B^T d B`, `G g G^T` and `A^T m A` as one product."""
    tiles, filters, pixels = (torch.tensor(each, dtype=torch.float64) for each in (B_T, G_24, A_T))
    of_tiles, of_filters, of_pixels = (torch.kron(each, each).float() for each in (tiles, filters / 24, pixels))
    return of_tiles, of_filters, of_pixels


class _Dense(torch.autograd.Function):
    """A dense layer as products of matrices of `ROWS` rows: of so many each is rounded as it would be in any place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        product = _in_rows(x, weight.flatten(1).t())
        return product if bias is None else product + bias[:, None, None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _in_rows(grad, weight.flatten(1)), None, None


def _in_rows(x: Tensor, matrix: Tensor) -> Tensor:
    """(batch, in, 1, 1) by (in, out) -> (batch, out, 1, 1)."""
    rows = F.pad(x.flatten(1), (0, 0, 0, -len(x) % ROWS))
    return torch.cat([some @ matrix for some in torch.split(rows, ROWS)])[: len(x), :, None, None]


class _First(torch.autograd.Function):
    """A convolution with a stride that reads few channels; its gradient is one without a stride."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.size, ctx.stride, ctx.padding = x.shape[2:], stride, padding
        return F.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (weight,) = ctx.saved_tensors
        out, channels, kernel, _ = weight.shape
        parts = -(-kernel // ctx.stride)  # of the kernel, on a side
        missing = ctx.stride * parts - kernel
        taps = F.pad(weight, (0, missing, 0, missing)).view(out, channels, *(parts, ctx.stride) * 2)
        turned = taps.flip(2, 4).permute(1, 3, 5, 0, 2, 4).reshape(-1, out, parts, parts)
        apart = F.conv2d(grad, turned.contiguous(memory_format=torch.channels_last), padding=parts - 1)
        whole = F.pixel_shuffle(apart, ctx.stride)
        (height, width), (above, left) = ctx.size, ctx.padding
        below, right = height + above - whole.shape[2], width + left - whole.shape[3]
        return F.pad(whole, (-left, right, -above, below)), None, None, None, None
