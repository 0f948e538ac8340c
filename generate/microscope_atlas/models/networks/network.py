"""What lenses need of a network, whatever it is made of: activations at layers, and where their rectifiers are."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from microscope_atlas.atlas.organisms import Field, Layer


class Cut(NamedTuple):
    """A network cut behind a layer; see Network.cut."""

    acts: Tensor  # of the layer
    onwards: Callable[[Tensor], list[Tensor]]  # activations in place of these -> those at each of the targets


class Network(nn.Module, ABC):
    """Run only as far as asked. A layer is a node; a node may also be what a layer's rectifier reads."""

    channels: int = 3  # that it reads; see networks.channels

    @abstractmethod
    def forward(self, pictures: Tensor, targets: Sequence[str]) -> list[Tensor]:
        """Activations at the nodes `targets` for pictures (batch, 3, height, width), RGB in [0, 1].

        A network that reads other channels takes pictures of these as well, and RGB ones as `in_channels` gives them.
        Channels are (batch, units, height, width), neurons (batch, units).
        """

    def visit(self, pictures: Tensor, targets: Sequence[str], see: Callable[[str, Tensor], None]) -> None:
        """Show `see` the activations at each node of `targets`, as `forward` gives them, as soon as they are there.

        Who keeps none of them can pass over all layers in the memory that a few need.
        """
        for target, acts in zip(targets, self(pictures, targets), strict=True):
            see(target, acts)

    @abstractmethod
    def cut(self, pictures: Tensor, layer: str, targets: Sequence[str]) -> Cut:
        """What lies behind a layer, as a function of its activations; on ways around it all is as in the pictures.

        Of one picture the function takes activations of any batch, of several as many as there are pictures. Layers and
        targets are nodes as in `forward`. What no way leads to from the layer is as it is.
        """

    @abstractmethod
    def preactivation(self, name: str) -> str:
        """The node before the rectifier that layer `name` ends with; the layer itself where it ends with none."""

    @abstractmethod
    def rectified(self, name: str) -> bool:
        """Whether layer `name` ends with what hides all or almost all below zero and nothing else: ReLU, GELU, SiLU."""

    def objective_node(self, layer: str, direction: int) -> str:
        """The node whose activations are maximised, direction +1, or minimised, -1, to show what units of a layer see.

        +1 is taken behind a ReLU, as papers do. What lies below zero it hides, so -1 is taken before it; a ReLU6 hides
        what lies above six too, so there both are.

        Smooth rectifiers hide it as well: GELU never falls below -0.17, SiLU below -0.28, and what gives that is a
        weak preactivation, not the strongest below zero. So with them -1 is taken before, +1 behind, as with a ReLU. A
        gate times a value (SwiGLU) has no bound: there both are taken of the product.
        """
        return layer if self.rectified(layer) and direction > 0 else self.preactivation(layer)

    @abstractmethod
    def wiring(self) -> Mapping[str, tuple[str, ...]]:
        """The nodes that each node reads, in order of computation; nodes that no layer needs may be left out."""

    @abstractmethod
    def table(self, size: int) -> dict[str, Layer]:
        """What can be shown as a layer, with its fields at pictures of `size` px, from input to logits."""

    def not_shown(self) -> Mapping[str, str]:
        """Parts that have units and are no layers, by path -> why; see networks.unshown."""
        return {}

    def lay_out(self) -> None:
        """Arrange the weights in memory as the network runs fastest; its weights and device are there."""
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def prepare(self, size: int) -> None:
        """Find out what pictures of `size` px take, before the first of them: see networks.places."""

    @abstractmethod
    def sides(self, name: str, size: int) -> tuple[Field, Field]:
        """What positions of layer `name` see of pictures of `size` px, along the height and along the width.

        Where padding depends on the size, so do the fields' origins.
        """
