"""The set of pictures that comes with the package, cut into squares.

Version 0.1 cut twelve photos into many that overlap; its rows still name that set, by its revision, and it is kept.
"""

from collections.abc import Sequence
from itertools import product

from microscope_atlas.pictures.picture_set import PictureSet, sha256
from microscope_atlas.pictures.sources import DEFAULT, SOURCES, source

SHARES = (1.0, 0.7, 0.45)  # sides of the squares, of the shorter side of the picture
STEP = 0.5  # between neighbouring squares at most, of their side


def own_set(revision: str | None = None) -> PictureSet:
    """The package's own pictures."""
    pictures = {name: source(name) for name in SOURCES}
    crops = [(name, box) for name, picture in pictures.items() for box in squares(*picture.size)]
    return PictureSet(
        DEFAULT,
        default_revision(),
        len(crops),
        lambda number: pictures[crops[number][0]].crop(crops[number][1]),
        lambda number: "{} of the package, {}".format(*crops[number]),
    )


def default_revision() -> str:
    """Of the default set: its pictures and how they are cut."""
    return sha256([[known.sha256 for known in SOURCES.values()], SHARES, STEP])


def squares(
    width: int, height: int, shares: Sequence[float] = SHARES, step: float = STEP
) -> list[tuple[int, int, int, int]]:
    """How a picture is cut: squares (left, top, right, bottom) of several sizes, spread evenly."""
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
