"""The redirected rectifier: a way out of dead starts.

A unit that never fires on the first grey canvas gives no gradient, and its picture would stay grey. Lucid
(misc/redirected_relu_grad.py) lets the gradient through such rectifiers, for a sample only if all of that sample's
gradient is blocked, and only in the first steps:

    x            gradient of the loss        ReLU          redirected
    >= 0         any                         passes        passes
    <  0         > 0: would push further down   blocked       blocked
    <  0         < 0: would pull it up       blocked       passes if the sample's whole gradient is blocked

ReLU6 blocks above 6 as well; there it is pushing further up that stays blocked.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

RECTIFIERS: tuple[Callable[..., Any], ...] = (
    *(F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_),
    *(F.relu6, F.hardtanh, F.hardtanh_),  # nn.ReLU6 is a hardtanh from 0 to 6
)


class RedirectedReLU(TorchFunctionMode):
    """Within this context every rectifier of any network has the redirected gradient."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in RECTIFIERS:
            floor, ceiling = _bounds(func, *args, **(kwargs or {}))
            if floor == 0:
                return _Redirected.apply(args[0], ceiling)  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


def _bounds(
    func: Callable[..., Any], input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> tuple[float, float]:
    """Where a rectifier called with these arguments cuts its input."""
    if func in (F.hardtanh, F.hardtanh_):
        return min_val, max_val
    return 0.0, 6.0 if func is F.relu6 else float("inf")


class _Redirected(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, ceiling: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        ctx.ceiling = ceiling
        return x.clamp(0, ceiling)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        low, high = x < 0, x > ctx.ceiling
        plain = grad.masked_fill(low | high, 0)
        blocked = ~plain.flatten(1).any(1)
        if x.device.type == "cpu" and not blocked.any():  # elsewhere the question would wait for the device
            return plain, None
        redirected = grad.masked_fill((low & (grad > 0)) | (high & (grad < 0)), 0)
        return torch.where(blocked.view(-1, *[1] * (x.dim() - 1)), redirected, plain), None
