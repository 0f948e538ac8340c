"""Smooth activation functions, rounded alike for every picture of a batch, however many there are.

On a CPU the last few numbers of a tensor, those that do not fill the processor's vectors, are computed by other code,
which rounds exponentials differently. Of a batch these are the last picture's, or all of it where a layer is narrow, as
in the gates of squeeze-and-excitation. A unit's picture would depend on its companions; see ops.steady_rounding too.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Function = Callable[..., Any]

WHOLE = 128  # numbers that are whole vectors on any processor, in any precision
IN_PLACE: dict[Function, Function] = {
    torch.sigmoid_: torch.sigmoid,
    Tensor.sigmoid_: torch.sigmoid,
    torch.tanh_: torch.tanh,
    Tensor.tanh_: torch.tanh,
    torch.exp_: torch.exp,
    Tensor.exp_: torch.exp,
    F.elu_: F.elu,
    F.selu_: F.selu,
    F.celu_: F.celu,
}
MAY_BE_IN_PLACE: dict[Function, int] = {F.silu: 1, F.mish: 1, F.selu: 1, F.elu: 2, F.celu: 2}  # at which argument
SMOOTH: frozenset[Function] = frozenset(
    {
        *(F.gelu, F.silu, F.mish, F.sigmoid, F.tanh, F.softplus, F.elu, F.selu, F.celu, F.logsigmoid),
        *(torch.sigmoid, torch.tanh, torch.exp, torch.expm1, torch.erf, torch.rsqrt, torch.selu, torch.celu),
        *(Tensor.sigmoid, Tensor.tanh, Tensor.exp, Tensor.expm1, Tensor.erf, Tensor.rsqrt),
    }
)


class Smooth(TorchFunctionMode):
    """Within this context smooth functions of tensors on the CPU see whole vectors."""

    def __torch_function__(
        self, func: Function, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if not (func in SMOOTH or func in IN_PLACE) or not args or not _is_ragged(args[0]):
            return func(*args, **named)
        read, at = args[0], MAY_BE_IN_PLACE.get(func, len(args))
        in_place = func in IN_PLACE or named.pop("inplace", False) or any(args[at:])
        value = _padded(IN_PLACE.get(func, func), read, args[1:at], named)
        return read.copy_(value) if in_place else value


def _is_ragged(read: Any) -> bool:
    return isinstance(read, Tensor) and read.device.type == "cpu" and read.numel() % WHOLE > 0 and read.numel() > 0


def _padded(func: Function, read: Tensor, rest: Sequence[Any], named: dict[str, Any]) -> Tensor:
    """The function of a tensor, whose numbers keep their order in memory, with zeros behind them."""
    strides = read.stride()
    order = sorted(range(read.dim()), key=lambda axis: -strides[axis])
    laid_out = read.permute(order)
    flat = F.pad(laid_out.reshape(-1), (0, -read.numel() % WHOLE))
    made: Tensor = func(flat, *rest, **named)[: read.numel()]
    back = [order.index(axis) for axis in range(read.dim())]
    return made.view(laid_out.shape).permute(back)
