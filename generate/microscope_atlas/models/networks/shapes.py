"""Forward passes without values, that only shapes and the history are read of.

On PyTorch's meta device dense layers, norms, smooth activation functions and attention are composed in Python of many
small steps, which takes most of the time of a pass. Here each is a step or two of the same shape, that come from the
same tensors.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Function = Callable[..., Any]


class Shapes(TorchFunctionMode):
    """Within this context what is costly without values is as short as its history allows."""

    def __torch_function__(
        self, func: Function, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if not args or not isinstance(args[0], Tensor) or not args[0].is_meta:
            return func(*args, **named)
        read: Tensor = args[0]
        if func is F.linear and len(args) > 1 and read.dim() > 1:
            return read @ args[1].t()  # its bias would be added in Python
        if func is F.layer_norm:
            return read.clone(memory_format=torch.contiguous_format)
        if func is F.gelu:
            return read.clone()
        if func is F.scaled_dot_product_attention and len(args) > 2:
            key, value = args[1], args[2]
            one = read[..., :1] + key[..., :1, :1] + value[..., :1, :1]
            return one.expand(*read.shape[:-1], value.shape[-1]).clone(memory_format=torch.contiguous_format)
        return func(*args, **named)
