"""What a pass of natural pictures tells of the units of layers, in bounded memory whatever the length of the set.

Of each picture a layer gives a few numbers a unit, see `Reduced`; of those the best pictures so far are kept, and the
strongest response in some evenly spaced pictures. All layers of a network can be passed over at once.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from microscope_atlas.models.networks.network import Network

PER_PHOTO = 2  # crops of one photo among the best, and in a bucket: one cup is not sixteen samples

SCORES = (("channel", 1), ("channel", -1), ("neuron", 1), ("neuron", -1))  # of feature visualization

AT_ONCE = 64  # pictures that the best are picked from in one go: with more this is sooner done, and more is held

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]
Ranked = tuple[Floats, Integers, Integers]  # values, numbers of the pictures, and places in them; (pictures, units)


class Reduced(NamedTuple):
    """A node's activations in a batch, over the positions of each picture; (batch, units), but for what is said."""

    means: Tensor
    highest: Tensor | None  # None, as whatever nobody asks for
    lowest: Tensor | None
    places: Tensor | None  # of the highest; of equals the first
    silent: Tensor | None  # positions at or below zero; (units)
    num_positions: int
    width: int | None  # positions in a row of the map; None: there is no map


def reduced(acts: Tensor, directions: Collection[int], is_layer: bool) -> Reduced:
    """What is kept of activations (batch, units, height, width) or (batch, units).

    Of the objectives in `directions`, +1 and -1, that are taken at the node, and where it is a layer, of its responses.
    """
    maps = acts.flatten(2) if acts.dim() == 4 else acts[:, :, None]
    highest = places = silent = None
    if is_layer:
        highest, places = _highest(acts, maps)
        # counted in floats: whole numbers would be summed in 64 bits, which takes seven times as long
        silent = torch.le(maps, 0, out=torch.empty_like(maps)).sum(2).long().sum(0)
    elif 1 in directions:
        highest = maps.amax(2)
    lowest = maps.amin(2) if -1 in directions else None
    width = acts.shape[3] if acts.dim() == 4 else None
    return Reduced(maps.mean(2), highest, lowest, places, silent, maps.shape[2], width)


def _highest(acts: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """The highest of each map, and the first place where it is: (batch, units)."""
    if acts.dim() == 4 and acts.device.type == "cpu":  # the same by a pool, in a seventh of the time
        highest, places = F.max_pool2d(acts, acts.shape[2:], return_indices=True)
        return highest.flatten(1), places.flatten(1).int()
    highest, places = maps.max(2)
    return highest, places.int()


class TopK:
    """The best pictures of every unit so far, best first; of equally good ones the earlier.

    Where pictures are crops of photos, at most `PER_PHOTO` of the same. A place that no picture fills has -1 for its
    number, and minus infinity for its value.
    """

    def __init__(self, most: int, photos: Integers | None = None):
        self.most = most
        self.photos = photos  # of which each picture is a crop, by number
        self.num_pictures = 0
        self._best: Ranked | None = None

    def add(self, values: Floats, places: Integers) -> None:
        """Take in the next pictures: values and positions, (pictures, units)."""
        numbers = np.arange(self.num_pictures, self.num_pictures + len(values), dtype=np.int32)
        self.num_pictures += len(values)
        found: Ranked = values, np.broadcast_to(numbers[:, None], values.shape), places
        if self._best is not None:
            found = _joined(self._best, found)
        if self.photos is not None:
            values, numbers, places = _best_first(found, len(found[0]))
            spare = self._spare(numbers)
            found = np.where(spare, np.float32(-np.inf), values), np.where(spare, np.int32(-1), numbers), places
        self._best = _best_first(found, self.most)

    @property
    def values(self) -> Floats:
        """Of the best pictures, (at most `most`, units)."""
        return self._ranked[0]

    @property
    def numbers(self) -> Integers:
        """Of the pictures, counted as they came; -1 where there is none."""
        return self._ranked[1]

    @property
    def places(self) -> Integers:
        """Positions in them."""
        return self._ranked[2]

    @property
    def _ranked(self) -> Ranked:
        assert self._best is not None, "no picture yet"
        return self._best

    def _spare(self, numbers: Integers) -> NDArray[np.bool_]:
        """Which of some pictures, best first, (pictures, units), are of a photo that better ones show often enough."""
        assert self.photos is not None
        units = np.arange(numbers.shape[1])
        shown = np.zeros((int(self.photos.max()) + 1, numbers.shape[1]), np.int32)
        spare = np.zeros(numbers.shape, bool)
        for picture, row in zip(numbers, spare, strict=True):
            photo, there = self.photos[picture.clip(0)], picture >= 0
            row[:] = there & (shown[photo, units] >= PER_PHOTO)
            shown[photo, units] += there
        return spare


def _joined(one: Ranked, other: Ranked) -> Ranked:
    values, numbers, places = zip(one, other, strict=True)
    return np.concatenate(values), np.concatenate(numbers), np.concatenate(places)


def _best_first(found: Ranked, most: int) -> Ranked:
    """At most `most` of some pictures of every unit: the highest values first, of equals the earlier in the list.

    Sorted by whole numbers of which none is there twice, so that nothing is left to how ties are sorted: the value's
    bits, made to fall as values rise, above the place in the list. What is no number comes first.
    """
    values, numbers, places = found
    bits = (values + np.float32(0)).view(np.int32)  # 0 and -0 are the same
    falling = ~(bits ^ ((bits >> 31) & 0x7FFFFFFF))
    keys = np.ascontiguousarray(((falling.astype(np.int64) << 32) | np.arange(len(values))[:, None]).T)
    if most < keys.shape[1]:
        keys = np.partition(keys, most - 1, 1)[:, :most]
    order = np.ascontiguousarray((np.sort(keys, 1) & 0xFFFFFFFF).T)
    return tuple(np.take_along_axis(each, order, 0) for each in (values, numbers, places))  # type: ignore[return-value]


def numbered(photos: Sequence[str]) -> Integers:
    """Of each picture the number of the photo that it is a crop of."""
    order = {name: at for at, name in enumerate(dict.fromkeys(photos))}
    return np.array([order[name] for name in photos], np.int32)


@dataclass
class ResponseStatistics:
    """What a pass has gathered so far about all units of a layer, so that none depends on which are asked for."""

    wanted: Sequence[int]  # numbers of the pictures whose responses are kept, ascending
    top: TopK
    scores: Mapping[tuple[str, int], TopK]
    photos: Sequence[str] | None = None  # of which each picture is a crop, by number
    classes: Any = None  # ClassResponses, where the pictures' classes are known
    num_pictures: int = 0
    num_positions: int = 0  # of a picture
    width: int | None = None  # positions in a row of the map; None: there is no map
    means: Tensor | float = 0.0  # sum of the pictures' means, float64
    silent: Tensor | int = 0  # positions at or below zero
    maxima: Floats = field(default_factory=lambda: np.empty((0, 0), np.float32))  # of those wanted, (units, pictures)
    places: Any = None  # positions of the maxima, in as few bytes as hold them
    _waiting: list[tuple[Tensor, ...]] = field(default_factory=list)  # maxima, their places, and the scores' values
    _kept: int = 0  # of those wanted, how many are there

    def add(self, layer: Reduced, targets: Mapping[int, Reduced]) -> None:
        """Take in a batch: of the layer, and of where each direction's objectives are taken."""
        assert layer.highest is not None
        assert layer.places is not None
        assert layer.silent is not None
        self.means = self.means + layer.means.double().sum(0)
        self.silent = self.silent + layer.silent
        self.num_positions, self.width = layer.num_positions, layer.width
        self._waiting.append((layer.highest, layer.places, *(_score(targets[d], o, d) for o, d in self.scores)))
        if sum(len(maxima) for maxima, *_ in self._waiting) >= AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """Pick the best of the pictures that wait for it; at the end of the pass, too."""
        if not self._waiting:
            return
        # in one piece: from an accelerator each copy has to be waited for
        maxima, places, *values = (torch.cat(parts).cpu().numpy() for parts in zip(*self._waiting, strict=True))
        self._waiting = []
        self._keep(maxima, places)
        self.top.add(maxima, places)
        if self.classes is not None:
            self.classes.add(maxima)
        for best, each in zip(self.scores.values(), values, strict=True):
            best.add(each, places)
        self.num_pictures += len(maxima)

    def _keep(self, maxima: Floats, places: Integers) -> None:
        if not self.maxima.size:
            self.maxima = np.empty((maxima.shape[1], len(self.wanted)), np.float32)
            self.places = np.empty(self.maxima.shape, np.min_scalar_type(self.num_positions))
        rows: list[int] = []
        while self._kept + len(rows) < len(self.wanted):
            at = self.wanted[self._kept + len(rows)] - self.num_pictures
            if at >= len(maxima):
                break
            rows.append(at)
        there = slice(self._kept, self._kept + len(rows))
        self.maxima[:, there], self.places[:, there] = maxima[rows].T, places[rows].T
        self._kept += len(rows)


def _score(node: Reduced, objective: str, direction: int) -> Tensor:
    """Of each picture and unit what an objective of feature visualization gives, (batch, units): higher is better."""
    found = node.means if objective == "channel" else node.highest if direction > 0 else node.lowest
    assert found is not None
    return direction * found


def gather(
    network: Network,
    layers: Mapping[str, ResponseStatistics],
    batches: Iterable[Tensor],
) -> None:
    """Pass pictures through the network, as far as the deepest of `layers`, and fill their statistics.

    `batches` are (batch, 3, height, width), RGB in [0, 1].
    """
    targets = {
        layer: {direction: network.objective_node(layer, direction) for direction in (1, -1)} for layer in layers
    }
    asked: dict[str, set[int]] = {layer: set() for layer in layers}  # node -> the directions that are taken there
    for layer in layers:
        for direction, node in targets[layer].items():
            asked.setdefault(node, set()).add(direction)
    for batch in batches:
        # a lone picture is paired with itself: alone it would be rounded in another way
        given = batch if len(batch) > 1 else batch.expand(2, -1, -1, -1)
        found: dict[str, Reduced] = {}

        def see(node: str, acts: Tensor, found: dict[str, Reduced] = found, count: int = len(batch)) -> None:
            found[node] = reduced(acts[:count], asked[node], node in layers)

        with torch.no_grad():
            network.visit(given, list(asked), see)
        for layer, seen in layers.items():
            seen.add(found[layer], {direction: found[node] for direction, node in targets[layer].items()})
    for seen in layers.values():
        seen.settle()
