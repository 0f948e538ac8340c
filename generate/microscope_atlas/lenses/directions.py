"""Pictures of directions of a layer that were found in natural pictures, and the places there that speak for each.

What the lenses share that look at activations at places of many pictures: cells of a map, groups of units.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.errors import PicturesFailed
from microscope_atlas.lenses.activation_sample import Sample
from microscope_atlas.lenses.dataset_samples import seen
from microscope_atlas.lenses.frames import fill_rows
from microscope_atlas.lenses.geometry import shift
from microscope_atlas.lenses.lens import Lens, Row, Subject
from microscope_atlas.lenses.recipe import PicturesRecipe, Recipe, settings
from microscope_atlas.models.organism import Organism
from microscope_atlas.pictures.decoder import fitted
from microscope_atlas.pictures.picture_set import PictureSet
from microscope_atlas.pictures.sets import picture_set
from microscope_atlas.rendering.ascend import Ascent, ascend
from microscope_atlas.rendering.canvas import Fourier
from microscope_atlas.rendering.objectives import TINY, Along

TILE = 64  # px on a side of what a place sees, in `photos`
BATCH_PIXELS = 16 * 224**2  # of all pictures at once, as in feature_visualization
MOST_UNITS = 8192  # of a layer: an activation atlas' second moments take 8 bytes a pair

T = TypeVar("T")
P = TypeVar("P", bound=PicturesRecipe)


class Settings(Protocol):
    """What a recipe says of directions and their pictures; each has these among its own settings, in its own order."""

    @property
    def ascent(self) -> Ascent: ...
    @property
    def power(self) -> float: ...
    @property
    def num_vectors(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def robust_views(self) -> int: ...
    @property
    def crops(self) -> bool: ...
    @property
    def pictures(self) -> str: ...
    @property
    def revision(self) -> str: ...
    def picture_size(self, layer: Layer, input_size: int) -> int:
        """See Recipe."""


class PlacesLens(Lens[P]):
    """A lens that looks at activations at places of many pictures, and is rendered where it is named."""

    divisible = False
    named_only = True
    looks_at = "layers whose units are on a map"

    def has_rows(self, organism: Organism, layer: str) -> bool:
        """Whether the layer has places."""
        return organism.layer(layer).kind != "dense"

    def passes(self, layer: Layer, recipe: P) -> float:
        """Beside the pictures that are made the whole set, there and not back."""
        return super().passes(layer, recipe) + len(picture_set(recipe.pictures, recipe.revision)) / 2


def batches(found: Sequence[T], subject: Subject, recipe: Settings) -> Iterator[Sequence[T]]:
    """As many at once as the recipe's batch allows, and the memory for their pictures."""
    px = recipe.picture_size(subject.layer, subject.organism.input_size)
    at_once = max(1, min(recipe.batch, BATCH_PIXELS // px**2))
    for start in range(0, len(found), at_once):
        yield found[start : start + at_once]


def picture(subject: Subject, rows: Sequence[Row], directions: Tensor, towards: Tensor, recipe: Settings) -> None:
    """Put into each row, which has its `seed`, the picture that the layer answers to in its direction.

    Also its `cosine`, between `towards` and the layer's mean activations of the picture. Directions are (rows, units).
    """
    node, size = subject.layer.name, recipe.picture_size(subject.layer, subject.organism.input_size)
    most = shift(subject.layer, recipe.ascent.views.shift)
    ascent = replace(recipe.ascent, views=replace(recipe.ascent.views, shift=most))
    channels = subject.graph.channels
    *_, last = ascend(
        subject.activations(node),
        Along(directions.to(subject.device), recipe.power),
        [row["seed"] for row in rows],
        ascent,
        size,
        subject.device,
        min_batch=subject.least(recipe.batch),
        make_canvas=partial(Fourier, std=ascent.spectrum_std, views=ascent.views, channels=channels),
        robust_views=recipe.robust_views,
    )
    fill_rows(rows, last, True, {**settings(cast(Recipe, recipe)), "size": size, "shift": most, "target": node})
    for row, cosine in zip(rows, _cosines(subject, last.pictures, towards, recipe.batch), strict=True):
        failed = row["flag"] == "nan"  # a row that failed shows nothing
        row["cosine"] = None if failed or not np.isfinite(cosine) else cosine
        row["photos"] = None if failed else row["photos"]


def _cosines(subject: Subject, pictures: Tensor, towards: Tensor, batch: int) -> list[float]:
    """Between the layer's mean activations of each picture and where it is to go, (pictures, units)."""
    joined = subject.joined(pictures, batch)
    with torch.no_grad():
        acts = subject.activations(subject.layer.name)(joined.contiguous(memory_format=torch.channels_last))
    means = acts[: len(towards)].flatten(2).double().mean(2).cpu()
    return [
        (own @ each.double() / (own.norm() * each.double().norm()).clamp(min=TINY)).item()
        for own, each in zip(means, towards, strict=True)
    ]


def places(
    subject: Subject,
    sample: Sample,
    vectors: Sequence[int],
    values: Sequence[float],
    named: str,
    pictures: PictureSet,
    crops: bool,
) -> Row:
    """The columns `samples` and `photos`: where in which picture each vector is from, and what is seen there.

    With each goes a number, `named` so.
    """
    size, numbers, at_places = subject.organism.input_size, sample.pictures, sample.places
    found, strip = [], Image.new("RGB", (TILE * len(vectors), TILE))
    for at, (vector, value) in enumerate(zip(vectors, values, strict=True)):
        y, x = divmod(int(at_places[vector]), sample.shape[1])
        (top, bottom), (left, right) = seen(subject.layer, y, x, size)
        box = {"left": left, "top": top, "right": right, "bottom": bottom}
        found.append({"picture": int(numbers[vector]), "x": x, "y": y, **box, named: value})
        if crops:
            shown = fitted(pictures[int(numbers[vector])], size).crop((left, top, right, bottom))
            strip.paste(shown.resize((TILE, TILE), Image.Resampling.LANCZOS), (TILE * at, 0))
    return {"samples": found, "photos": torch.from_numpy(np.array(strip)) if crops and found else None}


def refuse_few_pictures(lens: str, recipe: Settings, least: int) -> None:
    """PicturesFailed for a set of fewer pictures."""
    if (count := len(picture_set(recipe.pictures, recipe.revision))) < least:
        raise PicturesFailed(
            f"{recipe.pictures} has {count} pictures, expected {least} or more for {lens}; "
            "name a larger set: --pictures"
        )


def refuse_few_vectors(lens: str, subject: Subject, sample: Sample, recipe: Settings, least: int) -> None:
    """PicturesFailed where a set has given fewer activations, or fewer were asked for."""
    if sample.vectors.length >= least:
        return
    there = f"{sample.vectors.length} activations of {subject.key()} that have a direction"
    left_out = f"{sample.num_silent} more are all zero, {sample.num_not_finite} not finite"
    if recipe.num_vectors < least:  # no set would give enough
        hint = f"look at more, --set {lens}.num_vectors=NUMBER"
    else:
        hint = "name a larger set, --pictures, or a layer with a larger map"
    raise PicturesFailed(f"{recipe.pictures} gives {there} ({left_out}), expected {least} or more; {hint}")
