"""What is known of the catalog's organisms without building them: for whoever reads an atlas, and needs no PyTorch.

`organisms.json` holds it. `python -m microscope_atlas.models.facts` writes it anew from the catalog; a test compares.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from microscope_atlas.atlas import classes

FILE = Path(__file__).with_name("organisms.json")
Kind = Literal["conv", "dense", "tokens"]  # of a layer: its units are channels, neurons, or features of tokens
CLASSES: dict[str, Callable[[], tuple[str, ...]]] = {
    "imagenet": classes.imagenet,
    "imagenet_behind_background": classes.imagenet_behind_background,
}


@dataclass(frozen=True)
class Field:
    """What a position of a map sees of the picture along one axis: `size` pixels from `origin + position * stride` on.

    Beside that it may depend on the whole picture through gates and norms over positions, which are held constant.
    """

    size: int | None  # px; None: the whole picture, as behind a global pool
    stride: int  # px between the fields of neighbouring positions
    origin: int = 0  # where the first position's begins; below 0 it reaches over the border, into the padding


@dataclass(frozen=True)
class Layer:
    """A node whose units are shown."""

    name: str
    kind: Kind
    units: int  # channels, neurons, or features
    receptive_field: int | None  # px on the longer side, before the picture's border cuts it; None: the whole picture
    stride: int  # px between neighbouring positions; the larger, where the axes differ
    branches: dict[str, tuple[int, int]]  # of a concatenation: the node it came from -> units [start, stop)
    legacy_op: str | None = None  # the layer's name in OpenAI Microscope's links
    origin: int = 0  # px from the picture's left and top to the first position's field; the smaller
    fixed_size: bool = False  # whether pictures smaller than the network's input do not get this far
    vertical: Field | None = None  # where the axes differ, what positions see along the height
    horizontal: Field | None = None  # and along the width
    named_only: bool = False  # whether it is rendered only where it is named, and leads to no other layer

    @property
    def sides(self) -> tuple[Field, Field]:
        """What positions see of the picture, along its height and along its width."""
        square = Field(self.receptive_field, self.stride, self.origin)
        return self.vertical or square, self.horizontal or square

    def seeing(self, vertical: Field, horizontal: Field) -> "Layer":
        """The layer, whose positions see this much of the picture."""
        sizes = [side.size for side in (vertical, horizontal) if side.size is not None]
        apart = (vertical, horizontal) if vertical != horizontal else (None, None)
        return replace(
            self,
            receptive_field=max(sizes) if len(sizes) == 2 else None,
            stride=max(vertical.stride, horizontal.stride),
            origin=min(vertical.origin, horizontal.origin),
            vertical=apart[0],
            horizontal=apart[1],
        )


class Part(NamedTuple):
    """Units of a layer that OpenAI Microscope showed under a name of their own: a branch, or a convolution's group."""

    layer: str
    start: int
    stop: int  # not included


@dataclass(frozen=True)
class Known:
    """What is known of an organism; see models.organism.Organism for what each field means."""

    name: str
    title: str
    paper: str | None
    year: int | None
    dataset: str
    input_size: int
    layers: Mapping[str, Layer]
    legacy_parts: Mapping[str, Part]
    edges: list[tuple[str, str]]
    class_list: str | None  # of CLASSES
    has_other_names: bool = False  # of its classes, which may not ship with this package

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of its classes, in the order of its logits; None where they are not known."""
        return CLASSES[self.class_list]() if self.class_list else None

    def lacks_name(self, layer: str) -> bool:
        """Whether units of a layer stand for classes whose names did not come with this package."""
        counts = [each.units for each in self.layers.values()]
        return self.has_other_names and self.layers[layer].units == counts[-1]


@cache
def organisms() -> dict[str, Known]:
    """The catalog's organisms, by name."""
    return {name: _known(name, plain) for name, plain in json.loads(FILE.read_text()).items()}


def _known(name: str, plain: dict[str, Any]) -> Known:
    layers = [_layer(each) for each in plain.pop("layers")]
    parts = {op: Part(*part) for op, part in plain.pop("legacy_parts").items()}
    edges = [(start, end) for start, end in plain.pop("edges")]
    return Known(name=name, layers={layer.name: layer for layer in layers}, legacy_parts=parts, edges=edges, **plain)


def _layer(plain: dict[str, Any]) -> Layer:
    sides = {side: Field(**plain[side]) for side in ("vertical", "horizontal") if plain[side]}
    branches = {branch: (start, stop) for branch, (start, stop) in plain["branches"].items()}
    return Layer(**{**plain, **sides, "branches": branches})
