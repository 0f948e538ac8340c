"""Layouts: vectors laid out in a plane so that those of like direction lie near each other.

t-SNE (van der Maaten and Hinton 2008, https://jmlr.org/papers/v9/vandermaaten08a.html) by openTSNE, of the directions'
leading principal components. It gives the same bytes whatever the number of threads: neighbours and components are
found here, and openTSNE is given one thread, with which it repeats itself.

The work grows with what is laid out, so of many vectors some are, and all others fall where the nearest of them lies.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from microscope_atlas.errors import ExtraMissing
from microscope_atlas.structure import Count, at_least, between

AT_ONCE = 1024  # vectors that are compared with all others in one go
EXACT = 1000  # vectors; of fewer all pairs repel each other, of more by an interpolation (Linderman et al. 2019)
SMALL = 1e-4  # standard deviation to start from: t-SNE's authors'
ALIKE = 1e-6  # how far directions are from their mean, at most, where they differ by rounding alone
CUT = 0.01  # share of the places, on each side, that are moved to the border: one outlier must not press all others


@dataclass(frozen=True)
class Layout:
    """Settings of a layout."""

    most: Annotated[int, between(16, 100_000)] = 10_000  # vectors that are laid out; 54 s on one core
    components: Annotated[int, between(2, 1000)] = 50  # of the vectors, that are looked at
    perplexity: Annotated[float, at_least(1)] = 30.0  # how many neighbours count, about
    early_steps: Count = 250  # with attraction twelve times as strong, which gathers what belongs together
    steps: Count = 500  # as it is


@dataclass(frozen=True)
class Map:
    """Vectors that were laid out, and where all others fall."""

    middle: Tensor  # (units,): mean direction
    axes: Tensor  # (units, components)
    known: Tensor  # (vectors, components): those that were laid out
    places: Tensor  # (vectors, 2), each in [0, 1]: from the left, from the top

    def fall(self, vectors: Tensor) -> Tensor:
        """Where vectors fall, (vectors, units) -> (vectors, 2): at the place of the nearest that was laid out."""
        looked = _projected(vectors, self.middle, self.axes)
        half = self.known.square().sum(1) / 2
        return torch.cat([self.places[(some @ self.known.T - half).argmax(1)] for some in torch.split(looked, AT_ONCE)])


def refuse_absent() -> None:
    """ExtraMissing where openTSNE is not installed."""
    if find_spec("openTSNE") is None:
        raise ExtraMissing("a layout needs openTSNE; pip install 'microscope-atlas[maps]'")


def laid_out(vectors: Tensor, settings: Layout, seed: int) -> Map:
    """A map of vectors (vectors, units), none of them all zero, all finite."""
    directions = F.normalize(vectors.double(), dim=1)
    middle = directions.mean(0)
    axes = _axes(directions - middle, settings.components)
    known = _projected(vectors, middle, axes)
    return Map(middle, axes, known, _normalised(_embedded(known, settings, seed)))


def _projected(vectors: Tensor, middle: Tensor, axes: Tensor) -> Tensor:
    looked: Tensor = (F.normalize(vectors.double(), dim=1) - middle) @ axes
    return looked.float()


def _axes(centred: Tensor, most: int) -> Tensor:
    """The principal components of (vectors, units), (units, components), the first that has most; signs are settled."""
    _, axes = torch.linalg.eigh(centred.T @ centred)
    leading = axes.flip(1)[:, :most]
    largest = leading.gather(0, leading.abs().argmax(0, keepdim=True))
    settled: Tensor = leading * largest.sign()
    return settled


def _neighbours(vectors: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Of each vector the nearest others, (vectors, count), and how far they are; of equals the first."""
    numbers, distances = [], []
    for start in range(0, len(vectors), AT_ONCE):
        some = vectors[start : start + AT_ONCE]
        apart = torch.cdist(some, vectors, compute_mode="use_mm_for_euclid_dist")
        apart[torch.arange(len(some)), torch.arange(start, start + len(some))] = torch.inf
        nearest, at = apart.topk(count, largest=False)
        numbers.append(at)
        distances.append(nearest)
    return torch.cat(numbers), torch.cat(distances)


def _embedded(vectors: Tensor, settings: Layout, seed: int) -> Tensor:
    """Places of vectors (vectors, components), (vectors, 2), of any range."""
    refuse_absent()
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    count = len(vectors)
    if vectors.abs().max() < ALIKE:  # openTSNE divides by how far its start spreads, and crashes where that is nothing
        return torch.zeros(count, 2).double()
    perplexity = min(settings.perplexity, max(1.0, (count - 1) / 3))
    numbers, distances = _neighbours(vectors, min(count - 1, max(2, round(3 * perplexity))))
    near = PrecomputedNeighbors(numbers.numpy(), distances.double().numpy())
    start = F.pad(vectors[:, :2].double(), (0, max(0, 2 - vectors.shape[1])))  # of a lone unit there is one
    start = start / start[:, 0].std().clamp(min=torch.finfo(torch.float64).tiny) * SMALL
    embedding = TSNEEmbedding(
        start.numpy(),
        PerplexityBasedNN(knn_index=near, perplexity=perplexity, n_jobs=1),
        n_jobs=1,
        random_state=seed % 2**32,
        negative_gradient_method="bh" if count < EXACT else "fft",
    )
    rate = max(200.0, count / 12)  # Belkina et al. 2019, https://doi.org/10.1038/s41467-019-13055-y
    embedding = embedding.optimize(settings.early_steps, exaggeration=12, momentum=0.5, learning_rate=rate)
    embedding = embedding.optimize(settings.steps, momentum=0.8, learning_rate=rate)
    return torch.from_numpy(np.array(embedding))


def _normalised(places: Tensor) -> Tensor:
    """Places, (vectors, 2), moved and stretched into [0, 1] along each axis; what lies far out goes to the border."""
    low, high = torch.quantile(places, torch.tensor([CUT, 1 - CUT], dtype=places.dtype), dim=0)
    extent = (high - low).clamp(min=torch.finfo(places.dtype).tiny)
    within: Tensor = (places - low) / extent
    return within.clamp(0, 1)
