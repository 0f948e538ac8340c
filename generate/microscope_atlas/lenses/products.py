"""Connections of a dictionary's units: products of its encoder and decoder with the expanded weights of its layer.

A unit reads its layer along a row of the encoder and gives to it along a row of the decoder. So its kernel with a unit
before is the encoder's row times the expanded weights between the two layers, and with a unit behind these times the
decoder's row; with the units of another dictionary there, that one's decoder or encoder in turn. With the layer itself
they are the rows alone. Bias and threshold are no connections. Where inputs are divided place by place by their
deviation or length, the weights are up to that scale.

Nothing is taken through attention: how much of one place reaches another there is no weight; the picture decides it.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from microscope_atlas.errors import NetworkFailed
from microscope_atlas.models.dictionaries.behind import Behind
from microscope_atlas.models.dictionaries.dictionary import Dictionary
from microscope_atlas.models.organism import Organism

Expanded = Callable[[str, str], tuple[str, Iterator[Tensor]]]
# of the layers before and behind: how their kernels are found, and these, some units of the later layer at a time

NOTHING_BETWEEN = "nothing between"
NO_DECODER = "no decoder"
WRITES_ELSEWHERE = "it is a transcoder, which gives to another layer"


class Way(NamedTuple):
    """From a dictionary's units to those of another layer."""

    towards: str  # `input` or `output`
    other: str
    linearisation: str
    kernel: Callable[[int], Tensor]  # of one of the dictionary's units: (the other layer's units, height, width)


def ways(organism: Organism, layer: str, network: Behind, expanded: Expanded) -> Iterator[Way | tuple[str, str]]:
    """To all layers that a dictionary's units connect with; of one that they do not, its name and why, in its place."""
    behind = organism.dictionaries[layer].behind
    own = network.dictionary(layer)
    encoder = _reads(own)
    yield Way("input", behind, NOTHING_BETWEEN, lambda unit: encoder[unit][:, None, None])
    for earlier, later in organism.edges:
        if later == behind:
            yield from _between(organism, network, "input", earlier, encoder, partial(expanded, earlier, behind))
    writes, why = _writes(organism, layer, own)
    if writes is None:
        yield "output", why
        return
    yield Way("output", behind, NOTHING_BETWEEN, lambda unit: writes[unit][:, None, None])
    for earlier, later in organism.edges:
        if earlier == behind:
            yield from _between(organism, network, "output", later, writes, partial(expanded, behind, later))


def _between(
    organism: Organism,
    network: Behind,
    towards: str,
    other: str,
    rows: Tensor,
    find: Callable[[], tuple[str, Iterator[Tensor]]],
) -> Iterator[Way | tuple[str, str]]:
    """To a layer that expanded weights lead to, and to the dictionaries that stand behind it."""
    try:
        linearisation, found = find()
        kernels = torch.cat(list(found))  # (the later layer's units, the earlier one's, height, width)
    except NetworkFailed as error:
        yield other, str(error)
        return
    # (the other layer's units, height, width, this layer's units)
    last = (kernels.permute(1, 2, 3, 0) if towards == "input" else kernels.permute(0, 2, 3, 1)).contiguous()

    def kernel(unit: int) -> Tensor:  # each unit by itself: no value depends on which are asked for
        return last @ rows[unit]

    yield Way(towards, other, linearisation, kernel)
    for name, one in organism.dictionaries.items():
        if one.behind != other:
            continue
        there = network.dictionary(name)
        ends, why = (_reads(there), "") if towards == "output" else _writes(organism, name, there)
        yield (name, why) if ends is None else Way(towards, name, linearisation, partial(_through, ends, kernel))


def _through(ends: Tensor, kernel: Callable[[int], Tensor], unit: int) -> Tensor:
    """To the units that read, or give, along `ends`, (units, width)."""
    reached: Tensor = torch.tensordot(ends, kernel(unit), 1)
    return reached


def _reads(dictionary: Dictionary) -> Tensor:
    """How much each unit rises with its layer's, (units, width)."""
    rows = dictionary.encoder
    return rows - rows.mean(1, keepdim=True) if dictionary.treatment == "layer_norm" else rows


def _writes(organism: Organism, layer: str, dictionary: Dictionary) -> tuple[Tensor | None, str]:
    """What each unit gives to its layer's units, (units, width); or why that is not known."""
    if dictionary.decoder is None:
        return None, NO_DECODER
    elsewhere = "writes" in dict(organism.dictionaries[layer].says) or dictionary.decoder.shape[1] != dictionary.width
    return (None, WRITES_ELSEWHERE) if elsewhere else (dictionary.decoder, "")
