"""Layers by structure: hidden neurons, heads and residual streams, wherever a module's code has them.

What the narrowing dense layer of an MLP reads are its hidden neurons, whatever stands before it: GELU, SiLU, or a gate
times a value. What the output projection of an attention reads are its heads, side by side. What a block adds up last
is the residual stream. They are found by what a forward pass did, not by classes' names.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from torch import Tensor, nn

from microscope_atlas.models.networks.taps import Tap
from microscope_atlas.models.networks.watch import UNITS, Call, Watch

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


class Dense(NamedTuple):
    """A dense layer that is called once."""

    path: str
    layer: nn.Linear
    call: Call


def structural(module: nn.Module, names: Mapping[str, str], watch: Watch) -> dict[str, Tap]:
    """Layers by name, in no order; `names` are those of all modules, by path."""
    parts = dict(module.named_modules())
    dense = [
        Dense(path, part, call)
        for path, call in sorted(watch.first.items(), key=lambda item: item[1].began)
        if isinstance(part := parts[path], nn.Linear) and watch.calls[path] == 1
    ]
    heads = dict(_heads(dense, watch))
    inside = [path.rpartition(".")[0] for path in heads]
    mlps = {path: owner for path, owner in _narrowing(dense) if path not in heads}
    blocks = dict(_blocks(parts, watch))
    found: dict[str, Tap] = {}

    def add(name: str, tap: Tap) -> None:
        plain, count = name, 1
        while name in found:
            count += 1
            name = f"{plain}_{count}"
        found[name] = tap

    for path, last in blocks.items():
        mixes = any(_within(each, path) for each in (*heads, *mlps))
        add(names[path], Tap(path, parts[path], units_last=last, named_only=not mixes, apart=True))
    for path, owner in mlps.items():
        beside = owner in blocks or not owner
        add(
            f"{names[owner]}_mlp" if beside else names[owner],
            Tap(path, parts[path], reads=True, units_last=True, apart=True),
        )
    for path, number in heads.items():
        owner = path.rpartition(".")[0]
        block = owner.rpartition(".")[0]
        alone = block and sum(_within(each, block) for each in inside) == 1
        width = next(each.layer.in_features for each in dense if each.path == path) // number
        branches = {f"head_{at}": (at * width, (at + 1) * width) for at in range(number)}
        name = f"{names[block if alone else owner]}_heads"
        add(name, Tap(path, parts[path], reads=True, units_last=True, branches=branches, apart=True))
    return found


def _within(path: str, owner: str) -> bool:
    return path.startswith(f"{owner}.") if owner else True


def _narrowing(dense: Sequence[Dense]) -> Iterator[tuple[str, str]]:
    """Paths of dense layers that take the hidden neurons of an MLP back to its width, and the modules they are in."""
    for at, (path, last, call) in enumerate(dense):
        owner = path.rpartition(".")[0]
        if call.given is None or call.given.dim() < 3 or last.in_features <= last.out_features:
            continue
        before = [each.layer for each in dense[:at] if each.path.rpartition(".")[0] == owner]
        if any(
            first.in_features == last.out_features and first.out_features in (last.in_features, 2 * last.in_features)
            for first in before
        ):
            yield path, owner


def _heads(dense: Sequence[Dense], watch: Watch) -> Iterator[tuple[str, int]]:
    """Paths of the dense layers that read what attention gave, and how many heads that has."""
    ends = [attention.at for attention in watch.attentions[1:]]
    for attention, end in zip_longest(watch.attentions, ends):
        owner = attention.path
        if not any(_within(each.path, owner) for each in dense):
            owner = owner.rpartition(".")[0]  # a module for the softmax alone
        behind = [
            each
            for each in dense
            if each.call.began > attention.at and (end is None or each.call.began < end) and _within(each.path, owner)
        ]
        if owner and behind and behind[0].layer.in_features % attention.heads == 0:
            yield behind[0].path, attention.heads


def _blocks(parts: Mapping[str, nn.Module], watch: Watch) -> Iterator[tuple[str, bool]]:
    """Paths of modules that end with a sum of their own, perhaps rectified; and whether their units come last."""
    units = [path for path, part in parts.items() if isinstance(part, UNITS) and path in watch.first]
    given_on = {id(call.output) for path, call in watch.first.items() if isinstance(parts[path], UNITS)}
    for path, call in sorted(watch.first.items(), key=lambda item: item[1].ended):
        output = call.output
        assert output is not None
        if not path or isinstance(parts[path], UNITS) or watch.calls[path] > 1:
            continue
        if output.dim() not in (3, 4) or id(output) in given_on or not _is_sum(output.grad_fn):
            given_on.add(id(output))
            continue
        given_on.add(id(output))
        inside = [(parts[each], watch.first[each].output) for each in units if _within(each, path)]
        last = _units_last(inside, output)
        if len(inside) > 1 and last is not None:
            yield path, last


def _is_sum(step: Any) -> bool:
    """Whether a step of the history adds two values, or rectifies such a sum, or gives it another shape."""
    while step is not None and step.name().startswith(("ReluBackward", "ViewBackward", "UnsafeViewBackward")):
        step = step.next_functions[0][0]
    if step is None or step.name() != "AddBackward0":
        return False
    return sum(each is not None for each, _ in step.next_functions) > 1


def _units_last(inside: Sequence[tuple[nn.Module, Tensor | None]], output: Tensor) -> bool | None:
    """Whether a block's units are on the last axis, by the last of its parts that gives as much; None: none does."""
    for part, given in reversed(inside):
        if given is None or given.numel() != output.numel():
            continue
        if isinstance(part, nn.Linear):
            return True if output.shape[-1] == part.out_features else None
        if given.shape == output.shape:
            return False
    return None
