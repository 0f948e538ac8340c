"""Groups: the directions that a layer's activations over many pictures are made up of, each a few units' together.

Olah et al. 2018, "Neuron groups", https://distill.pub/2018/building-blocks: non-negative matrix factorisation takes the
layer's activations at random places of many pictures apart, see factorised. Of each group a row has the direction, the
share of the activations that it makes up, its strongest units, a picture that the layer answers to in that direction,
and the places where the group is strongest.

Activations are rectified: what is below zero counts as zero, and a row says how much is left. Behind a rectifier it is
all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import numpy as np
import torch
from torch import Tensor

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.errors import LensFailed
from microscope_atlas.lenses import directions
from microscope_atlas.lenses.activation_sample import Sample, sampled
from microscope_atlas.lenses.factorised import factorised, weights_for
from microscope_atlas.lenses.geometry import unit_size
from microscope_atlas.lenses.lens import Part, Row, Subject, seed
from microscope_atlas.lenses.recipe import PicturesRecipe, Quality, RobustViews
from microscope_atlas.lenses.responses import spaced
from microscope_atlas.models.organism import Organism
from microscope_atlas.pictures.cuts import default_revision
from microscope_atlas.pictures.picture_set import PictureSet
from microscope_atlas.pictures.sets import picture_set
from microscope_atlas.pictures.sources import DEFAULT
from microscope_atlas.rendering.ascend import SETTLING, SETTLING_LONGER, Ascent
from microscope_atlas.structure import Count, at_least, between

NUM_STRONGEST, NUM_SAMPLES = 10, 9  # units and pictures of a group


@dataclass(frozen=True)
class Recipe(PicturesRecipe):
    """Settings of groups."""

    ascent: Ascent
    max_size: Annotated[int, between(8, 4096)] | None  # px on a side; None: up to the network's input
    groups: Annotated[int, between(1, 128)] = 12  # of a layer
    num_vectors: Count = 100_000  # activations that are looked at, at most
    factorised: Annotated[int, between(16, 100_000)] = 10_000  # of these, evenly spaced, that are taken apart
    min_pictures: Count = 8  # with fewer there are no groups
    min_vectors: Annotated[int, at_least(16)] = 1000
    power: Annotated[float, at_least(0)] = 2.0  # of the cosine, as of an activation atlas
    crops: bool = True  # whether rows hold what the places see; otherwise they only point at it
    batch: Count = 32  # pictures at once, at most
    robust_views: RobustViews = 8

    def picture_size(self, layer: Layer, input_size: int) -> int:
        """See Recipe."""
        return unit_size(layer, input_size, self.max_size)


class Groups(directions.PlacesLens[Recipe]):
    """The lens."""

    table = schema.GROUPS

    def recipe(self, quality: Quality) -> Recipe:
        pictures = DEFAULT, default_revision()
        match quality:
            case "draft":
                return Recipe(*pictures, SETTLING, max_size=112)
            case "standard":
                return Recipe(*pictures, replace(SETTLING_LONGER, precision="bfloat16"), max_size=224)
            case "microscope":
                return Recipe(*pictures, Ascent(steps=512), max_size=None)

    def quick(self) -> Recipe:
        few = {"groups": 2, "num_vectors": 96, "min_pictures": 2, "min_vectors": 16, "robust_views": 1}
        return Recipe(DEFAULT, default_revision(), Ascent(steps=2), max_size=32, **few)  # type: ignore[arg-type]

    def shortened(self, recipe: Recipe, steps: int) -> Recipe:
        """On the package's own pictures, which are few."""
        few = replace(recipe, pictures=DEFAULT, revision=default_revision(), factorised=1000)
        return super().shortened(few, steps)

    def parts(self, recipe: Recipe) -> list[Part]:
        return [Part("groups", recipe.groups, recipe.ascent.steps)]

    def refuse(self, organism: Organism, weights_sha256: str | None, recipe: Recipe) -> None:
        """PicturesFailed for a set of too few pictures; LensFailed for more groups than activations to find them in."""
        if recipe.groups > recipe.factorised:
            raise LensFailed(
                f"{self.name} takes {recipe.factorised} activations apart and asks for {recipe.groups} groups; "
                f"expected as many activations as groups or more: --set {self.name}.factorised=NUMBER"
            )
        directions.refuse_few_pictures(self.name, recipe, recipe.min_pictures)

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        count = subject.layer.units
        if not recipe.groups <= count <= directions.MOST_UNITS:
            raise LensFailed(
                f"{subject.key()} has {count} units, {recipe.groups} groups take {recipe.groups} to "
                f"{directions.MOST_UNITS}; ask for fewer, --set {self.name}.groups=NUMBER, or name another layer"
            )
        pictures = picture_set(recipe.pictures, recipe.revision)
        with sampled(subject, pictures, recipe.num_vectors, recipe.batch, with_logits=False) as sample:
            directions.refuse_few_vectors(self.name, subject, sample, recipe, max(recipe.min_vectors, recipe.groups))
            found = grouped(subject, sample, recipe.groups, recipe.factorised, pictures.photos)
            for some in directions.batches(range(recipe.groups), subject, recipe):
                yield _batch(subject, found, some, pictures, sample, recipe)


class Found(NamedTuple):
    """The groups of a layer, the one that makes up most first."""

    directions: Tensor  # (groups, units), of length 1; all zero of a group that nothing is left for
    shares: list[float]  # of each group, of the squared activations; they add up to `explained`
    explained: float
    rectified: float  # share of the squared activations that is not below zero
    samples: list[list[tuple[int, float]]]  # of each group vectors by number, and its weight there


def grouped(subject: Subject, sample: Sample, groups: int, most: int, photos: Sequence[str] | None) -> Found:
    """The groups of a sample, of which `most` vectors are taken apart; LensFailed where none is above zero.

    All vectors are then made up of the groups as well as may be. A group's share is sum <a, w d> / sum |a|^2 over
    activations a, with weights w and direction d: as no weight can do better, shares add up to what all explain.
    """
    some = sample.vectors.numbered(spaced(sample.vectors.length, most)).clamp_(min=0)
    if not some.any():
        raise LensFailed(f"no activation of {subject.key()} is above zero in these pictures: there is nothing to group")
    made = factorised(some, groups, seed(subject.key(), "groups"))
    weights = np.empty((sample.vectors.length, groups), np.float32)
    due, left, whole, below = torch.zeros(groups).double(), 0.0, 0.0, 0.0
    for at, vectors in sample.chunks():
        rectified = vectors.clamp(min=0)
        of_each = weights_for(rectified, made.directions)
        weights[at] = of_each.numpy()
        due += ((rectified @ made.directions.T) * of_each).double().sum(0)
        left += (rectified - of_each @ made.directions).double().square().sum().item()
        whole += rectified.double().square().sum().item()
        below += (vectors - rectified).double().square().sum().item()
    owners = sample.owners(photos)
    order = due.sort(descending=True, stable=True).indices
    strongest = [_strongest(weights[:, group], owners) for group in order.tolist()]
    shares = (due[order] / whole).tolist()
    return Found(made.directions[order], shares, 1 - left / whole, whole / (whole + below), strongest)


def _strongest(weights: np.ndarray, owners: np.ndarray) -> list[tuple[int, float]]:
    """The vectors that have most of a group, one of each owner; of equals the earlier. None that has nothing of it."""
    found: list[tuple[int, float]] = []
    shown: set[int] = set()
    for number in np.argsort(-weights, kind="stable").tolist():
        if len(found) == NUM_SAMPLES or not weights[number] > 0:
            break
        if (owner := int(owners[number])) not in shown:
            found.append((number, float(weights[number])))
            shown.add(owner)
    return found


def _batch(
    subject: Subject, found: Found, some: Sequence[int], pictures: PictureSet, sample: Sample, recipe: Recipe
) -> list[Row]:
    """Rows of some groups."""
    rows: list[Row] = [
        {
            "group": group,
            "seed": seed(subject.key(), Groups.table.name, group),
            "share": found.shares[group],
            "strongest": _units(found.directions[group]),
            "direction": found.directions[group].numpy(),
            "explained": found.explained,
            "rectified": found.rectified,
            "num_vectors": sample.vectors.length,
            "num_left_out": sample.num_silent + sample.num_not_finite,
            "set": recipe.pictures,
            "revision": recipe.revision,
            **_places(subject, sample, found.samples[group], pictures, recipe.crops),
        }
        for group in some
    ]
    towards = found.directions[torch.tensor(some)]
    directions.picture(subject, rows, towards, towards, recipe)
    return rows


def _places(
    subject: Subject, sample: Sample, found: Sequence[tuple[int, float]], pictures: PictureSet, crops: bool
) -> Row:
    vectors, weights = [number for number, _ in found], [weight for _, weight in found]
    return directions.places(subject, sample, vectors, weights, "weight", pictures, crops)


def _units(direction: Tensor) -> list[Row]:
    """The units that a direction is made of, the strongest first; of equals the earlier."""
    values, order = direction.sort(descending=True, stable=True)
    best = zip(order[:NUM_STRONGEST].tolist(), values[:NUM_STRONGEST].tolist(), strict=True)
    return [{"unit": unit, "weight": weight} for unit, weight in best if weight > 0]
