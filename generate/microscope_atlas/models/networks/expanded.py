"""Expanded weights: the linear map from one layer's units to those of a layer behind it.

Voss et al. 2021, "Visualizing Weights", https://distill.pub/2020/circuits/visualizing-weights. What stands between the
two layers is taken as linear: rectifiers as the identity, max pools as average pools, local response norm as its slope
at zero, `k ** -beta`; batch norm is its scale, a sum all its terms. Of a network given as a graph that map has a closed
form, the composition of its kernels, found here from the later layer back to the earlier one. Any other network is
differentiated: see linearised.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microscope_atlas.models.networks.graph import Graph, pair
from microscope_atlas.models.networks.ops import (
    Add,
    Concat,
    GlobalAveragePool,
    LocalResponseNorm,
    SameConv2d,
    SameMaxPool2d,
    same_padding,
)

Shape = tuple[int, ...]  # of a node's activations: (channels, height, width), or (neurons,)

IDENTITY = (nn.ReLU, nn.ReLU6, nn.Identity)
LINEAR = (nn.BatchNorm2d, LocalResponseNorm, nn.Conv2d, nn.Linear, nn.Flatten, Concat, Add)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, GlobalAveragePool)


@dataclass(frozen=True)
class Window:
    """What target units read of a node: their weights on the part of its map that any of them reads."""

    weights: Tensor  # (targets, channels, height, width); neurons are channels of a map of one position
    top: int  # position of the first row on the node's map
    left: int


def composable(graph: Graph, source: str, target: str, shown: Iterable[str]) -> bool:
    """Whether the expanded weights between two layers have a closed form: every operation on the ways is known here."""
    nodes, _ = _between(graph, source, target, shown)
    return all(_known(graph.get_submodule(node)) for node in nodes)


def compose(graph: Graph, source: str, target: str, shown: Iterable[str], size: int, batch: int) -> Iterator[Tensor]:
    """Expanded weights of all units of `target`, `batch` at a time: (targets, source's units, height, width).

    For the centre position of `target`, at pictures of `size` px, where the map's border lies; along all ways that pass
    no third layer of `shown`. Height and width are those of the part of `source` that the kernels reach.
    """
    nodes, leading = _between(graph, source, target, shown)
    shapes = _shapes(graph, [target, *(read for node in nodes for read in graph.reads[node])], size)
    channels, *positions = shapes[target]
    centre = [length // 2 for length in positions] or [0, 0]
    one_hot = torch.eye(channels, device=next(graph.parameters()).device)[:, :, None, None]
    for start in range(0, channels, batch):
        reached: dict[str, list[Window]] = {target: [Window(one_hot[start : start + batch], *centre)]}
        for node in nodes:
            window = _sum(reached.pop(node))
            reads = graph.reads[node]
            for read, part in zip(reads, _back(graph, node, window, shapes), strict=True):
                if read in leading:
                    reached.setdefault(read, []).append(_cut(part, shapes[read]))
        yield _sum(reached[source]).weights


def _known(op: nn.Module) -> bool:
    if isinstance(op, nn.AdaptiveAvgPool2d):
        return op.output_size in (1, (1, 1))
    return isinstance(op, (*IDENTITY, *LINEAR, *POOLS))


def _between(graph: Graph, source: str, target: str, shown: Iterable[str]) -> tuple[list[str], set[str]]:
    """The nodes on the ways from `source` to `target`, from the last one back; and all that these may come from."""
    order, stops = graph.order((target,)), set(shown) - {source, target}
    leading = {source}
    for node in order[order.index(source) + 1 :]:
        if node not in stops and leading.intersection(graph.reads[node]):
            leading.add(node)
    on_the_way, nodes = {target}, []
    for node in reversed(order):
        if node in on_the_way & leading and node != source:
            on_the_way.update(graph.reads[node])
            nodes.append(node)
    return nodes, leading & on_the_way


def _shapes(graph: Graph, nodes: list[str], size: int) -> dict[str, Shape]:
    """Of activations at nodes, found by running the graph once."""
    names = list(dict.fromkeys(nodes))
    blank = torch.zeros(1, 3, size, size, device=next(graph.parameters()).device)
    with torch.no_grad():
        return {name: tuple(value.shape[1:]) for name, value in zip(names, graph(blank, names), strict=True)}


def _back(graph: Graph, node: str, window: Window, shapes: Mapping[str, Shape]) -> list[Window]:
    """A node's window, seen from each of the nodes that it reads."""
    op, reads = graph.get_submodule(node), graph.reads[node]
    weights, shape = window.weights, shapes[reads[0]]
    match op:
        case Concat():
            parts = weights.split_with_sizes([shapes[read][0] for read in reads], 1)
            return [replace(window, weights=part) for part in parts]
        case Add():
            return [window] * len(reads)
        case nn.BatchNorm2d():
            assert op.running_var is not None
            scale = op.weight * (op.running_var + op.eps).rsqrt()
            return [replace(window, weights=weights * scale[:, None, None])]
        case LocalResponseNorm():
            return [replace(window, weights=weights * op.k**-op.beta)]
        case nn.Conv2d() | nn.MaxPool2d() | nn.AvgPool2d():
            return [_convolved(op, window, shape)]
        case nn.Linear():
            used = _used(weights)
            return [Window((weights[:, used, 0, 0] @ op.weight[used])[:, :, None, None], 0, 0)]
        case nn.Flatten():
            return [Window(weights.reshape(-1, *shape), 0, 0)]
        case GlobalAveragePool() | nn.AdaptiveAvgPool2d():
            height, width = shape[1:]
            return [Window(weights.expand(-1, -1, height, width) / (height * width), 0, 0)]
    return [window]  # the identity, or taken as such


def _convolved(op: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d, window: Window, shape: Shape) -> Window:
    """What a window reads through a convolution, or through a pool as the mean over its own window."""
    kernel, stride = pair(op.kernel_size), pair(op.stride)
    if isinstance(op, SameConv2d | SameMaxPool2d):
        (top, _), (left, _) = same_padding(shape[1:], kernel, stride)
    else:
        assert not isinstance(op.padding, str)
        top, left = pair(op.padding)
    read = window.weights
    if not isinstance(op, nn.Conv2d):
        mean = torch.full((read.shape[1], 1, *kernel), 1 / (kernel[0] * kernel[1]), device=read.device)
        read = F.conv_transpose2d(read, mean, stride=stride, groups=read.shape[1])
    elif op.groups == 1:
        used = _used(read)
        read = F.conv_transpose2d(read[:, used], op.weight[used], stride=stride, dilation=op.dilation)
    else:
        read = F.conv_transpose2d(read, op.weight, stride=stride, groups=op.groups, dilation=op.dilation)
    return Window(read, window.top * stride[0] - top, window.left * stride[1] - left)


def _used(weights: Tensor) -> Tensor:
    """Channels that any target reads, at least one: to leave the others out saves most of a first product."""
    used = weights.flatten(2).any(2).any(0).nonzero().flatten()
    return used if len(used) else torch.zeros(1, dtype=torch.long, device=weights.device)


def _cut(window: Window, shape: Shape) -> Window:
    """Without what lies beyond the map's border, where only padding is."""
    height, width = shape[1:] or (1, 1)
    top, left = max(window.top, 0), max(window.left, 0)
    return Window(
        window.weights[:, :, top - window.top : height - window.top, left - window.left : width - window.left],
        top,
        left,
    )


def _sum(windows: list[Window]) -> Window:
    """One window over all, each weight the sum of theirs."""
    return reduce(_plus, windows)


def _plus(a: Window, b: Window) -> Window:
    top, left = min(a.top, b.top), min(a.left, b.left)
    bottom, right = (max(w.top + w.weights.shape[2] for w in (a, b)), max(w.left + w.weights.shape[3] for w in (a, b)))
    total = a.weights.new_zeros(*a.weights.shape[:2], bottom - top, right - left)
    for w in (a, b):
        total[:, :, w.top - top :, w.left - left :][:, :, : w.weights.shape[2], : w.weights.shape[3]] += w.weights
    return Window(total, top, left)
