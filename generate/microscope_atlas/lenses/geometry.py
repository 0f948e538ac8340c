"""How large a layer's pictures are, how far their views are shifted, and where in one its centre neuron looks."""

from collections.abc import Callable

import torch
from torch import Tensor

from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.models.organism import Organism


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

    The centre neuron of an early layer would otherwise be shown a place that is not its own. Of a field with a longer
    side the shorter one counts.
    """
    return min([most, *(side.size / 4 for side in layer.sides if side.size is not None)])


def field_centre(
    activations: Callable[[Tensor], Tensor], organism: Organism, layer: str, size: int, device: torch.device
) -> tuple[float, float]:
    """The middle of the centre neuron's receptive field: px from the top and from the left of a picture of `size` px.

    Padding and even grids put it up to about a stride away from the picture's middle. Where the field is the whole
    picture it is the picture's middle.
    """
    sides = organism.sides(layer, size)
    with torch.no_grad():
        shape = activations(torch.zeros(2, 3, size, size, device=device)).shape[2:] or (1, 1)
    vertical, horizontal = (
        size / 2 if side.size is None else side.origin + length // 2 * side.stride + side.size / 2
        for side, length in zip(sides, shape, strict=True)
    )
    return vertical, horizontal
