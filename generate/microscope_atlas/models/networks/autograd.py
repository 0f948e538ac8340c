"""A network's structure, read from what autograd recorded of one forward pass.

Whatever code a network is, what it did to a picture that asks for gradients stands in the outputs' history: each step
and the steps it read. That gives the way from layer to layer. The networks' parameters ask for no gradients here, so
that the picture is the history's one beginning.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor


def steps(outputs: Iterable[Tensor]) -> list[Any]:
    """All steps that led to `outputs`, in order of computation."""
    waiting = [output.grad_fn for output in outputs]
    seen: set[Any] = set()
    while waiting:
        step = waiting.pop()
        if step is not None and step not in seen and step.next_functions:
            seen.add(step)
            waiting += [read for read, _ in step.next_functions]
    return sorted(seen, key=lambda step: int(step._sequence_nr()))


def wiring(steps: Iterable[Any], layers: Mapping[str, Tensor]) -> dict[str, tuple[str, ...]]:
    """Which layers each layer is reached from without passing another; layers by name, with their outputs."""
    names: dict[Any, list[str]] = {}
    for name, output in layers.items():
        names.setdefault(output.grad_fn, []).append(name)
    behind: dict[Any, dict[str, None]] = {}  # a dict keeps its order
    found: dict[str, tuple[str, ...]] = {}
    for step in steps:
        reached: dict[str, None] = {}
        for read, _ in step.next_functions:
            reached |= dict.fromkeys(names[read]) if read in names else behind.get(read, {})
        behind[step] = reached
        found |= {name: tuple(reached) for name in names.get(step, ())}
    return {name: found[name] for name in layers}
