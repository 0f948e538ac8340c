"""Which units answer alike: the highest correlations between the units of a layer and any others, taken part by part.

Exact, so that neighbours depend on no machine and no slicing: a vector of answers becomes whole numbers of length 2^26,
and a product of two such vectors is a sum of whole numbers that never passes 2^53 (Cauchy and Schwarz), which float64
adds without rounding, in whatever order a matrix product takes them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

LENGTH = 2.0**26  # of a vector of answers
STEPS = 10**5  # of a correlation from 0 to 1; whole numbers of that length err by less than a tenth of one
PLACES = 2**32  # more than there are units
LOWEST = torch.iinfo(torch.int64).min
ROWS = 1024  # of a layer's units at once, which bounds the memory


def varying(answers: Tensor) -> Tensor:
    """Which rows of (units, pictures) have a correlation with anything: all finite and not all the same."""
    low, high = answers.aminmax(dim=1)  # both are NaN where anything is
    return (low < high) & low.isfinite() & high.isfinite()


def standardized(answers: Tensor) -> Tensor:
    """(units, pictures), each row varying -> each less its mean, of length 2^26, in whole numbers; float64."""
    values = answers.double()
    values -= values.mean(1, keepdim=True)
    values *= LENGTH / torch.linalg.vector_norm(values, dim=1, keepdim=True)
    return values.round_()


class Nearest:
    """To each of some units, the others that correlate most, to five decimals; those seen first where they tie."""

    def __init__(self, answers: Tensor, places: Sequence[int], most: int):
        """Units as `standardized` gives them, and the place of each among all units, by which it knows itself."""
        self.answers, self.places = answers, torch.tensor(places)[:, None]
        self.best = torch.full((len(answers), most), LOWEST)  # correlation and place in one number, highest first

    def see(self, answers: Tensor, places: Sequence[int]) -> None:
        """Compare with these units, also `standardized`."""
        there = torch.tensor(places)
        for start in range(0, len(self.answers), ROWS):
            some = slice(start, start + ROWS)
            correlations = self.answers[some] @ answers.T / LENGTH**2
            ranks = (correlations * STEPS).round().long() * PLACES - there
            ranks[self.places[some] == there] = LOWEST
            self.best[some] = torch.cat([self.best[some], ranks], 1).topk(self.best.shape[1]).values

    def found(self) -> list[list[tuple[int, float]]]:
        """To each unit: places and correlations, highest first."""
        return [
            [(-rank % PLACES, -(-rank // PLACES) / STEPS) for rank in ranks if rank != LOWEST]
            for ranks in self.best.tolist()
        ]
