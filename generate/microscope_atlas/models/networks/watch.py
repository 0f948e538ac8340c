"""What a module does in a forward pass beside giving outputs: which parts run, how often, and what passes them by."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

Function = Callable[..., Any]

# what convolutions and dense layers call; called by any other module, no hook sees what they give
PRODUCTS: frozenset[Function] = frozenset(
    {
        *(F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
        *(F.linear, F.bilinear, F.multi_head_attention_forward),
    }
)
# which multiply with anything: with a parameter they are a dense layer
MATRIX_PRODUCTS: frozenset[Function] = frozenset(
    {
        *(torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.einsum, Tensor.matmul, Tensor.mm),
        *(Tensor.__matmul__, Tensor.__rmatmul__),
    }
)
DROPOUTS: frozenset[Function] = frozenset(
    {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout}
)

SOFTMAX: frozenset[Function] = frozenset({F.softmax, torch.softmax, Tensor.softmax})

# Modules with units of their own
UNITS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    nn.Linear,
)


class Call(NamedTuple):
    """The first call of a module: when it began and ended, counted over all, what it read first, and what it gave."""

    began: int
    ended: int
    given: Tensor | None
    output: Tensor | None


class Attention(NamedTuple):
    """Where values were mixed by attention."""

    path: str  # of the module that ran
    at: int  # when, in the order of Call
    heads: int


class Watch(TorchFunctionMode):
    """Within this context the forward passes of a module are watched."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.calls: Counter[str] = Counter()  # of every module, by its path
        self.as_functions: dict[str, None] = {}  # paths of modules whose products no hook sees; a dict keeps the order
        self.dropouts: list[str] = []  # paths of modules in which a dropout was on
        self.first: dict[str, Call] = {}  # calls that gave a tensor, by the module's path
        self.attentions: list[Attention] = []
        self._clock = 0
        self._begun: dict[str, tuple[int, Tensor | None]] = {}
        self._parts = dict(module.named_modules())
        self._owners = {
            id(parameter): path
            for path, each in self._parts.items()
            for parameter in each.parameters(recurse=False)
            if parameter.dim() > 1
        }
        self._unnamed: set[str] = set()  # of as_functions, those that do not say whose weights they multiply
        self._running: list[str] = []
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "Watch":
        for path, each in self._parts.items():
            if isinstance(each, torch.jit.ScriptModule):
                continue  # which takes no hooks
            self._handles.append(each.register_forward_pre_hook(partial(self._begin, path)))
            self._handles.append(each.register_forward_hook(partial(self._end, path), always_call=True))
        return super().__enter__()  # type: ignore[no-any-return, no-untyped-call]

    def __exit__(self, *reason: Any) -> None:
        super().__exit__(*reason)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()

    def bypassed(self, path: str) -> bool:
        """Whether the weights of a module that is not called are used, by it or by a module that it is part of."""
        parts = path.split(".")
        return path in self.as_functions or any(
            ".".join(parts[:count]) in self._unnamed for count in range(len(parts) + 1)
        )

    def __torch_function__(
        self,
        func: Function,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        inner = self._running[-1] if self._running else ""
        given = [self._owners[id(each)] for each in (*args, *named.values()) if id(each) in self._owners]
        by_hand = not isinstance(self._parts[inner], UNITS)
        if func in PRODUCTS and by_hand and not given:  # weights that were made from others on the way
            self.as_functions[inner] = None
            self._unnamed.add(inner)
        elif func in PRODUCTS | MATRIX_PRODUCTS and by_hand:
            self.as_functions |= dict.fromkeys(given)
        elif func in DROPOUTS and _is_on(*args[1:3], **named):
            self.dropouts.append(inner)
        elif (func is F.scaled_dot_product_attention or func in SOFTMAX) and _has_heads(*args[:1]):
            self._clock += 1
            self.attentions.append(Attention(inner, self._clock, args[0].shape[1]))
        return func(*args, **named)

    def _begin(self, path: str, module: nn.Module, given: tuple[Any, ...]) -> None:
        self.calls[path] += 1
        self._running.append(path)
        self._clock += 1
        if path not in self._begun:
            self._begun[path] = self._clock, given[0] if given and isinstance(given[0], Tensor) else None

    def _end(self, path: str, module: nn.Module, given: Any, output: Any) -> None:
        self._running.pop()
        self._clock += 1
        if path not in self.first and path in self._begun and isinstance(output, Tensor):
            began, read = self._begun[path]
            self.first[path] = Call(began, self._clock, read, output)


def _is_on(p: float = 0.5, training: bool = True, **_: Any) -> bool:
    return training and p > 0


def _has_heads(read: Any = None) -> bool:
    return isinstance(read, Tensor) and read.dim() == 4
