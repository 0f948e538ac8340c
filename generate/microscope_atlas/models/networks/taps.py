"""Where in a module the values of a layer are, and how they become a map."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from microscope_atlas.models.networks.watch import Call


class Tap(NamedTuple):
    """Where in a module the values of a layer are."""

    path: str
    module: nn.Module
    reads: bool = False  # the layer is what the module reads, not what it gives
    units_last: bool = False  # where its values have four axes: (batch, height, width, units)
    named_only: bool = False  # see Layer
    branches: dict[str, tuple[int, int]] = {}  # noqa: RUF012  see Layer
    apart: bool = False  # whether its tokens that are no place are layers of their own
    inside: bool = False  # of a block, beside what that has by its structure

    def value(self, call: Call) -> Tensor | None:
        """Of the layer, as the module's code has it, in the module's first call."""
        return call.given if self.reads else call.output

    def hook(self, change: Callable[[Any], Tensor | None]) -> RemovableHandle:
        """Have `change` see the layer's values in every call. The module's code goes on with what it gives, if any."""
        if not self.reads:
            return self.module.register_forward_hook(lambda module, given, output: change(output))

        def before(module: nn.Module, given: tuple[Any, ...]) -> Any:
            changed = change(given[0]) if given else None
            return None if changed is None else (changed, *given[1:])

        return self.module.register_forward_pre_hook(before)

    def when(self, call: Call) -> int:
        """Its place in the order of computation."""
        return call.began if self.reads else call.ended


# parameters that hold tokens that are no place, in the order of libraries -> what these are called
PREFIXES = {
    "cls_token": "cls",
    "class_token": "cls",
    "dist_token": "dist",
    "reg_token": "reg",
    "reg_tokens": "reg",
    "register_tokens": "reg",
}


class Places(NamedTuple):
    """Where tokens are in the picture."""

    tokens: Tensor  # (height, width): the number of the token at each place
    rest: tuple[int, ...] = ()  # tokens that are no place, in order

    @property
    def start(self) -> int | None:
        """The first place's token, where the others follow it row by row; None: they do not."""
        first = int(self.tokens[0, 0])
        in_rows = torch.arange(first, first + self.tokens.numel()).view_as(self.tokens)
        return first if self.tokens.equal(in_rows) else None

    def map(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, features) -> (batch, features, height, width)."""
        height, width = self.tokens.shape
        if (start := self.start) is not None:
            placed = tokens[:, start : start + height * width]
        else:
            placed = tokens[:, self.tokens.flatten().to(tokens.device)]
        return placed.transpose(1, 2).reshape(len(tokens), -1, height, width)

    def back(self, placed: Tensor, tokens: Tensor) -> Tensor:
        """A copy of the tokens, those of places taken from their map: their gradient goes through it."""
        flat = placed.flatten(2).transpose(1, 2)
        if (start := self.start) is not None:
            return torch.cat([tokens[:, :start], flat, tokens[:, start + flat.shape[1] :]], 1)
        return tokens.index_copy(1, self.tokens.flatten().to(tokens.device), flat)


def labels(module: nn.Module, where: Places) -> list[str]:
    """What tokens that are no place are called: by the parameters that hold them, else by their order."""
    held = {name.rpartition(".")[2]: each for name, each in module.named_parameters() if each.dim() == 3}
    named = [
        label if label != "reg" else f"reg{at}"
        for key, label in PREFIXES.items()
        if key in held
        for at in range(held[key].shape[1])
    ]
    in_front = where.rest == tuple(range(len(where.rest)))
    return named if in_front and len(named) == len(where.rest) else [f"prefix{at}" for at in range(len(where.rest))]
