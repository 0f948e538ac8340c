"""Activation atlas: a map of what a layer's activations hold, each cell shown by a picture of its mean direction.

Carter et al. 2019, https://distill.pub/2019/activation-atlas. The layer's activations at random places of many pictures
are laid out in a plane, so that alike ones lie near each other. A grid is put over it, coarse, finer and fine; of each
cell the activations are averaged, and a picture is made that the layer answers to in that direction.

As in the authors' notebooks, https://github.com/tensorflow/lucid: layouts are of directions; a cell's mean is whitened,
multiplied with the inverse of the activations' second moments, so that what all places have in common does not count;
places at the edge of the map are left out. Otherwise than there, t-SNE lays out in place of UMAP, see layout, and a
picture is to show its cell at all of its places, not at the centre alone: then small ones are easier to read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import torch
import torch.nn.functional as F

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.errors import LensFailed
from microscope_atlas.lenses import directions, layout
from microscope_atlas.lenses.activation_cells import Cell, cells_of
from microscope_atlas.lenses.activation_sample import Sample, sampled
from microscope_atlas.lenses.geometry import unit_size
from microscope_atlas.lenses.layout import Layout, laid_out
from microscope_atlas.lenses.lens import Part, Row, Subject, seed
from microscope_atlas.lenses.recipe import PicturesRecipe, Quality, RobustViews
from microscope_atlas.lenses.responses import spaced
from microscope_atlas.models.organism import Organism
from microscope_atlas.pictures.cuts import default_revision
from microscope_atlas.pictures.picture_set import PictureSet
from microscope_atlas.pictures.sets import picture_set
from microscope_atlas.pictures.sources import DEFAULT
from microscope_atlas.rendering.ascend import SETTLING, SETTLING_LONGER, Ascent
from microscope_atlas.structure import Count, above, at_least, between


@dataclass(frozen=True)
class Recipe(PicturesRecipe):
    """Settings of an activation atlas."""

    ascent: Ascent
    max_size: Annotated[int, between(8, 4096)] | None  # px on a side; None: up to the network's input
    coarse: Annotated[int, between(1, 64)] = 5  # cells along a side of the map
    middle: Annotated[int, between(1, 128)] = 10
    fine: Annotated[int, between(1, 256)] = 20
    num_vectors: Count = 100_000  # activations that are looked at, at most
    min_pictures: Count = 8  # with fewer there is no map
    min_vectors: Annotated[int, at_least(16)] = 5000
    min_per_cell: Count = 8  # activations; a cell with fewer has no row
    layout: Layout = field(default_factory=Layout)
    power: Annotated[float, at_least(0)] = 2.0  # of the cosine; by eye: at 4 cells of textures grow animals
    ridge: Annotated[float, above(0)] = 0.1
    # of the whitening, a share of the mean second moment; by eye: without whitening neighbours look alike
    crops: bool = True  # whether rows hold what the places see; otherwise they only point at it
    batch: Count = 32  # pictures at once, at most
    robust_views: RobustViews = 8

    def picture_size(self, layer: Layer, input_size: int) -> int:
        """See Recipe."""
        return unit_size(layer, input_size, self.max_size)

    @property
    def grids(self) -> tuple[int, int, int]:
        """Cells along a side of the map at each zoom."""
        return self.coarse, self.middle, self.fine


class ActivationAtlas(directions.PlacesLens[Recipe]):
    """The lens."""

    table = schema.ACTIVATION_ATLAS

    def recipe(self, quality: Quality) -> Recipe:
        pictures = DEFAULT, default_revision()
        match quality:
            case "draft":
                return Recipe(*pictures, replace(SETTLING, steps=48), max_size=80)
            case "standard":
                return Recipe(*pictures, replace(SETTLING_LONGER, precision="bfloat16"), max_size=160)
            case "microscope":
                return Recipe(*pictures, Ascent(steps=512), max_size=None)  # as many steps as the article's

    def quick(self) -> Recipe:
        small = Layout(most=64, components=4, early_steps=5, steps=5)
        return Recipe(
            DEFAULT,
            default_revision(),
            Ascent(steps=2),
            max_size=32,
            coarse=1,
            middle=1,
            fine=2,
            num_vectors=96,
            min_pictures=2,
            min_vectors=16,
            min_per_cell=16,
            layout=small,
            robust_views=1,
        )

    def shortened(self, recipe: Recipe, steps: int) -> Recipe:
        """On the package's own pictures, which are few, and with few cells."""
        few = replace(recipe, pictures=DEFAULT, revision=default_revision(), coarse=1, middle=1, fine=2)
        return replace(super().shortened(few, steps), layout=replace(recipe.layout, most=1000, steps=1, early_steps=1))

    def parts(self, recipe: Recipe) -> list[Part]:
        return [Part("cells", sum(grid**2 for grid in recipe.grids), recipe.ascent.steps)]

    def refuse(self, organism: Organism, weights_sha256: str | None, recipe: Recipe) -> None:
        """PicturesFailed for a set of too few pictures, ExtraMissing where nothing is here that lays out."""
        layout.refuse_absent()
        directions.refuse_few_pictures(self.name, recipe, recipe.min_pictures)

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        if subject.layer.units > directions.MOST_UNITS:
            raise LensFailed(
                f"{subject.key()} has {subject.layer.units} units, {self.name} looks at layers of "
                f"{directions.MOST_UNITS} at most"
            )
        pictures = picture_set(recipe.pictures, recipe.revision)
        with sampled(subject, pictures, recipe.num_vectors, recipe.batch) as sample:
            directions.refuse_few_vectors(self.name, subject, sample, recipe, recipe.min_vectors)
            numbers = spaced(sample.vectors.length, recipe.layout.most)
            start = seed(subject.key(), self.name, "layout")
            cells = cells_of(
                sample,
                laid_out(sample.vectors.numbered(numbers), recipe.layout, start),
                recipe.grids,
                recipe.min_per_cell,
                recipe.ridge,
                subject.organism.classes,
                pictures.photos,
            )
            for some in directions.batches(cells, subject, recipe):
                yield _batch(subject, some, pictures, sample, recipe)


def _batch(subject: Subject, cells: Sequence[Cell], pictures: PictureSet, sample: Sample, recipe: Recipe) -> list[Row]:
    """Rows of one batch of cells."""
    rows: list[Row] = [
        {
            "zoom": cell.zoom,
            "row": cell.row,
            "column": cell.column,
            "grid": cell.grid,
            "seed": seed(subject.key(), ActivationAtlas.table.name, cell.zoom, cell.row, cell.column),
            "num_vectors": cell.num_vectors,
            "mean": cell.mean.numpy(),
            "classes": cell.classes,
            "set": recipe.pictures,
            "revision": recipe.revision,
            "num_placed": sample.vectors.length,
            "num_left_out": sample.num_silent + sample.num_not_finite,
            **_places(subject, cell, pictures, sample, recipe.crops),
        }
        for cell in cells
    ]
    means = torch.stack([cell.mean for cell in cells])
    directions.picture(subject, rows, torch.stack([cell.direction for cell in cells]), means, recipe)
    return rows


def _places(subject: Subject, cell: Cell, pictures: PictureSet, sample: Sample, crops: bool) -> Row:
    """The pictures that fall into a cell: where in each, and what is seen there."""
    alike = [
        F.cosine_similarity(sample.vectors.between(vector, vector + 1)[0], cell.mean, dim=0).item()
        for vector in cell.samples
    ]
    return directions.places(subject, sample, cell.samples, alike, "cosine", pictures, crops)
