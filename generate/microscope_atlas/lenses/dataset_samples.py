"""Dataset samples: natural pictures that excite a unit, from its best down to those that leave it cold.

Derived from `responses`, which knows which pictures and where: what the unit sees there is cut out of the picture. Sets
that may not be passed on can be pointed at instead: number of the picture and box, without the image.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.organisms import Field, Layer
from microscope_atlas.errors import NotRendered, PicturesFailed
from microscope_atlas.lenses.lens import Lens, Row, Subject
from microscope_atlas.lenses.recipe import PicturesRecipe, Quality, settings
from microscope_atlas.pictures.cuts import cut_of, default_revision
from microscope_atlas.pictures.decoder import fitted
from microscope_atlas.pictures.sets import picture_set
from microscope_atlas.pictures.sources import DEFAULT

Pixels = npt.NDArray[np.uint8]

KEPT = 1024  # fitted pictures in memory; 154 MB at 224 px


@dataclass(frozen=True)
class Recipe(PicturesRecipe):
    """Settings of dataset samples; the pictures are those that the responses are to."""

    crops: bool = True  # whether rows hold what the unit sees; otherwise they only point at it


class DatasetSamples(Lens[Recipe]):
    """The lens."""

    table = schema.DATASET_SAMPLES
    divisible = True
    unit_seconds = 0.12  # measured on layers of efficientnet_lite0, with the package's pictures

    def recipe(self, quality: Quality) -> Recipe:
        return Recipe(DEFAULT, default_revision())

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        pictures = picture_set(recipe.pictures, recipe.revision) if recipe.crops else None
        cut = cut_of(recipe.revision) if recipe.pictures == DEFAULT else None
        num_photos = len(cut.photos) if cut and cut.spread else None
        responses = [
            row
            for part in subject.read("responses", ("unit", "samples", "flag", "recipe"))
            for row in part.filter(pc.is_in(part["unit"], pa.array(units, pa.int32()))).to_pylist()
        ]
        if absent := set(units) - {response["unit"] for response in responses}:
            raise NotRendered(
                f"the atlas has no responses of units {sorted(absent)} of {subject.key()}; render --lens responses too"
            )

        @lru_cache(KEPT)  # a layer's units share their best pictures
        def shown(number: int) -> Pixels:
            assert pictures is not None
            picture = fitted(pictures[number], subject.organism.input_size)
            return np.array(picture.convert("L") if subject.organism.channels == 1 else picture)

        for response in responses:
            yield list(_rows(subject, response, shown if recipe.crops else None, recipe, num_photos))


def _rows(
    subject: Subject, response: Row, shown: Callable[[int], Pixels] | None, recipe: Recipe, num_photos: int | None
) -> Iterator[Row]:
    """Rows of one unit: its samples; where it has none because it is not finite, one that says so.

    Of a set of crops each says in its recipe of how many photos they are.
    """
    refuse_other_pictures(subject, response, recipe)
    shared = {"set": recipe.pictures, "revision": recipe.revision, "flag": response["flag"], "unit": response["unit"]}
    if num_photos:
        shared["recipe"] = {**settings(recipe), "num_photos": num_photos}
    if not response["samples"]:
        nothing = dict.fromkeys(("activation", "picture", "image", "left", "top", "right", "bottom"))
        yield {**shared, "bucket": "top", "rank": 0, **nothing}
    size = subject.organism.input_size
    for sample in response["samples"]:
        x, y = sample.pop("x"), sample.pop("y")
        (top, bottom), (left, right) = seen(subject.layer, y, x, size)
        image = None
        if shown is not None:
            image = torch.from_numpy(shown(sample["picture"])[top:bottom, left:right].copy())
        yield {**shared, **sample, "image": image, "left": left, "top": top, "right": right, "bottom": bottom}


def refuse_other_pictures(subject: Subject, response: Row, recipe: PicturesRecipe) -> None:
    """PicturesFailed where a unit's row of responses is to other pictures than the recipe's."""
    made = json.loads(response["recipe"])
    if (made["pictures"], made["revision"]) != (recipe.pictures, recipe.revision):
        raise PicturesFailed(
            f"{subject.key(response['unit'])} has responses to {made['pictures']} at {made['revision']}, not to "
            f"{recipe.pictures} at {recipe.revision}; name the same --pictures for both"
        )


def seen(layer: Layer, y: int | None, x: int | None, size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """What a position of a layer sees of a picture of `size` px: rows [start, stop) and columns; a neuron sees all.

    Of a position that padding puts beyond the picture it is the pixels next to it.
    """
    rows, columns = (_seen(side, at, size) for side, at in zip(layer.sides, (y, x), strict=True))
    return rows, columns


def _seen(side: Field, position: int | None, size: int) -> tuple[int, int]:
    if position is None or side.size is None:
        return 0, size
    start = side.origin + position * side.stride
    begin = min(max(start, 0), size - 1)
    return begin, max(min(start + side.size, size), begin + 1)
