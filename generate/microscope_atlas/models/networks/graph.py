"""A network as named nodes, run only as far as asked.

Interpretability asks for layers by name, cuts the network behind one, and looks at what leads where. So an organism is
not a module with a forward of its own but a graph as data: nodes in order of computation, each an operation and the
names of the nodes it reads. Node names are the ones of the network's original code.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Literal

import torch
from torch import Tensor, nn

from microscope_atlas.atlas.organisms import Field, Layer
from microscope_atlas.errors import unknown
from microscope_atlas.models.networks.attention_pool import Attend, MeanToken, Tokens
from microscope_atlas.models.networks.network import Cut, Network
from microscope_atlas.models.networks.ops import Concat, GlobalAveragePool, SameConv2d, SameMaxPool2d, same_padding


class Graph(Network):
    """Nodes in order of computation. `graph(pictures, targets)` runs what the targets need and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: dict[str, tuple[str, ...]] = {}  # node -> the nodes it reads; the first reads the picture
        self._orders: dict[tuple[str, ...], list[str]] = {}

    def add(self, name: str, op: nn.Module, *reads: str) -> str:
        """Append a node and return its name, so that an architecture reads from top to bottom."""
        assert name not in self.reads, f"node {name} twice"
        assert all(read in self.reads for read in reads), f"{name} reads a node that is not there yet"
        self.add_module(name, op)
        self.reads[name] = reads
        return name

    def forward(self, pictures: Tensor, targets: Sequence[str]) -> list[Tensor]:
        """See Network."""
        found: dict[str, Tensor] = {}
        self.visit(pictures, targets, found.__setitem__)
        return [found[target] for target in targets]

    def visit(self, pictures: Tensor, targets: Sequence[str], see: Callable[[str, Tensor], None]) -> None:
        """See Network. A node's value is let go of once all that read it are there."""
        self._compute(self.order(tuple(targets)), {}, pictures, set(targets), see)

    def _compute(
        self,
        order: Sequence[str],
        values: dict[str, Tensor],
        pictures: Tensor,
        asked: Set[str],
        see: Callable[[str, Tensor], None],
    ) -> None:
        """Compute nodes in order, from those that have `values` already, and show `see` those that are asked for."""
        readers = Counter(read for name in order for read in self.reads[name])
        for name in order:
            values[name] = self.get_submodule(name)(*([values[read] for read in self.reads[name]] or [pictures]))
            if name in asked:
                see(name, values[name])
            readers.subtract(self.reads[name])
            for done in (*self.reads[name], name):
                if not readers[done]:
                    values.pop(done, None)

    def cut(self, pictures: Tensor, layer: str, targets: Sequence[str]) -> Cut:
        """See Network. What comes before the layer is computed once."""
        order, behind = self.order((layer, *targets)), {layer}
        for name in order:
            if behind.intersection(self.reads[name]):
                behind.add(name)
        later = [name for name in order if name in behind and name != layer]
        asked = {layer, *targets, *(read for name in later for read in self.reads[name])}
        kept: dict[str, Tensor] = {}
        with torch.no_grad():
            self.visit(pictures, [name for name in order if name in asked - set(later)], kept.__setitem__)

        def onwards(acts: Tensor) -> list[Tensor]:
            values = {name: value.expand(len(acts), *value.shape[1:]) for name, value in kept.items()}
            values[layer] = acts
            found = {target: values[target] for target in targets if target in values}
            self._compute(later, values, pictures, set(targets), found.__setitem__)
            return [found[target] for target in targets]

        return Cut(kept[layer], onwards)

    def order(self, targets: tuple[str, ...]) -> list[str]:
        """The nodes that `targets` need, in order of computation."""
        if targets not in self._orders:
            for target in targets:
                if target not in self.reads:
                    raise unknown("node", target, "the network", self.reads)
            needed = set(targets)
            for name in reversed(self.reads):
                if name in needed:
                    needed.update(self.reads[name])
            self._orders[targets] = [name for name in self.reads if name in needed]
        return self._orders[targets]

    def preactivation(self, name: str) -> str:
        """See Network."""
        return self.reads[name][0] if isinstance(self.get_submodule(name), nn.ReLU | nn.ReLU6) else name

    def rectified(self, name: str) -> bool:
        """See Network."""
        return isinstance(self.get_submodule(name), nn.ReLU)

    def wiring(self) -> Mapping[str, tuple[str, ...]]:
        """See Network."""
        return self.reads

    def sides(self, name: str, size: int) -> tuple[Field, Field]:
        """See Network. Built on the meta device, a graph computes nothing for it."""
        return receptive_fields(self, size, self._shapes(self.order((name,)), size))[name]

    def _shapes(self, nodes: list[str], size: int) -> dict[str, tuple[int, ...]]:
        blank = torch.empty(2, 3, size, size, device="meta")
        return {name: tuple(value.shape[1:]) for name, value in zip(nodes, self(blank, nodes), strict=True)}

    def table(self, size: int) -> dict[str, Layer]:
        """See Network. Built on the meta device, a graph gives its shapes without computing anything."""
        shapes = self._shapes(list(self.reads), size)
        fields = receptive_fields(self, size, shapes)
        table = {}
        fixed: set[str] = set()  # nodes that pictures of this size alone reach
        for name, shape in shapes.items():
            branches, start = {}, 0
            if isinstance(op := self.get_submodule(name), Tokens) or fixed.intersection(self.reads[name]):
                fixed.add(name)
            if isinstance(op, Attend):
                each = shape[0] // op.heads
                branches = {f"head_{head}": (head * each, (head + 1) * each) for head in range(op.heads)}
            behind = self.preactivation(name)
            if isinstance(self.get_submodule(behind), Concat):
                for read in self.reads[behind]:
                    branches[read] = (start, start + shapes[read][0])
                    start += shapes[read][0]
            kind: Literal["conv", "dense"] = "conv" if len(shape) == 3 else "dense"
            alone = name in fixed
            table[name] = Layer(name, kind, shape[0], None, 1, branches, fixed_size=alone).seeing(*fields[name])
        return table


def edges(network: Network, layers: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs (from, to) of layers where one is reached from the other without passing a third, from input to logits."""
    shown = set(layers)
    behind: dict[str, dict[str, None]] = {}  # node -> the layers it is reached from; a dict keeps their order
    found = []
    for name, reads in network.wiring().items():
        behind[name] = {}
        for read in reads:
            behind[name] |= {read: None} if read in shown else behind[read]
        if name in shown:
            found += [(layer, name) for layer in behind[name]]
    return found


def receptive_fields(graph: Graph, size: int, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[Field, Field]]:
    """Receptive field of every node, from kernels, strides and paddings, for pictures of `size` px.

    Along the height and along the width. `shapes` are those of the nodes' values for one such picture; nodes without
    are left out. Araujo, Norris and Sim 2019, https://distill.pub/2019/computing-receptive-fields.
    """
    fields: dict[str, tuple[Field, Field]] = {}
    for name, reads in graph.reads.items():
        if name not in shapes:
            continue
        op = graph.get_submodule(name)
        shape = shapes[reads[0]][1:] if reads else (size, size)
        windows = _windows(op, shape)
        seen = [fields[read] for read in reads] or [(Field(1, 1), Field(1, 1))]
        vertical, horizontal = (
            _field([sides[axis] for sides in seen], None if windows is None else windows[axis]) for axis in (0, 1)
        )
        fields[name] = vertical, horizontal
    return fields


def _field(seen: Sequence[Field], window: tuple[int, int, int] | None) -> Field:
    """Of a node along one axis, from the fields of what it reads and its window there; None: it reads all there is."""
    ends = [field.origin + field.size for field in seen if field.size is not None]
    stride, origin = max(field.stride for field in seen), min(field.origin for field in seen)
    if window is None or len(ends) < len(seen):
        return Field(None, stride)
    extent, step, before = window
    return Field(max(ends) - origin + (extent - 1) * stride, stride * step, origin - before * stride)


def _windows(op: nn.Module, shape: Sequence[int]) -> list[tuple[int, int, int]] | None:
    """Extent, step and padding of what an operation reads around a position, along both axes of its input."""
    if isinstance(op, nn.Linear | GlobalAveragePool | nn.AdaptiveAvgPool2d | MeanToken | Attend):
        return None
    if not isinstance(op, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return [(1, 1, 0)] * 2
    kernel, step = pair(op.kernel_size), pair(op.stride)
    if isinstance(op, SameConv2d | SameMaxPool2d):
        (top, _), (left, _) = same_padding(shape, kernel, step)
        padding = top, left
    else:
        assert not isinstance(op.padding, str), f"padding {op.padding!r}"
        padding = pair(op.padding)
    apart = pair(op.dilation) if isinstance(op, nn.Conv2d) else (1, 1)
    extent = [(size - 1) * between + 1 for size, between in zip(kernel, apart, strict=True)]
    return list(zip(extent, step, padding, strict=True))


def pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    """(height, width) of what torch.nn takes as one number or two."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def fold_batch_norm(graph: Graph) -> None:
    """Merge each batch norm into the convolution it alone reads, in place: the same function, one pass less.

    `w' = w g / sqrt(v + e)`, `b' = (b - m) g / sqrt(v + e) + beta`, in float64.
    """
    readers = [read for reads in graph.reads.values() for read in reads]
    for name, reads in graph.reads.items():
        norm = graph.get_submodule(name)
        if not isinstance(norm, nn.BatchNorm2d) or readers.count(reads[0]) != 1:
            continue
        conv = graph.get_submodule(reads[0])
        if not isinstance(conv, nn.Conv2d):
            continue
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = (norm.running_var.double() + norm.eps).rsqrt() * norm.weight.double()
        bias = conv.bias.double() if conv.bias is not None else 0.0
        shift = (bias - norm.running_mean.double()) * scale + norm.bias.double()
        conv.weight = nn.Parameter((conv.weight.double() * scale[:, None, None, None]).float())
        conv.bias = nn.Parameter(shift.float())
        setattr(graph, name, nn.Identity())
