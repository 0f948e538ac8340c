"""How the package's own photos are cut into the squares of the set `default`.

Of each photo as many as its length holds, as high as it is: with smaller ones beside them, late layers get fragments
and early ones blur. Version 0.1 cut twelve photos into many squares that overlap, and eleven of a unit's sixteen best
could be one coffee cup; its rows name that set by its revision, so it is kept as it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from microscope_atlas.pictures.revisions import revision_of
from microscope_atlas.pictures.sources import FIRST, SOURCES


@dataclass(frozen=True)
class Cut:
    """Which photos make a set, and how they are cut."""

    photos: tuple[str, ...]
    shares: tuple[float, ...]  # sides of the squares, of the shorter side of the photo
    step: float  # between neighbouring squares at most, of their side
    spread: bool = True  # whether a unit's samples are spread over the photos

    @cached_property
    def revision(self) -> str:
        """Of the photos' content and how they are cut."""
        return revision_of([[SOURCES[name].sha256 for name in self.photos], self.shares, self.step])


NOW = Cut(tuple(SOURCES), (1.0,), 1.0)
OF_0_1 = Cut(FIRST, (1.0, 0.7, 0.45), 0.5, spread=False)


def cut_of(revision: str | None) -> Cut | None:
    """The cut of a revision, or the present one; None where this version has none of that revision."""
    return next((cut for cut in (NOW, OF_0_1) if revision in (None, cut.revision)), None)


def default_revision() -> str:
    """Of the default set: its photos and how they are cut."""
    return NOW.revision


def squares(width: int, height: int, shares: Sequence[float], step: float) -> list[tuple[int, int, int, int]]:
    """How a photo is cut: squares (left, top, right, bottom) of several sizes, spread evenly."""
    boxes = []
    for share in shares:
        side = round(share * min(width, height))
        lefts, tops = (_spread(length - side, step * side) for length in (width, height))
        boxes += [(left, top, left + side, top + side) for top, left in product(tops, lefts)]
    return boxes


def _spread(room: int, step: float) -> list[int]:
    """0 to `room`, evenly, in steps of at most `step`."""
    intervals = -int(-room // step)
    return [round(room * at / max(intervals, 1)) for at in range(intervals + 1)]
