"""Which classes a unit speaks for, of a set of pictures whose classes are known, and how selective it is between them.

The class selectivity index of Morcos, Barrett, Rabinowitz and Botvinick 2018, https://arxiv.org/abs/1803.06959, for one
unit, where mu are its mean responses to the pictures of each class:

    index = (mu_max - mu_rest) / (mu_max + mu_rest)        mu_rest: mean of mu over all classes but the one with mu_max

0: it answers all classes alike; 1: only one. It is stated for rectified units. Here a response is the strongest
activation in a picture, and one below zero counts as zero, of every unit: so the index stays within 0 and 1, and of
units that nothing rectifies it says how selective what they excite is, behind a rectifier of their own.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microscope_atlas.lenses.response_statistics import Floats, Integers
from microscope_atlas.pictures.labels import NONE, Labels

BYTES = 8  # that a unit takes for each class while a pass goes on


class ClassResponses:
    """Sums of every unit's responses to the pictures of each class; (classes, units) numbers, however long the set."""

    def __init__(self, labels: Labels):
        self.labels = labels
        self.num_pictures = 0
        self.sums: NDArray[np.float64] | None = None

    def add(self, maxima: Floats) -> None:
        """Take in the next pictures: the strongest activations (pictures, units).

        They are added one by one, so that no sum depends on how many come at once.
        """
        if self.sums is None:
            self.sums = np.zeros((len(self.labels.names), maxima.shape[1]))
        classes = self.labels.classes[self.num_pictures : self.num_pictures + len(maxima)]
        for place, responses in zip(classes, np.maximum(maxima, 0), strict=True):
            if place != NONE:
                self.sums[place] += responses
        self.num_pictures += len(maxima)

    @property
    def means(self) -> NDArray[np.float64]:
        """Of each class and unit the mean response."""
        assert self.sums is not None, "no picture yet"
        means: NDArray[np.float64] = self.sums / self.labels.counts[:, None]
        return means

    def rows(self, top: Integers, most: int) -> list[dict[str, Any]]:
        """The columns `classes` and `class_selectivity` of every unit.

        `top` (pictures, units) are the numbers of its best pictures, -1 where there is none. At most `most` classes
        are named, the highest mean first, of equals the earlier by name; none that does not excite the unit.
        """
        means, counts = self.means, self.labels.counts
        order = np.argsort(-means, axis=0, kind="stable")[:most]
        shown = np.where(top >= 0, self.labels.classes[top.clip(0)], NONE)
        found = (top >= 0).sum(0)
        selectivities = selectivity(means)

        def named(unit: int) -> list[dict[str, Any]]:
            return [
                {
                    "name": self.labels.names[place],
                    "mean": means[place, unit],
                    "num_pictures": counts[place],
                    "top_share": (shown[:, unit] == place).sum() / found[unit],
                }
                for place in order[:, unit]
                if means[place, unit] > 0
            ]

        return [
            {"classes": named(unit), "class_selectivity": None if np.isnan(index) else float(index)}
            for unit, index in enumerate(selectivities)
        ]


def selectivity(means: NDArray[np.float64] | Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """The index of each unit from its mean response to each class, (classes, units), none below zero.

    NaN for a unit that no class excites.
    """
    values = np.asarray(means, np.float64)
    highest = values.max(0)
    rest = (values.sum(0) - highest) / (len(values) - 1)
    whole = highest + rest
    found: NDArray[np.float64] = np.full_like(whole, np.nan)
    with np.errstate(invalid="ignore"):  # of what is not finite
        np.divide((highest - rest).clip(0), whole, out=found, where=whole > 0)
    return found
