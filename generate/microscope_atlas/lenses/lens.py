"""What a lens is: a technique that makes rows about a layer, or about each of its units.

Some lenses look at the network. Others are derived: they look at rows that other lenses have made, and name them in
`reads`, some of them at the network as well; an atlas makes those anew whenever what they were made from has changed.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Generic, Protocol

import pyarrow as pa
import torch
from torch import Tensor

from microscope_atlas.atlas.organisms import Kind, Layer
from microscope_atlas.atlas.tables import Level, Scope, Table
from microscope_atlas.errors import WrongLevel
from microscope_atlas.keys import Key
from microscope_atlas.lenses.recipe import Quality, R, restored
from microscope_atlas.models.dictionaries.behind import OwnUnits, own_units
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.organism import Organism

Row = dict[str, Any]


class Read(Protocol):
    """Rows that were made before, part by part: of a whole atlas they may be more than fits the memory."""

    def __call__(self, table: str, columns: Sequence[str], scope: Scope = "atlas") -> Iterator[pa.Table]:
        """These columns of a table that the lens reads, shard after shard, sorted by its keys.

        With scope `layer` only those of the subject's own layer, although the lens reads those of all models.
        """


def _nothing(table: str, columns: Sequence[str], scope: Scope = "atlas") -> Iterator[pa.Table]:
    raise AssertionError(f"{table} is not among what the lens says that it reads")


@dataclass(frozen=True)
class Subject:
    """What a lens looks at: a layer of a network with its weights, and rows that were made before."""

    organism: Organism
    layer: Layer
    device: torch.device  # that the network is on
    load: Callable[[], Network]
    read: Read = _nothing
    weights_sha256: str = ""  # of the network's tensors; empty where nobody says
    gathered: Any = None  # what Lens.gather gave for it, where layers shared a pass

    @cached_property
    def graph(self) -> Network:
        """The network; loaded when it is first asked for, which hardly any derived lens does."""
        return self.load()

    def activations(self, node: str) -> Callable[[Tensor], Tensor]:
        """Activations at `node`, the network cut behind it."""
        return lambda pictures: self.graph(pictures, [node])[0]

    def own_units(self, node: str, each: Tensor, batch: int) -> OwnUnits | None:
        """Activations of the one unit that each picture is for, `each` (pictures,), with what they are made of.

        Of a dictionary's units, which are too many to be made all; None of a network's own.
        """
        return own_units(self.graph, node, each, max(len(each), self.least(batch)))

    def least(self, batch: int) -> int:
        """How many pictures go through the network together, at least: fewer are joined by copies.

        On a CPU two: one alone takes another kernel, which rounds differently. An accelerator may round differently
        with any other number, so there it is always the recipe's `batch`.
        """
        return 2 if self.device.type == "cpu" else batch

    def joined(self, pictures: Tensor, batch: int) -> Tensor:
        """The pictures, (pictures, ...), and behind them copies where they are fewer than `least`."""
        return joined(pictures, self.least(batch))

    def key(self, unit: int | None = None) -> str:
        """Of the layer, or of a unit."""
        return str(Key(self.organism.name, self.layer.name, unit))


def joined(pictures: Tensor, least: int) -> Tensor:
    """The pictures, (pictures, ...), and behind them copies where they are fewer than `least`."""
    return pictures if len(pictures) >= least else pictures[torch.arange(least) % len(pictures)]


@dataclass(frozen=True)
class Part:
    """What a lens does alike for all layers: pictures that ascend, or a pass over a layer."""

    name: str
    pictures: int  # of a unit, or of a layer where all its units are seen at once; of a pass 1
    steps: int  # of each, through the network and back; of a pass 0


class Lens(ABC, Generic[R]):
    """A technique, which fills one table."""

    table: ClassVar[Table]  # says its name, what a row is about, and what it reads
    divisible: ClassVar[bool]  # whether a layer's units may be spread over shards at no cost; else one pass gives all
    shares_pass: ClassVar[bool] = False  # whether layers of a network may be made in one pass over it, see `gather`
    named_only: ClassVar[bool] = False  # whether it is rendered only where it is named: few networks can be seen so
    looks_at: ClassVar[str] = "other layers"  # in words: the layers that a lens with `named_only` has rows of
    unit_seconds: ClassVar[float | None] = None  # that a derived lens takes for a unit, measured; None: nobody has

    @property
    def name(self) -> str:
        return self.table.name

    @property
    def level(self) -> Level:
        """What a row is about."""
        return self.table.level

    @property
    def reads(self) -> Mapping[str, Scope]:
        """Tables that its rows are made from; of a lens that looks at the network: none."""
        return self.table.reads

    @abstractmethod
    def recipe(self, quality: Quality) -> R:
        """Its settings at a quality; they become part of every row."""

    def restored(self, settings: Mapping[str, Any]) -> R:
        """Its recipe from plain values; ValueError where they are none of its. See recipe.restored."""
        return restored(type(self.recipe("draft")), settings)

    def count(self, settings: Mapping[str, Any], kind: Kind = "conv") -> int | None:
        """How many rows a unit of a layer of this kind, or the layer, gets with these settings; None: it depends."""
        return self.table.rows_each(settings, kind)

    def has_rows(self, organism: Organism, layer: str) -> bool:
        """Whether there is anything to say of a layer: a file without rows is planned for none."""
        return True

    def quick(self) -> R:
        """Its settings for tests: as few steps and as small pictures as show that it works."""
        return self.recipe("draft")

    def shortened(self, recipe: R, steps: int) -> R:
        """The same with so few steps, to be timed: what it takes grows in proportion to `passes`.

        As it is, where it takes no steps.
        """
        short = {
            name: replace(each, steps=steps, redirect_steps=min(each.redirect_steps, 1))
            for name, each in recipe.ascents.items()
        }
        return replace(recipe, **short)

    def parts(self, recipe: R) -> Sequence[Part]:
        """What it does with these settings."""
        return [Part("pass", 1, 0)]

    def flops(self, organism: Organism, layer: Layer, recipe: R) -> float:
        """Floating-point operations for a unit, at the size of the layer's pictures and with its steps.

        Of a lens that looks at layers, or at all units in one pass, a unit's share. Of what is no picture that ascends,
        a lens says itself how much of one it is: see `passes`.
        """
        picture = organism.flops(layer.name, recipe.picture_size(layer, organism.input_size))
        shared = self.level == "layer" or not self.divisible
        return picture * self.passes(layer, recipe) / (layer.units if shared else 1)

    def passes(self, layer: Layer, recipe: R) -> float:
        """How often a picture goes through the network and back, for a unit or for all units of a layer at once."""
        return sum(part.pictures * max(1, part.steps) for part in self.parts(recipe))

    def passes_over(self, layers: Sequence[Layer], recipe: R) -> list[list[Layer]]:
        """How some layers that share a pass are spread over passes, in their order, so that memory is bounded."""
        return [list(layers)]

    def gather(self, subjects: Sequence[Subject], recipe: R) -> Iterator[Any]:
        """Of each of some layers of a network, in their order, what passes over it tell; of a lens that `shares_pass`.

        A subject has it as `gathered` when its rows are made. Those of a subject without are the same, from a pass of
        its own: no row may depend on which layers were made together.
        """
        raise NotImplementedError(f"{self.name} does not share passes")

    def refuse(self, organism: Organism, weights_sha256: str | None, recipe: R) -> None:
        """Raise an AtlasError where a network cannot be looked at, before anything is rendered.

        Without a hash nobody has loaded weights, and only what the network is counts.
        """

    @abstractmethod
    def rows(self, subject: Subject, units: Sequence[int], recipe: R) -> Iterator[list[Row]]:
        """Rows about these units, or about the layer, some at a time, in any order.

        A row gives every column of the table, None where there is nothing, but for those that the shard adds: model,
        layer, weights_sha256, software, device; and `recipe`, where the row has nothing to add to the lens' settings.
        Images are uint8 of torch or numpy, 0 to 255: (height, width, 3), with opacity (height, width, 4) or gray
        (height, width); or the bytes of a JPEG or PNG file.
        Every unit asked for has as many rows as the table counts, or one at least where that depends; each key once.
        """


def seed(*parts: object) -> int:
    """The seed of a row's own random stream, from what identifies the row: 63 bits of sha256."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def refuse_level(lens: Lens[Any], key: Key) -> None:
    """WrongLevel where a lens is pointed at something it does not look at."""
    level = "model" if key.layer is None else "layer" if key.unit is None else "unit"
    if level != lens.level:
        raise WrongLevel(f"{lens.name} looks at a {lens.level}; {key} is a {level}")
