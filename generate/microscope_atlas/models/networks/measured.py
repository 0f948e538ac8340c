"""What positions of a network's maps see of the picture, measured by gradient, whatever code the network is.

Of each layer a few positions are asked where on the layers before it their gradient is: that gives what a position
reads there, how far apart two neighbours read, and whether the layer's rows and columns are the picture's at all. From
layer to layer these are put together as in graph.receptive_fields; so a field may be larger than the picture, and the
history is cut at each layer: a gradient would be lost on a long way.

So that no part of a field is missed the network runs on weights above zero, its activation functions have slope one and
its max pools that of the average. What a position takes from the whole picture through a pool over all positions, as
squeeze-and-excitation gates do, or through the mean and deviation of a norm over positions, is held constant: a field
says what a position sees beside that. A layer that sees the picture through such pools alone, or through attention over
all of it, sees the whole of it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from microscope_atlas.atlas.organisms import Field
from microscope_atlas.models.networks.linearised import NOISE, Linearised
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.networks.taps import Tap

OUT_OF_ORDER = "positions in another order than the picture's"  # windows and the places in them, say
ROOMY = 160  # px on a side, at least, that a network is measured with, if it takes more than its own size
PICTURE = ""  # in place of a layer's name
POSITIONS = ((0, 0), (1, 1), (-1, -1), (0, -1), (-1, 0))  # that are asked, each in a picture of its own
FIRST, SECOND, LAST, UPPER_RIGHT, LOWER_LEFT = range(len(POSITIONS))

ADAPTIVE = {F.adaptive_avg_pool2d, F.adaptive_max_pool2d}
REDUCTIONS = {
    getattr(owner, name) for owner in (torch, Tensor) for name in ("mean", "sum", "amax", "amin", "var", "std", "norm")
} | {torch.linalg.vector_norm}
NORMS = {F.group_norm, F.instance_norm}


class Sight(NamedTuple):
    """What the positions of a layer see."""

    vertical: Field
    horizontal: Field
    fault: str | None = None  # why it is no map of the picture; None: it is one, or has no positions


def sights(network: Network, modules: Mapping[str, nn.Module | Tap], size: int) -> dict[str, Sight]:
    """What layers, by name, with their modules and in order of computation, see of pictures of `size` px.

    Of a network that fails here, which runs on other weights than its own, nothing is known: it sees the whole picture.
    """
    # an odd multiple: the padding of some depends on whether a size is even
    roomy = size * next(times for times in range(1, ROOMY + 2, 2) if times * size >= ROOMY)
    for px in dict.fromkeys((roomy, size)):
        with suppress(Exception):  # whatever a user's code raises
            first = _sights(network, modules, px, faulty={})
            faulty = {name: sight for name, sight in first.items() if sight.fault}
            # what reads a layer that is no map is measured once more, on the maps before that
            return _sights(network, modules, px, faulty) if faulty else first
    return dict.fromkeys(modules, Sight(Field(None, 1), Field(None, 1)))


class Held(TorchFunctionMode):
    """Within this context pools over all positions, and norms' statistics over them, are constants."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func is F.conv2d and len(args) == 7 and args[6] == 1 and args[0].dim() == 4:
            return _first_alone(*args)
        value = func(*args, **named)
        if not isinstance(value, Tensor) or not args or not isinstance(args[0], Tensor):
            return value
        read = args[0]
        if func in NORMS or (func is F.layer_norm and len(args[1]) > 1):
            return read + (value - read).detach()
        pooled = (func in ADAPTIVE or func is F.avg_pool2d) and value.shape[2:].numel() == 1 < read.shape[2:].numel()
        axes = named.get("dim", args[1] if len(args) > 1 else None)
        reduced = func in REDUCTIONS and read.dim() == 4 and isinstance(axes, tuple | list) and len(axes) == 2
        return value.detach() if pooled or reduced else value


def _first_alone(read: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    """A convolution, all of whose units are the first: all read the same positions, and one is sooner done."""
    one = F.conv2d(read, weight[:1], None if bias is None else bias[:1], *rest)
    return one.expand(-1, len(weight), -1, -1).clone()


class Map(NamedTuple):
    """A layer's output, with its history back to other maps, and what the network goes on with: the same, without."""

    output: Tensor  # (pictures, units, height, width)
    leaf: Tensor  # or (pictures, height, width, units)
    units_last: bool = False


def _sights(
    network: Network, modules: Mapping[str, nn.Module | Tap], size: int, faulty: Mapping[str, Sight]
) -> dict[str, Sight]:
    """What layers see; the history is not cut at those that are known to be `faulty`."""
    maps = _run(network, {name: module for name, module in modules.items() if name not in faulty}, size)
    names = {maps[name].leaf: name for name in maps}
    found = {PICTURE: Sight(Field(1, 1), Field(1, 1))}
    stride = 1
    for name in modules:
        if name in faulty:
            found[name] = faulty[name]
            continue
        if name in maps:
            output = maps[name].output
            reads = [(maps[names[leaf]], found[names[leaf]]) for leaf in leaves(output)]
            steps = [round(size / length) if length > 1 else stride for length in output.shape[2:]]
            found[name] = _sight(output, reads, Sight(Field(None, steps[0]), Field(None, steps[1])))
        else:  # all that it sees is held constant
            found[name] = Sight(Field(None, stride), Field(None, stride))
        stride = max(found[name].vertical.stride, found[name].horizontal.stride)
    return {name: found[name] for name in modules}


def _run(network: Network, modules: Mapping[str, nn.Module | Tap], size: int) -> dict[str, Map]:
    """The picture, and the maps that `modules` make of it, each at its first call."""
    picture = torch.full((len(POSITIONS), network.channels, size, size), 0.5, requires_grad=True)
    maps = {PICTURE: Map(picture, picture)}

    def cut(name: str, units_last: bool, value: Any) -> Tensor | None:
        if name in maps or not isinstance(value, Tensor) or value.dim() != 4 or not value.requires_grad:
            return None
        leaf = value.detach().requires_grad_()
        maps[name] = Map(value.permute(0, 3, 1, 2) if units_last else value, leaf, units_last)
        return leaf

    def hook(name: str, at: nn.Module | Tap) -> RemovableHandle:
        tap = at if isinstance(at, Tap) else Tap(name, at, units_last=isinstance(at, nn.Linear))
        return tap.hook(partial(cut, name, tap.units_last))

    handles = [hook(name, at) for name, at in modules.items()]
    try:
        with torch.enable_grad(), Linearised(), Held():
            functional_call(network, _values(network), (picture, list(modules)))
    finally:
        for handle in handles:
            handle.remove()
    return maps


def _values(network: Network) -> dict[str, Tensor]:
    """Weights above zero that keep activations' scale, the same for all parameters of a shape; buffers as they are."""
    generator = torch.Generator().manual_seed(0)
    values, made = {}, dict[torch.Size, Tensor]()
    for name, parameter in network.named_parameters():
        if parameter.shape not in made:
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
            drawn = (len(parameter), 1) if parameter.dim() == 2 else parameter.shape  # of dense layers one for a unit
            weights = (0.5 + torch.rand(drawn, generator=generator)) / max(fan_in, 1)
            made[parameter.shape] = weights.expand(parameter.shape).contiguous()
        values[name] = made[parameter.shape]
    return values | buffers(network)


def buffers(module: nn.Module) -> dict[str, Tensor]:
    """Those of a module as they are; where it holds no values, ones, or zeros of whole numbers."""
    values = {}
    for name, buffer in module.named_buffers():
        blank = torch.ones if buffer.is_floating_point() else torch.zeros
        values[name] = blank(buffer.shape, dtype=buffer.dtype) if buffer.is_meta else buffer.cpu()
    return values


def leaves(output: Tensor) -> list[Tensor]:
    """Where the history of a tensor begins."""
    if output.is_leaf:  # the output of a part, which is the whole's too
        return [output]
    waiting, passed, found = [output.grad_fn], set[Any](), []
    while waiting:
        step = waiting.pop()
        if step is None or step in passed:
            continue
        passed.add(step)
        if hasattr(step, "variable"):
            found.append(step.variable)
        waiting += [read for read, _ in step.next_functions]
    return found


class Window(NamedTuple):
    """What the first position of an axis reads of a map before it, in positions there, and how far on the next does."""

    start: int
    stop: int
    step: int


def _sight(output: Tensor, reads: Sequence[tuple[Map, Sight]], whole: Sight) -> Sight:
    """Of a layer, from where its gradient is on what it reads; `whole` where that is all, or not known."""
    height, width = output.shape[2:]
    at = [(y % height, x % width) for y, x in POSITIONS]
    weights = 0.5 + torch.rand(output.shape[1], generator=torch.Generator().manual_seed(1))
    asked = torch.stack([output[number, :, y, x] @ weights for number, (y, x) in enumerate(at)]).sum()
    gradients = torch.autograd.grad(asked, [read.leaf for read, _ in reads], retain_graph=True)
    axes: tuple[list[Field | None], list[Field | None]] = ([], [])
    for gradient, (read, sight) in zip(gradients, reads, strict=True):
        if not gradient.any():
            continue
        boxes = _boxes(gradient.permute(0, 3, 1, 2) if read.units_last else gradient)
        in_order = _in_order(boxes)
        if sight.fault and in_order:
            return whole._replace(fault=sight.fault)  # the same positions
        if not sight.fault and not in_order:
            return whole._replace(fault=OUT_OF_ORDER)
        for axis, field in enumerate((sight.vertical, sight.horizontal)):
            window = _window([box[axis] for box in boxes], output.shape[2 + axis], read.output.shape[2 + axis])
            axes[axis].append(None if window is None or field.size is None else _through(window, field))
    return Sight(_union(axes[0]) or whole.vertical, _union(axes[1]) or whole.horizontal)


Span = tuple[int, int]  # first and last


def _boxes(gradient: Tensor) -> list[tuple[Span, Span]]:
    """Of each picture the rows and the columns between which its gradient is; rounding is none."""
    weight = gradient.abs().sum(1)
    some = weight > NOISE * weight.amax((1, 2), keepdim=True)
    return [(_span(each.any(1)), _span(each.any(0))) for each in some]


def _span(some: Tensor) -> Span:
    at = some.nonzero().flatten().tolist()
    return (at[0], at[-1]) if at else (0, len(some) - 1)


def _in_order(boxes: Sequence[tuple[Span, Span]]) -> bool:
    """Whether the corners of a layer see the corners of the map before it, each its own."""
    rows, columns = ([sum(box[axis]) for box in boxes] for axis in (0, 1))
    return (
        rows[FIRST] == rows[UPPER_RIGHT] <= rows[LOWER_LEFT] == rows[LAST]
        and columns[FIRST] == columns[LOWER_LEFT] <= columns[UPPER_RIGHT] == columns[LAST]
        and rows[FIRST] <= rows[SECOND]
        and columns[FIRST] <= columns[SECOND]
    )


def _window(spans: Sequence[Span], length: int, read: int) -> Window | None:
    """The window along an axis of `length` positions over one of `read`; None where no window gives these spans."""
    (first, second, last), end = (spans[at] for at in (FIRST, SECOND, LAST)), length - 1
    if end == 0 or first[1] == read - 1 or last[0] == 0:
        return None  # it may reach further than the map
    step = second[1] - first[1] if second[1] < read - 1 else second[0] - first[0] or round((read - 1) / end)
    window = Window(last[0] - end * step, first[1] + 1, step)
    expected = [(max(window.start + at * step, 0), min(window.stop + at * step, read) - 1) for at in (0, 1, end)]
    return window if step > 0 and expected == [first, second, last] else None


def _through(window: Window, field: Field) -> Field:
    """What a position sees of the picture that reads this window of a map whose positions see `field` of it."""
    assert field.size is not None
    size = (window.stop - window.start - 1) * field.stride + field.size
    return Field(size, window.step * field.stride, field.origin + window.start * field.stride)


def _union(fields: Sequence[Field | None]) -> Field | None:
    """The field over all of these; None where one is not known, or they do not keep step."""
    known = [
        (field.origin, field.size, field.stride) for field in fields if field is not None and field.size is not None
    ]
    strides = {stride for _, _, stride in known}
    if len(known) < len(fields) or len(strides) != 1:
        return None
    origin = min(origin for origin, _, _ in known)
    return Field(max(origin + size for origin, size, _ in known) - origin, strides.pop(), origin)
