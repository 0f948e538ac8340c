"""Responses: what natural pictures do to the units of a layer, from one pass of a picture set through the network.

The table that others read: dataset samples, comparisons of units, and the scale of a visualization's score. Layers of a
network share a pass. Memory is bounded whatever the length of the set: of every unit the best pictures so far are kept,
and the strongest response in some evenly spaced pictures, which quantiles, buckets and the random samples are taken
from; see response_statistics.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.errors import PicturesFailed
from microscope_atlas.lenses.class_selectivity import BYTES, ClassResponses
from microscope_atlas.lenses.lens import Lens, Row, Subject, seed
from microscope_atlas.lenses.recipe import PicturesRecipe, Quality, settings
from microscope_atlas.lenses.response_statistics import PER_PHOTO, SCORES, ResponseStatistics, TopK, gather, numbered
from microscope_atlas.models.organism import Organism
from microscope_atlas.pictures.cuts import default_revision
from microscope_atlas.pictures.labels import Labels
from microscope_atlas.pictures.picture_set import PictureSet
from microscope_atlas.pictures.sets import picture_set
from microscope_atlas.pictures.sources import DEFAULT
from microscope_atlas.structure import Absent, Count, between

PROBABILITIES = (0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)  # of the column `quantiles`
BUCKETS = ((0.9, 0.99), (0.75, 0.9), (0.5, 0.75), (0.25, 0.5), (0.0, 0.25))  # quantiles that samples are taken between

MOST_RESPONSES = 1 << 24  # that are kept of a layer that a dictionary makes, whose units may be tens of thousands
HELD = 320 << 20  # bytes of responses that a pass keeps until it ends: 20,480 units, more than InceptionV4 has


@dataclass(frozen=True)
class Recipe(PicturesRecipe):
    """Settings of responses."""

    batch: Count = 16  # pictures at once
    top: Annotated[int, between(1, 4096)] = 16  # best pictures of a unit that are kept
    per_bucket: Annotated[int, between(1, 4096)] = 4  # samples from each bucket, and random ones
    max_responses: Count = 2048  # pictures, evenly spaced in the set, that each unit's response is kept of
    classes: Annotated[int, between(0, 100), Absent(0)] = 5  # that a unit speaks for, at most; 0: rows have none
    labels: str | None = None  # sha256 of which class each picture is of; None: nobody says

    def with_pictures(self, name: str, skip_bad: bool = False) -> "Recipe":
        """See Recipe."""
        found = picture_set(name, skip_bad=skip_bad)
        labels = found.labels if self.classes else None
        stated = labels.sha256 if labels else None
        return replace(self, pictures=found.name, revision=found.revision, labels=stated)


class Responses(Lens[Recipe]):
    """The lens."""

    table = schema.RESPONSES
    divisible = False
    shares_pass = True

    def recipe(self, quality: Quality) -> Recipe:
        return Recipe(DEFAULT, default_revision())

    def shortened(self, recipe: Recipe, steps: int) -> Recipe:
        """On the package's own pictures, which are few."""
        return replace(recipe, pictures=DEFAULT, revision=default_revision())

    def passes(self, layer: Layer, recipe: Recipe) -> float:
        """The whole set, there and not back."""
        return _length(recipe.pictures, recipe.revision) / 2

    def passes_over(self, layers: Sequence[Layer], recipe: Recipe) -> list[list[Layer]]:
        """See Lens: as many layers in a pass as leave what is kept of them below `HELD`; one at least."""
        of_a_unit = 8 * min(_length(recipe.pictures, recipe.revision), recipe.max_responses)
        if labels := _labels(picture_set(recipe.pictures, recipe.revision), recipe):
            of_a_unit += BYTES * len(labels.names)
        parts: list[list[Layer]] = []
        held = HELD
        for layer in layers:
            held += layer.units * of_a_unit
            if held > HELD or not parts:
                parts, held = [*parts, []], layer.units * of_a_unit
            parts[-1].append(layer)
        return parts

    def gather(self, subjects: Sequence[Subject], recipe: Recipe) -> Iterator[ResponseStatistics]:
        """See Lens."""
        pictures = picture_set(recipe.pictures, recipe.revision)
        waiting = {subject.layer.name: subject for subject in subjects}
        left = Counter(subject.layer.name for subject in subjects)
        seen: dict[str, ResponseStatistics] = {}
        parts = iter(self.passes_over([subject.layer for subject in waiting.values()], recipe))
        for subject in subjects:
            name = subject.layer.name
            if name not in seen:
                seen |= _passed(subject, [layer.name for layer in next(parts)], pictures, recipe)
            left[name] -= 1
            yield seen[name] if left[name] else seen.pop(name)

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        yield _rows(subject, units, recipe, subject.gathered or next(self.gather([subject], recipe)))


@cache
def _length(pictures: str, revision: str) -> int:
    return len(picture_set(pictures, revision))


def _passed(
    subject: Subject, layers: Sequence[str], pictures: PictureSet, recipe: Recipe
) -> dict[str, ResponseStatistics]:
    """Statistics of some layers of the subject's network, from one pass of the set."""
    photos = None if pictures.photos is None else numbered(pictures.photos)
    labels = _labels(pictures, recipe)
    seen = {
        layer: ResponseStatistics(
            spaced(len(pictures), _most(subject.organism, layer, recipe)),
            TopK(recipe.top, photos),
            {score: TopK(recipe.top) for score in SCORES},
            pictures.photos,
            ClassResponses(labels) if labels else None,
        )
        for layer in layers
    }
    gather(subject.graph, seen, pictures.batches(subject.organism.input_size, recipe.batch, subject.device))
    return seen


def _most(organism: Organism, layer: str, recipe: Recipe) -> int:
    """Pictures that each unit's response is kept of, at most."""
    if layer not in organism.dictionaries:
        return recipe.max_responses
    return min(recipe.max_responses, max(1, MOST_RESPONSES // organism.layer(layer).units))


def _labels(pictures: PictureSet, recipe: Recipe) -> Labels | None:
    """The classes of the pictures; PicturesFailed where they are others than those that the recipe names."""
    if not recipe.classes or recipe.labels is None:
        return None
    found = pictures.labels
    if found is None or found.sha256 != recipe.labels:
        raise PicturesFailed(
            f"the classes of the pictures of {pictures.name} have sha256 {found.sha256 if found else None} here, "
            f"{recipe.labels} is expected: its folders, or its column of labels, are not the same"
        )
    return found


def _rows(subject: Subject, units: Sequence[int], recipe: Recipe, seen: ResponseStatistics) -> list[Row]:
    maxima, places = seen.maxima, seen.places
    quantiles = np.quantile(maxima, PROBABILITIES, axis=1).astype(np.float32)
    top, found = seen.top.values, np.stack([seen.top.numbers, seen.top.places], 2)
    natural = {score: torch.from_numpy(best.values).double().mean(0).tolist() for score, best in seen.scores.items()}
    assert isinstance(seen.means, Tensor)
    assert isinstance(seen.silent, Tensor)
    means = (seen.means / seen.num_pictures).tolist()
    silent = (seen.silent / (seen.num_pictures * seen.num_positions)).tolist()
    photos = None if seen.photos is None else [seen.photos[number] for number in seen.wanted]
    rectified = subject.graph.preactivation(subject.layer.name) != subject.layer.name

    unlabelled: list[Row] = [{"classes": None, "class_selectivity": None}] * len(maxima)
    classes = seen.classes.rows(seen.top.numbers, recipe.classes) if seen.classes else unlabelled
    most = _most(subject.organism, subject.layer.name, recipe)
    fewer = {"recipe": settings(replace(recipe, max_responses=most))} if most < recipe.max_responses else {}

    def samples(unit: int) -> Iterator[Row]:
        for rank, (value, (number, place)) in enumerate(zip(top[:, unit], found[:, unit], strict=True)):
            if number >= 0:
                yield _sample("top", rank, number, value, place, seen.width)
        random = seed(subject.key(unit), "random")
        for bucket, picked in buckets(maxima[unit], recipe.per_bucket, random, photos).items():
            for rank, at in enumerate(picked):
                yield _sample(bucket, rank, seen.wanted[at], maxima[unit, at], places[unit, at], seen.width)

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
                **(unlabelled[unit] if recipe.classes else {}),
            }
        return {
            "unit": unit,
            "mean": means[unit],
            "maximum": float(top[0, unit]),
            "quantiles": quantiles[:, unit],
            "sparsity": silent[unit],
            "responses": maxima[unit],
            "samples": list(samples(unit)),
            "natural": excited,
            **(classes[unit] if recipe.classes else {}),
            # where nothing rectifies, below zero is an answer like others
            "flag": "dead" if rectified and top[0, unit] <= 0 else None,
        }

    return [{**row(unit), **fewer} for unit in units]


def buckets(maxima: Any, count: int, seed: int, photos: Sequence[str] | None = None) -> dict[str, list[int]]:
    """Which pictures stand for each bucket: `count` of them at most, spread evenly over it, the strongest first.

    `maxima` is (pictures). A bucket has those between two quantiles, `0.9-0.99`; `random` is drawn from all. Of
    crops of the same of `photos` at most `PER_PHOTO` stand in a bucket; others make room for those next in strength.
    """
    strongest = np.argsort(-maxima, kind="stable")
    picked = {}
    for bucket, start, stop, ranks in _ranks(len(maxima), count):
        ranked = _varied([_outward(strongest, rank, start, stop) for rank in ranks], photos)
        picked[bucket] = sorted(ranked, key=lambda at: (-maxima[at], at))
    drawn = torch.randperm(len(maxima), generator=torch.Generator().manual_seed(seed)).tolist()
    picked["random"] = sorted(_varied([drawn] * count, photos), key=lambda at: (-maxima[at], at))
    return picked


@lru_cache(maxsize=4)  # alike for all units of a run
def _ranks(length: int, count: int) -> list[tuple[str, int, int, list[int]]]:
    """Of each bucket of so many pictures its name, the ranks that it has from and to, and those that stand for it."""
    found = []
    for low, high in BUCKETS:
        start, stop = round((1 - high) * length), round((1 - low) * length)
        ranks = np.linspace(start, stop - 1, min(count, stop - start)).round().astype(int).tolist()
        found.append((f"{low:g}-{high:g}", start, stop, ranks))
    return found


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


def _sample(bucket: str, rank: int, number: Any, activation: Any, place: Any, width: int | None) -> Row:
    """One of a unit's samples, as plain values."""
    y, x = (None, None) if width is None else divmod(int(place), width)
    return {"bucket": bucket, "rank": rank, "picture": int(number), "activation": float(activation), "x": x, "y": y}
