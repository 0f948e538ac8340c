"""A network with dictionaries behind some of its layers: each makes a layer of its own.

Where its units are asked. A sparse dictionary reads the layer as others do, behind its rectifier; +1 is taken behind
the dictionary's own rectifier, -1 before it, as of any layer. Directions have none: they are taken of the activations
that the layer's own units are taken of, so that those of the identity are the layer's units.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from microscope_atlas.atlas.dictionaries import Attached
from microscope_atlas.atlas.organisms import Field, Layer
from microscope_atlas.errors import NetworkFailed
from microscope_atlas.models.dictionaries.dictionary import Dictionary, Encoder
from microscope_atlas.models.networks.network import Cut, Network
from microscope_atlas.models.networks.traced import BEFORE


class _Asked(NamedTuple):
    """A node that a dictionary makes."""

    layer: str
    reads: str  # the network's node
    before: bool  # its rectifier


class Behind(Network):
    """A network, and the layers that dictionaries make."""

    def __init__(self, network: Network, known: Mapping[str, Attached], load: Callable[[str, Attached], Dictionary]):
        super().__init__()
        self.network, self.known, self._load = network, known, load
        self.channels = network.channels
        self._encoders: dict[str, Encoder] = {}  # those that were asked for: of each layer millions of numbers

    def encoder(self, layer: str) -> Encoder:
        """Of the dictionary that makes a layer, on the network's device."""
        if layer not in self._encoders:
            made = Encoder(self._load(layer, self.known[layer]))
            self._encoders[layer] = made.to(next(self.network.parameters()).device)
        return self._encoders[layer]

    def dictionary(self, layer: str) -> Dictionary:
        """That makes a layer, whole, with its decoder; read anew each time, for it is large."""
        return self._load(layer, self.known[layer])

    def forward(self, pictures: Tensor, targets: Sequence[str]) -> list[Tensor]:
        """See Network."""
        nodes, asked = self._nodes(targets)
        return self._targets(self._read(pictures, nodes), nodes, asked)

    def visit(self, pictures: Tensor, targets: Sequence[str], see: Callable[[str, Tensor], None]) -> None:
        """See Network. Of the layers that dictionaries make, which are large, one is there at a time."""
        asked = {target: self._asked(target) for target in targets}
        read = {one.reads for one in asked.values() if one is not None}
        acts: dict[str, Tensor] = {}

        def take(node: str, value: Tensor) -> None:
            if node in read:
                acts[node] = value
            if node in asked:
                see(node, value)

        self.network.visit(pictures, list(dict.fromkeys([*read, *(t for t in targets if asked[t] is None)])), take)
        for target, one in asked.items():
            if one is not None:
                see(target, self._encoded(acts, one))

    def cut(self, pictures: Tensor, layer: str, targets: Sequence[str]) -> Cut:
        """See Network. Behind a layer that a dictionary makes there is nothing: NetworkFailed."""
        if (made := layer.removesuffix(BEFORE)) in self.known:
            raise NetworkFailed(
                f"layer {layer} is made by a dictionary, and no other reads it; take {self.known[made].behind}, which "
                "it stands behind"
            )
        nodes, asked = self._nodes(targets)
        wanted = list(dict.fromkeys(nodes))
        own = self.network.cut(pictures, layer, wanted)

        def onwards(given: Tensor) -> list[Tensor]:
            acts = dict(zip(wanted, own.onwards(given), strict=True))
            return self._targets(acts, nodes, asked)

        return Cut(own.acts, onwards)

    def own_units(self, pictures: Tensor, target: str, units: Tensor) -> tuple[Tensor, Tensor]:
        """Of each picture the one unit of its own, (batch, 1, ...), and the activations that the dictionary reads.

        `units` are (batch,); `target` is a node that a dictionary makes.
        """
        one = self._asked(target)
        assert one is not None
        (acts,) = self.network(pictures, [one.reads])
        return self.encoder(one.layer)(acts, units, one.before), acts

    def _nodes(self, targets: Sequence[str]) -> tuple[list[str], list[_Asked | None]]:
        """Of each target the network's own node that is read for it, and what a dictionary makes of that."""
        asked = [self._asked(target) for target in targets]
        return [target if one is None else one.reads for target, one in zip(targets, asked, strict=True)], asked

    def _targets(
        self, acts: Mapping[str, Tensor], nodes: Sequence[str], asked: Sequence[_Asked | None]
    ) -> list[Tensor]:
        return [acts[node] if one is None else self._encoded(acts, one) for node, one in zip(nodes, asked, strict=True)]

    def _read(self, pictures: Tensor, nodes: Sequence[str]) -> dict[str, Tensor]:
        wanted = list(dict.fromkeys(nodes))
        return dict(zip(wanted, self.network(pictures, wanted), strict=True))

    def _encoded(self, acts: Mapping[str, Tensor], one: _Asked) -> Tensor:
        made: Tensor = self.encoder(one.layer)(acts[one.reads], before=one.before)
        return made

    def _asked(self, target: str) -> _Asked | None:
        layer = target.removesuffix(BEFORE)
        if layer not in self.known:
            return None
        before, behind = target != layer, self.known[layer].behind
        if not self._rectifies(layer):
            return _Asked(layer, self.network.preactivation(behind) if before else behind, before)
        return _Asked(layer, behind, before)

    def _rectifies(self, layer: str) -> bool:
        return self.encoder(layer).known.activation != "linear"

    def preactivation(self, name: str) -> str:
        """See Network."""
        if name not in self.known:
            return self.network.preactivation(name)
        behind = self.known[name].behind
        return name + BEFORE if self._rectifies(name) or self.network.preactivation(behind) != behind else name

    def rectified(self, name: str) -> bool:
        """See Network."""
        if name not in self.known:
            return self.network.rectified(name)
        return self._rectifies(name) or self.network.rectified(self.known[name].behind)

    def wiring(self) -> Mapping[str, tuple[str, ...]]:
        """See Network."""
        return self.network.wiring()

    def table(self, size: int) -> dict[str, Layer]:
        """See Network."""
        return self.network.table(size)

    def not_shown(self) -> Mapping[str, str]:
        """See Network."""
        return self.network.not_shown()

    def lay_out(self) -> None:
        """See Network."""
        self.network.lay_out()

    def prepare(self, size: int) -> None:
        """See Network."""
        self.network.prepare(size)

    def sides(self, name: str, size: int) -> tuple[Field, Field]:
        """See Network."""
        return self.network.sides(self.known[name].behind if name in self.known else name, size)


def own_units(network: Network, node: str, each: Tensor, joined: int) -> "OwnUnits | None":
    """Activations of the one unit that each of `joined` pictures is for; None where a network gives all at no cost.

    `each` are those of the first pictures, again and again; of each picture there may be several views in a row.
    """
    if not isinstance(network, Behind) or network._asked(node) is None:
        return None
    return OwnUnits(network, node, each[torch.arange(joined, device=each.device) % len(each)])


@dataclass(frozen=True)
class OwnUnits:
    """Activations of the one unit that each picture is for."""

    network: Behind
    node: str
    units: Tensor  # of the pictures

    def __call__(self, pictures: Tensor) -> Tensor:
        """(batch, 1 + width, ...): the unit, and what the dictionary reads, by which variants are compared."""
        views = max(1, len(pictures) // len(self.units))
        own, acts = self.network.own_units(pictures, self.node, self.units.repeat_interleave(views)[: len(pictures)])
        return torch.cat([own, acts.to(own.dtype)], 1)
