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
from functools import cache
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
        plain = _plain(grad, x, ctx.ceiling)
        on_cpu = x.device.type == "cpu"  # elsewhere a question would wait for the device
        if on_cpu and _live(plain[..., ::FEW]).all():
            return plain, None
        live = _live(plain)
        if on_cpu and live.all():
            return plain, None
        redirected = grad.masked_fill(((x < 0) & (grad > 0)) | ((x > ctx.ceiling) & (grad < 0)), 0)
        return torch.where(live.view(-1, *[1] * (x.dim() - 1)), plain, redirected), None


FEW = 4  # of so many columns one is looked at first: it seldom takes more to see that something passes


def _plain(grad: Tensor, x: Tensor, ceiling: float) -> Tensor:
    """The gradient where `0 <= x <= ceiling`, else 0: PyTorch's own kernels, whose bounds are just outside of these."""
    if ceiling == float("inf"):
        return torch.ops.aten.threshold_backward(grad, x, BELOW)  # type: ignore[no-any-return]
    return torch.ops.aten.hardtanh_backward(grad, x, BELOW, _beyond(ceiling, x.dtype))  # type: ignore[no-any-return]


BELOW = -torch.finfo(torch.float32).tiny  # the first number below 0 that is none of those that a processor takes for 0


@cache
def _beyond(ceiling: float, dtype: torch.dtype) -> float:
    """The next number above."""
    here, far = (torch.tensor(value, dtype=dtype) for value in (ceiling, float("inf")))
    return torch.nextafter(here, far).item()


def _live(grad: Tensor) -> Tensor:
    """Which samples have a gradient that is not all 0, (batch,)."""
    return torch.any(grad, dim=tuple(range(1, grad.dim())))
