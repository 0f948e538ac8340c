"""What a picture excites: through a network once, and in each layer the units that answer most.

How much a unit is excited is told in its own measure: its activation over the strongest that natural pictures reach.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from microscope_atlas.atlas.organisms import Field, Layer
from microscope_atlas.atlas.reader import Atlas
from microscope_space.live import networks

if TYPE_CHECKING:
    import torch

    from microscope_atlas.models.organism import Organism

TOP = 5  # units shown of each layer
CLASSES = 5  # that are likeliest

KNOWN = ("layer", "unit", "maximum", "class_name", "thumbnail")  # columns of `units`

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]


@dataclass(frozen=True)
class Excited:
    """A unit, and how a picture excites it."""

    model: str
    layer: str
    unit: int
    ratio: float  # its activation over its natural maximum
    activation: float  # the strongest in the picture
    maximum: float  # the strongest that the atlas' natural pictures reach
    left: int  # what it sees there: its receptive field, px of the picture as the network sees it
    top: int
    right: int
    bottom: int
    class_name: str | None  # that it stands for, if it is a logit
    thumbnail: str | None  # file name of its picture in the atlas


@dataclass(frozen=True)
class Class:
    """What a network takes a picture for."""

    layer: str  # of the logits
    unit: int
    name: str
    share: float  # of the softmax over all classes


@dataclass(frozen=True)
class Seen:
    """A picture as a network saw it."""

    picture: Pixels  # (size, size, 3): its middle square
    layers: dict[str, list[Excited]]  # from input to logits, the most excited unit first
    maps: dict[tuple[str, int], Map]  # where a unit of a layer is active: (height, width), 1 at its strongest
    classes: list[Class]  # the likeliest, where the network has classes whose names are known


def probe(atlas: Atlas, picture: Image.Image, model: str, top: int = TOP) -> Seen:
    """The `top` units of each layer of a model of the atlas that a picture excites most, in one forward pass.

    Only units that the atlas knows are compared; those that no natural picture excites have no measure, and are left
    out. UnknownName and WeightsError as of `networks`.
    """
    import torch

    from microscope_atlas.lenses.frames import pixels, square

    organism, kind = networks.runnable(atlas, model), networks.weights_kind(atlas, model)
    known = _known(atlas.units(model, KNOWN))
    names = [layer for layer in atlas.layers(model) if layer in known]
    size = organism.input_size
    shown = square(picture, size)
    torch.set_num_threads(1)  # of this thread of the server; see live
    with torch.no_grad():
        pictures = shown[None].contiguous(memory_format=torch.channels_last)
        asked = names if organism.logits is None else [*names, organism.logits]
        acts = networks.network(model, kind, torch.device("cpu"))(pictures, asked) if asked else []
    layers: dict[str, list[Excited]] = {}
    maps = {}
    for name, act in zip(names, acts, strict=False):  # logits that the atlas lacks come last
        own = act[0].numpy() if act.dim() == 4 else act[0].numpy()[:, None, None]
        layers[name] = list(_excited(organism.layer(name), known[name], own, size, top, model))
        for excited in layers[name]:
            maps[name, excited.unit] = own[excited.unit].clip(0) / excited.activation
    classes = _classes(organism, acts[-1][0]) if organism.logits is not None else []
    return Seen(pixels(shown).numpy(), layers, maps, classes)


def _classes(organism: "Organism", logits: "torch.Tensor") -> list[Class]:
    assert organism.logits is not None and organism.classes is not None
    shares, units = logits.softmax(0).topk(min(CLASSES, len(logits)))
    return [
        Class(organism.logits, unit, organism.classes[unit], share)
        for share, unit in zip(shares.tolist(), units.tolist(), strict=True)
    ]


def _known(units: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """Of each layer the units that have a measure."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in units.to_pylist():
        if row["maximum"] is not None and row["maximum"] > 0:
            found.setdefault(row["layer"], []).append(row)
    return found


def _excited(
    layer: Layer, known: Sequence[dict[str, Any]], acts: Map, size: int, top: int, model: str
) -> Iterator[Excited]:
    """The most excited units of a layer, of those that are excited at all; acts are (units, height, width)."""
    from microscope_atlas.lenses.dataset_samples import seen

    units = np.array([row["unit"] for row in known])
    flat = acts[units].reshape(len(units), -1)
    activations, places = flat.max(1), flat.argmax(1)
    ratios = activations / np.array([row["maximum"] for row in known], np.float32)
    for at in np.argsort(-ratios, kind="stable")[:top]:
        if not ratios[at] > 0:
            return
        y, x = divmod(int(places[at]), acts.shape[2]) if layer.kind != "dense" else (None, None)
        (upper, lower), (left, right) = seen(layer, y, x, size)
        yield Excited(
            model=model,
            layer=layer.name,
            unit=int(units[at]),
            ratio=float(ratios[at]),
            activation=float(activations[at]),
            maximum=known[at]["maximum"],
            left=left,
            top=upper,
            right=right,
            bottom=lower,
            class_name=known[at]["class_name"],
            thumbnail=known[at]["thumbnail"],
        )


def heat(layer: Layer, active: Map, size: int) -> Map:
    """Where a unit is active, (height, width), for every pixel of a picture of `size` px: (size, size), 0 to 1.

    Each position stands in the middle of what it sees, and what lies between is interpolated.
    """
    at = [centres(side, length, size) for side, length in zip(layer.sides, active.shape, strict=True)]
    asked = np.arange(size) + 0.5
    across = np.stack([np.interp(asked, at[1], row) for row in active])
    whole = np.stack([np.interp(asked, at[0], column) for column in across.T], 1)
    heat: Map = whole.astype(np.float32)
    return heat


def centres(side: Field, length: int, size: int) -> NDArray[np.floating[Any]]:
    """The middles of what the positions of a map see along one axis, (length,), px of a picture of `size` px."""
    if side.size is None:
        return (np.arange(length) + 0.5) * size / length
    return side.origin + side.size / 2 + np.arange(length) * side.stride
