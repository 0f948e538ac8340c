"""What a lens is: a technique that makes rows about the units of a layer."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from generate.models.network import Layer, Network
from generate.models.organism import Organism

Row = dict[str, Any]

Quality = Literal["draft", "standard", "microscope"]
QUALITIES: tuple[Quality, ...] = ("draft", "standard", "microscope")


@dataclass(frozen=True)
class Subject:
    """A layer of a network with its weights, on the device it runs on."""

    organism: Organism
    graph: Network
    layer: Layer
    device: torch.device

    def activations(self, node: str) -> Callable[[Tensor], Tensor]:
        """Activations at `node`, the network cut behind it."""
        return lambda pictures: self.graph(pictures, [node])[0]

    def key(self, unit: int) -> str:
        return f"{self.organism.name}/{self.layer.name}/{unit}"


class Lens(Protocol):
    """A technique. Its name is that of its table in the schema."""

    name: str

    def recipe(self, quality: Quality) -> Any:
        """Its settings at a quality, a frozen dataclass; they become part of every row."""

    def images(self, settings: Mapping[str, Any]) -> int:
        """How many images, and rows, a unit gets with these settings."""

    def rows(self, subject: Subject, units: Sequence[int], recipe: Any) -> Iterator[list[Row]]:
        """Rows about these units, some at a time; without the columns that say who made them, which the shard adds."""


def seed(*parts: object) -> int:
    """The seed of a row's own random stream, from what identifies the row: 63 bits of sha256."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def settings(recipe: Any) -> dict[str, Any]:
    """A recipe as plain values."""
    return asdict(recipe)
