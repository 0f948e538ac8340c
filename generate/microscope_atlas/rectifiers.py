"""Rectifiers met in a forward pass, whatever code calls them; smooth ones too, which let little through below zero."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

RELU: frozenset[Callable[..., Any]] = frozenset((F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_))
HARDTANH: frozenset[Callable[..., Any]] = frozenset((F.hardtanh, F.hardtanh_))  # nn.ReLU6 calls it with 0 and 6
# with a finite lower bound: about -0.17 of GELU, -0.28 of SiLU, -0.31 of Mish, -0.38 of Hardswish, 0 of softplus
SMOOTH: frozenset[Callable[..., Any]] = frozenset(
    (F.gelu, F.silu, F.mish, F.hardswish, F.elu, F.selu, F.celu, F.softplus)
)


class Rectified(NamedTuple):
    """What a rectifier read and gave."""

    before: Tensor
    after: Tensor
    open_above: bool  # whether it has no upper bound, unlike ReLU6


class Rectifiers(TorchFunctionMode):
    """Within this context `met` fills with what every rectifier read and gave, by the id of what it gave."""

    def __init__(self, met: dict[int, Rectified]):
        super().__init__()
        self.met = met

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        bounds = args[1:3] or (named.get("min_val"), named.get("max_val"))
        is_relu6 = func is F.relu6 or (func in HARDTANH and tuple(bounds) == (0, 6))
        if func not in RELU and func not in SMOOTH and not is_relu6:
            return func(*args, **named)
        read: Tensor = args[0] if args else named["input"]
        before = read.clone()  # the rectifier may work in place
        after = func(*args, **named)
        self.met[id(after)] = Rectified(before, after, not is_relu6)
        return after
