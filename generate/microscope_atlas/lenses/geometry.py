"""How large a layer's pictures are, how far their views are shifted, and where in one its centre neuron looks."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.rendering.objectives import at_centre


def unit_size(layer: Layer, input_size: int, max_size: int | None) -> int:
    """Pixels on a side of pictures of a layer's units: its receptive field and 16 px more, never above `input_size`.

    A unit that sees 7 px shows all it has on 48; more canvas would only repeat it. Dense layers get the whole input,
    and so does what the network computes of pictures of its own size alone.
    """
    if layer.receptive_field is None or layer.fixed_size:
        return input_size
    wanted = -(-(layer.receptive_field + 16) // 16) * 16
    return min(max(wanted, 48), max_size or input_size, input_size)


def layer_size(layer: Layer, input_size: int, max_size: int | None) -> int:
    """Pixels on a side of pictures of a whole layer: the network's input, or `max_size` where the layer takes less."""
    whole = layer.receptive_field is None or layer.fixed_size
    return input_size if whole else min(max_size or input_size, input_size)


def shift(layer: Layer, most: float) -> float:
    """Pixels that views of a layer are shifted by at most: a quarter of its receptive field, never more than `most`.

    The centre neuron of an early layer would otherwise be shown a place that is not its own.
    """
    return most if layer.receptive_field is None else min(most, layer.receptive_field / 4)


def field_centre(activations: Callable[[Tensor], Tensor], layer: Layer, size: int, device: torch.device) -> float:
    """The middle of the centre neuron's receptive field: px from the left border of a picture of `size` px.

    Padding and even grids put it up to about a stride away from the picture's middle. The vertical place is the same.
    Where the field is the whole picture it is the picture's middle.

    Measured, whatever the network is made of: no number but NaN remains NaN through convolutions, pools and rectifiers,
    so the neuron is NaN just where one of its pixels is. The picture is widened by whole strides, the same on both
    sides, until the field lies within it, which moves the centre neuron along. Of a network that takes one size alone,
    what lies within that is measured.
    """
    if layer.receptive_field is None:
        return size / 2
    beyond = (math.ceil(layer.receptive_field / 2 / layer.stride) + 1) * layer.stride if not layer.fixed_size else 0
    width = size + 2 * beyond

    def reached(columns: slice) -> bool:
        strip = torch.zeros(1, 3, size, width, device=device)
        strip[..., columns] = torch.nan
        return bool(at_centre(activations(strip)).isnan().any())

    with torch.backends.cudnn.flags(enabled=False):  # its fast convolutions share sums among neighbours
        left = _last(width, lambda columns: not reached(slice(0, columns)))
        right = width - _last(width, lambda columns: not reached(slice(width - columns, width)))
    return (left + right) / 2 - beyond


def _last(length: int, holds: Callable[[int], bool]) -> int:
    """The largest number below `length` that something holds for, if it holds for 0 and all numbers up to that one."""
    low, high = 0, length
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
