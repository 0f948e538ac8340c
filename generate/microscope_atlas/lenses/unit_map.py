"""A map of units: a place in the plane for each, so that those that answer alike lie near each other.

t-SNE (van der Maaten and Hinton 2008) of the distances sqrt(2 - 2 r), r the correlation of two units' responses, which
is how far their answers are apart as directions. It keeps neighbours, and little else: how far groups lie apart, and
how wide they are, says nothing. `trustworthiness` (Venna and Kaski 2001) is how much the neighbours on the map are
neighbours in truth: 1 all of them, 0.5 as chance would have it.

Of a whole network, which may have more units than can be compared each with each, some are laid out: landmarks, evenly
spaced among its units. Each other falls where the landmark lies that answers most like it.

Distances are exact, see correlation; the rest is computed by one thread, from a start that is no matter of chance: the
two directions in which answers differ most. So a machine gives the same bytes each time, however many cores it has.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from microscope_atlas.lenses.answers import Pictures
from microscope_atlas.lenses.correlation import LENGTH, ROWS

NEIGHBOURS = 10  # of a unit, that trustworthiness looks at
LEAST = 2 * NEIGHBOURS + 1  # units, below which that says nothing
MOST = 4096  # units: all distances are held at once
START = 1e-4  # spread of the start, as t-SNE has it
ITERATIONS = 1000


class UnitMap(NamedTuple):
    """Places of units, (units, 2), middle 0, and how far neighbours among them can be trusted."""

    places: NDArray[np.float32]
    trustworthiness: float


def unit_map(answers: Tensor, perplexity: float, seed: int) -> UnitMap | None:
    """The map of units whose answers are as `correlation.standardized` gives them, (units, pictures).

    `perplexity` is about how many neighbours of a unit count. None of fewer units than 21, or more than 4,096.
    """
    if not LEAST <= len(answers) <= MOST:
        return None
    from sklearn.manifold import TSNE, trustworthiness  # slow to import, and seldom needed
    from threadpoolctl import threadpool_limits

    correlations = (answers @ answers.T / LENGTH**2).clamp_(-1, 1)
    distances = (2 - 2 * correlations).clamp_(0).sqrt_().fill_diagonal_(0).numpy()
    with threadpool_limits(1):
        start = _start(correlations)
        layout = TSNE(
            metric="precomputed",
            init=start,
            perplexity=min(perplexity, (len(answers) - 1) / 3),
            max_iter=ITERATIONS,
            random_state=seed % 2**32,
            n_jobs=1,
        )
        places = layout.fit_transform(distances).astype(np.float32)
        trusted = trustworthiness(distances, places, n_neighbors=NEIGHBOURS, metric="precomputed")
    return UnitMap(places - places.mean(0), float(trusted))


def landmarks(units: Sequence[int], most: int) -> list[int]:
    """At most so many of some units, evenly spaced in their order."""
    return [units[at * len(units) // most] for at in range(most)] if len(units) > most else list(units)


class NetworkMap:
    """The map of a network, from the answers of its units, which come in parts.

    Where units were measured on several sets of pictures, it is of those that the most landmarks were measured on.
    """

    def __init__(self, units: Sequence[int], perplexity: float, seed: int):
        """Of these units, each by its place among all that are known."""
        self._chosen = set(landmarks(units, MOST))
        self._perplexity, self._seed = perplexity, seed
        self._seen: dict[Pictures, list[tuple[list[int], Tensor]]] = {}

    def see(self, pictures: Pictures, units: Sequence[int], answers: Tensor) -> None:
        """Take in units of the network, with their answers as `correlation.standardized` gives them."""
        kept = [at for at, unit in enumerate(units) if unit in self._chosen]
        if kept:
            self._seen.setdefault(pictures, []).append(([units[at] for at in kept], answers[kept]))

    def places(self, pictures: Pictures, units: Sequence[int], answers: Tensor) -> UnitMap | None:
        """Where units fall that were measured on these pictures, asked once all were seen.

        None where the map is of other pictures, or there is none.
        """
        if pictures != self._pictures or self._made is None:
            return None
        nearest = torch.cat([(some @ self._known.T).argmax(1) for some in torch.split(answers, ROWS)]).tolist()
        falls = [self._at.get(unit, near) for unit, near in zip(units, nearest, strict=True)]
        return UnitMap(self._made.places[falls], self._made.trustworthiness)

    @cached_property
    def _pictures(self) -> Pictures | None:
        """The set that the most landmarks were measured on."""
        counts = {each: sum(len(units) for units, _ in parts) for each, parts in self._seen.items()}
        return max(counts, key=lambda each: counts[each], default=None)

    @property
    def _parts(self) -> list[tuple[list[int], Tensor]]:
        return self._seen[self._pictures] if self._pictures else []

    @cached_property
    def _at(self) -> dict[int, int]:
        """Of each landmark its number among those that were laid out."""
        return {unit: number for number, unit in enumerate(unit for units, _ in self._parts for unit in units)}

    @cached_property
    def _known(self) -> Tensor:
        return torch.cat([answers for _, answers in self._parts])

    @cached_property
    def _made(self) -> UnitMap | None:
        return _remembered(_Asked(self._known, self._perplexity, self._seed))


@dataclass(frozen=True)
class _Asked:
    """What a map is made of; equal where that is the same to the byte."""

    answers: Tensor = field(compare=False)
    perplexity: float
    seed: int
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", hashlib.sha256(self.answers.contiguous().numpy().data).hexdigest())


@lru_cache(maxsize=1)  # all layers of a network ask for the same
def _remembered(asked: _Asked) -> UnitMap | None:
    return unit_map(asked.answers, asked.perplexity, asked.seed)


def principal(correlations: Tensor) -> NDArray[np.float64]:
    """Places of units by the two directions in which their answers differ most, (units, 2)."""
    centred = correlations.numpy() - correlations.numpy().mean(0)
    values, vectors = np.linalg.eigh(centred - centred.mean(1, keepdims=True))
    places = (vectors[:, -2:] * np.sqrt(values[-2:].clip(0)))[:, ::-1]
    signs = np.sign(places[np.abs(places).argmax(0), range(2)])  # a direction's sign is left to the library
    flipped: NDArray[np.float64] = places * np.where(signs == 0, 1, signs)
    return flipped


def _start(correlations: Tensor) -> NDArray[np.float32]:
    places = principal(correlations)
    spread = places[:, 0].std()
    return (places / (spread or 1) * START).astype(np.float32)
