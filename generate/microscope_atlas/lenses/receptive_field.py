"""Where in the picture a layer's centre neuron looks."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.rendering.objectives import at_centre


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
