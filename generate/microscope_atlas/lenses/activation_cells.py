"""The cells of a map of activations: what falls into each, its mean direction, and the classes and pictures of it.

One pass over the sample adds up what falls into each cell of each grid, a second finds what is most like each mean.
Sums are of 64 bits.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from microscope_atlas.lenses.activation_sample import Sample
from microscope_atlas.lenses.layout import Map

NUM_CLASSES, NUM_SAMPLES = 5, 9  # of a cell

Integers = NDArray[np.int32]


class Cell(NamedTuple):
    """A cell of the map."""

    zoom: int
    grid: int
    row: int
    column: int
    num_vectors: int
    mean: Tensor  # (units,)
    direction: Tensor  # (units,): the mean, whitened
    classes: list[dict[str, Any]]
    samples: list[int]  # vectors, by number


def cells_of(
    sample: Sample,
    laid: Map,
    grids: Sequence[int],
    least: int,
    ridge: float,
    classes: Sequence[str] | None,
    photos: Sequence[str] | None,
) -> list[Cell]:
    """All cells with `least` vectors or more, grid by grid, row by row.

    `classes` are the names of the logits' classes, `photos` the photos that pictures are crops of. A mean is whitened
    by the inverse of all vectors' second moments, with `ridge` of their mean added, which dead units need.
    """
    falls = _fallen(sample, laid, grids)
    moments = falls.moments / sample.vectors.length
    lifted = moments + ridge * moments.diagonal().mean() * torch.eye(len(moments), dtype=moments.dtype)
    whitening = torch.linalg.inv(lifted)
    owners = sample.owners(photos)
    found = []
    for zoom, (grid, at_grid) in enumerate(zip(grids, falls.grids, strict=True)):
        best = _most_alike(sample, at_grid, owners)
        everywhere = at_grid.logits.sum(0) / sample.vectors.length
        for at in torch.nonzero(at_grid.counts >= least).flatten().tolist():
            count = int(at_grid.counts[at])
            mean, logits = at_grid.vectors[at] / count, at_grid.logits[at] / count
            leaning = _leaning(logits - everywhere, classes) if classes else []
            direction = (mean @ whitening).float()
            found.append(Cell(zoom, grid, at // grid, at % grid, count, mean.float(), direction, leaning, best[at]))
    return found


class _Grid(NamedTuple):
    """What falls into each cell of a grid, added up."""

    cells: Integers  # (vectors,): the cell of each, row by row
    counts: Tensor  # (cells,)
    vectors: Tensor  # (cells, units)
    logits: Tensor  # (cells, classes), of the pictures that vectors are from; (cells, 0) where there are none


class _Fallen(NamedTuple):
    """What falls where."""

    grids: list[_Grid]
    moments: Tensor  # (units, units): sum of the products of vectors' numbers


def _fallen(sample: Sample, laid: Map, grids: Sequence[int]) -> _Fallen:
    units, count = sample.vectors.width, sample.vectors.length
    num_classes = sample.logits.width if sample.logits else 0
    found = [
        _Grid(np.empty(count, np.int32), _zeros(grid**2), _zeros(grid**2, units), _zeros(grid**2, num_classes))
        for grid in grids
    ]
    moments = _zeros(units, units)
    for some, vectors in sample.chunks():
        places, exact = laid.fall(vectors), vectors.double()
        moments += exact.T @ exact
        logits, shown = _zeros(len(vectors), 0), sample.pictures[some]
        if sample.logits is not None:
            first = int(shown[0])
            logits = sample.logits.between(first, int(shown[-1]) + 1).double()[torch.from_numpy(shown - first).long()]
        for grid, into in zip(grids, found, strict=True):
            column, row = (places * grid).long().clamp(max=grid - 1).unbind(1)
            at = row * grid + column
            into.cells[some] = at.numpy()
            into.counts.index_add_(0, at, _zeros(len(at)) + 1)
            into.vectors.index_add_(0, at, exact)
            into.logits.index_add_(0, at, logits)
    return _Fallen(found, moments)


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)


def _most_alike(sample: Sample, grid: _Grid, owners: Integers) -> dict[int, list[int]]:
    """Of each cell the vectors most like its mean, the most alike first, one of each owner; of equals the earlier."""
    means = F.normalize(grid.vectors, dim=1).float()
    alike = np.empty(len(grid.cells), np.float32)
    for some, vectors in sample.chunks():
        own = means[torch.from_numpy(grid.cells[some]).long()]
        alike[some] = (F.normalize(vectors, dim=1) * own).sum(1).numpy()
    found: dict[int, list[int]] = {}
    shown: set[tuple[int, int]] = set()
    for number in np.lexsort((-alike, grid.cells)).tolist():
        cell, owner = int(grid.cells[number]), int(owners[number])
        picked = found.setdefault(cell, [])
        if len(picked) < NUM_SAMPLES and (cell, owner) not in shown:
            picked.append(number)
            shown.add((cell, owner))
    return found


def _leaning(logits: Tensor, names: Sequence[str]) -> list[dict[str, Any]]:
    """The classes whose logits are highest; of equals the first. None where they are not finite."""
    if not logits.isfinite().all():
        return []
    values, order = logits.sort(descending=True, stable=True)
    best = zip(order[:NUM_CLASSES].tolist(), values[:NUM_CLASSES].tolist(), strict=True)
    return [{"class": at, "name": names[at], "logit": value} for at, value in best]
