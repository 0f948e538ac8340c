"""Responses: what natural pictures do to the units of a layer, from one pass of a picture set through the network.

The table that others read: dataset samples, comparisons of units, and the scale of a visualization's score. Memory is
bounded whatever the length of the set: of every unit the best pictures so far are kept, and the strongest response in
some evenly spaced pictures, which quantiles, buckets and the random samples are taken from.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.lenses.lens import Lens, Row, Subject, seed
from microscope_atlas.lenses.recipe import PicturesRecipe, Quality
from microscope_atlas.pictures.cuts import default_revision
from microscope_atlas.pictures.sets import picture_set
from microscope_atlas.pictures.sources import DEFAULT
from microscope_atlas.structure import Count, between

PROBABILITIES = (0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)  # of the column `quantiles`
BUCKETS = ((0.9, 0.99), (0.75, 0.9), (0.5, 0.75), (0.25, 0.5), (0.0, 0.25))  # quantiles that samples are taken between

PER_PHOTO = 2  # crops of one photo among the best, and in a bucket: one cup is not sixteen samples

SCORES = (("channel", 1), ("channel", -1), ("neuron", 1), ("neuron", -1))  # of feature visualization


@dataclass(frozen=True)
class Recipe(PicturesRecipe):
    """Settings of responses."""

    batch: Count = 16  # pictures at once
    top: Annotated[int, between(1, 4096)] = 16  # best pictures of a unit that are kept
    per_bucket: Annotated[int, between(1, 4096)] = 4  # samples from each bucket, and random ones
    max_responses: Count = 2048  # pictures, evenly spaced in the set, that each unit's response is kept of


class Responses(Lens[Recipe]):
    """The lens."""

    table = schema.RESPONSES
    divisible = False

    def recipe(self, quality: Quality) -> Recipe:
        return Recipe(DEFAULT, default_revision())

    def shortened(self, recipe: Recipe, steps: int) -> Recipe:
        """On the package's own pictures, which are few."""
        return replace(recipe, pictures=DEFAULT, revision=default_revision())

    def passes(self, layer: Layer, recipe: Recipe) -> float:
        """The whole set, there and not back."""
        return _length(recipe.pictures, recipe.revision) / 2

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        yield _rows(subject, units, recipe)


@cache
def _length(pictures: str, revision: str) -> int:
    return len(picture_set(pictures, revision))


@dataclass
class TopK:
    """The best pictures of every unit so far, best first; of equally good ones the earlier.

    Where pictures are crops of photos, at most `PER_PHOTO` of the same. A place that no picture fills has -1 for its
    number.
    """

    most: int
    photos: Tensor | None = None  # of which each picture is a crop, by number
    values: list[Tensor] = field(default_factory=list)  # at most one of each; (pictures, units)
    found: list[Tensor] = field(default_factory=list)  # (pictures, units, 2): number of the picture, position in it

    def add(self, values: Tensor, numbers: Tensor, positions: Tensor) -> None:
        """Take in a batch: values and positions are (batch, units), the pictures' numbers (batch)."""
        values = torch.cat([*self.values, values])
        found = torch.cat([*self.found, torch.stack([numbers[:, None].expand_as(positions), positions], 2)])
        values, found = _sorted(values, found)
        if self.photos is not None:
            spare = self._spare(found[:, :, 0])
            values = values.masked_fill(spare, -torch.inf)
            values, found = _sorted(values, found.masked_fill(spare[:, :, None], -1))
        self.values, self.found = [values[: self.most]], [found[: self.most]]

    def _spare(self, numbers: Tensor) -> Tensor:
        """Which of some pictures, best first, (pictures, units), are of a photo that better ones show often enough."""
        assert self.photos is not None
        photos = self.photos[numbers.clamp(min=0)]
        better = torch.ones(len(photos), len(photos), device=photos.device).tril(-1).bool()[:, :, None]
        return ((photos[:, None] == photos[None]) & better & (numbers >= 0)[None]).sum(1) >= PER_PHOTO


def _sorted(values: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    order = values.sort(stable=True, dim=0, descending=True).indices
    return values.gather(0, order), found.gather(0, order[:, :, None].expand(-1, -1, 2))


@dataclass
class ResponseStatistics:
    """What a pass has gathered so far about all units of a layer, so that none depends on which are asked for."""

    wanted: frozenset[int]  # numbers of the pictures whose responses are kept
    top: TopK
    scores: dict[tuple[str, int], TopK]
    photos: Sequence[str] | None = None  # of which each picture is a crop, by number
    num_pictures: int = 0
    num_positions: int = 0  # of a picture
    width: int | None = None  # positions in a row of the map; None: there is no map
    means: Tensor | float = 0.0  # sum of the pictures' means, float64
    silent: Tensor | int = 0  # positions at or below zero
    kept: list[int] = field(default_factory=list)  # numbers of the pictures kept so far
    maxima: list[Tensor] = field(default_factory=list)  # of those, (pictures, units)
    places: list[Tensor] = field(default_factory=list)  # positions of the maxima

    def add(self, acts: Tensor, targets: Mapping[int, Tensor]) -> None:
        """Take in a batch: activations of the layer, and where each direction's objectives are taken."""
        maps = _maps(acts)
        batch = range(self.num_pictures, self.num_pictures + len(maps))
        numbers = torch.arange(batch.start, batch.stop, device=maps.device)
        maxima, places = maps.max(2)
        self.top.add(maxima, numbers, places)
        for (objective, direction), best in self.scores.items():
            at = direction * _maps(targets[direction])
            best.add(at.mean(2) if objective == "channel" else at.amax(2), numbers, places)
        kept = [number for number in batch if number in self.wanted]
        rows = [number - batch.start for number in kept]
        self.kept += kept
        self.maxima.append(maxima[rows].cpu())
        self.places.append(places[rows].cpu())
        self.means = self.means + maps.mean(2).double().sum(0)
        self.silent = self.silent + (maps <= 0).sum((0, 2))
        self.num_pictures, self.num_positions = batch.stop, maps.shape[2]
        self.width = acts.shape[3] if acts.dim() == 4 else None


def _rows(subject: Subject, units: Sequence[int], recipe: Recipe) -> list[Row]:
    seen = _accumulate(subject, recipe)
    maxima, places = (torch.cat(parts).numpy() for parts in (seen.maxima, seen.places))
    quantiles = np.quantile(maxima, PROBABILITIES, axis=0).astype(np.float32)
    top, found = seen.top.values[0].cpu().numpy(), seen.top.found[0].cpu().numpy()
    natural = {score: best.values[0].double().mean(0).tolist() for score, best in seen.scores.items()}
    assert isinstance(seen.means, Tensor)
    assert isinstance(seen.silent, Tensor)
    means = (seen.means / seen.num_pictures).tolist()
    silent = (seen.silent / (seen.num_pictures * seen.num_positions)).tolist()
    photos = None if seen.photos is None else [seen.photos[number] for number in seen.kept]
    rectified = subject.graph.preactivation(subject.layer.name) != subject.layer.name

    def samples(unit: int) -> Iterator[Row]:
        for rank, (value, (number, place)) in enumerate(zip(top[:, unit], found[:, unit], strict=True)):
            if number >= 0:
                yield _sample("top", rank, number, value, place, seen.width)
        random = seed(subject.key(unit), "random")
        for bucket, picked in buckets(maxima[:, unit], recipe.per_bucket, random, photos).items():
            for rank, at in enumerate(picked):
                yield _sample(bucket, rank, seen.kept[at], maxima[at, unit], places[at, unit], seen.width)

    def row(unit: int) -> Row:
        excited = [{"objective": o, "direction": d, "activation": each[unit]} for (o, d), each in natural.items()]
        if not np.isfinite([means[unit], top[0, unit], *(score["activation"] for score in excited)]).all():
            nothing = dict.fromkeys(("mean", "maximum", "sparsity"))
            return {
                "unit": unit,
                **nothing,
                "quantiles": [],
                "responses": [],
                "samples": [],
                "natural": [],
                "flag": "nan",
            }
        return {
            "unit": unit,
            "mean": means[unit],
            "maximum": float(top[0, unit]),
            "quantiles": quantiles[:, unit],
            "sparsity": silent[unit],
            "responses": maxima[:, unit],
            "samples": list(samples(unit)),
            "natural": excited,
            # where nothing rectifies, below zero is an answer like others
            "flag": "dead" if rectified and top[0, unit] <= 0 else None,
        }

    return [row(unit) for unit in units]


def buckets(maxima: Any, count: int, seed: int, photos: Sequence[str] | None = None) -> dict[str, list[int]]:
    """Which pictures stand for each bucket: `count` of them at most, spread evenly over it, the strongest first.

    `maxima` is (pictures). A bucket has those between two quantiles, `0.9-0.99`; `random` is drawn from all. Of
    crops of the same of `photos` at most `PER_PHOTO` stand in a bucket; others make room for those next in strength.
    """
    strongest = np.argsort(-maxima, kind="stable")
    picked = {}
    for low, high in BUCKETS:
        start, stop = round((1 - high) * len(maxima)), round((1 - low) * len(maxima))
        ranks = np.linspace(start, stop - 1, min(count, stop - start)).round().astype(int)
        ranked = _varied([_outward(strongest, int(rank), start, stop) for rank in ranks], photos)
        picked[f"{low:g}-{high:g}"] = sorted(ranked, key=lambda at: (-maxima[at], at))
    drawn = torch.randperm(len(maxima), generator=torch.Generator().manual_seed(seed)).tolist()
    picked["random"] = sorted(_varied([drawn] * count, photos), key=lambda at: (-maxima[at], at))
    return picked


def _outward(strongest: Any, rank: int, start: int, stop: int) -> Iterator[int]:
    """The pictures of a bucket, the nearest to a rank first."""
    for distance in range(stop - start):
        for at in dict.fromkeys((rank - distance, rank + distance)):
            if start <= at < stop:
                yield int(strongest[at])


def _varied(wishes: Sequence[Iterable[int]], photos: Sequence[str] | None) -> list[int]:
    """Of each wish the first picture that is not taken, and whose photo is not taken too often; none where none is."""
    taken: list[int] = []
    shown: Counter[Any] = Counter()
    for wish in wishes:
        free = (at for at in wish if at not in taken and (photos is None or shown[photos[at]] < PER_PHOTO))
        if (at := next(free, None)) is not None:
            taken.append(at)
            shown[photos[at] if photos else at] += 1
    return taken


def spaced(length: int, most: int) -> range | list[int]:
    """At most `most` numbers below `length`, evenly spaced."""
    return range(length) if length <= most else [at * length // most for at in range(most)]


def _accumulate(subject: Subject, recipe: Recipe) -> ResponseStatistics:
    """Pass the set through the network, cut behind the layer."""
    pictures = picture_set(recipe.pictures, recipe.revision)
    layer, graph = subject.layer.name, subject.graph
    targets = {direction: graph.objective_node(layer, direction) for direction in (1, -1)}
    nodes = list(dict.fromkeys([layer, *targets.values()]))
    wanted = frozenset(spaced(len(pictures), recipe.max_responses))
    photos = None
    if pictures.photos is not None:
        order = {name: at for at, name in enumerate(dict.fromkeys(pictures.photos))}
        photos = torch.tensor([order[name] for name in pictures.photos], device=subject.device)
    scores = {score: TopK(recipe.top) for score in SCORES}
    seen = ResponseStatistics(wanted, TopK(recipe.top, photos), scores, pictures.photos)
    for batch in pictures.batches(subject.organism.input_size, recipe.batch, subject.device):
        # a lone picture is paired with itself: alone it would be rounded in another way
        given = batch if len(batch) > 1 else batch.expand(2, -1, -1, -1)
        with torch.no_grad():
            acts = {node: value[: len(batch)] for node, value in zip(nodes, graph(given, nodes), strict=True)}
            seen.add(acts[layer], {direction: acts[node] for direction, node in targets.items()})
    return seen


def _maps(acts: Tensor) -> Tensor:
    """(batch, units, positions); a neuron has one."""
    return acts.flatten(2) if acts.dim() == 4 else acts[:, :, None]


def _sample(bucket: str, rank: int, number: Any, activation: Any, place: Any, width: int | None) -> Row:
    """One of a unit's samples, as plain values."""
    y, x = (None, None) if width is None else divmod(int(place), width)
    return {"bucket": bucket, "rank": rank, "picture": int(number), "activation": float(activation), "x": x, "y": y}
