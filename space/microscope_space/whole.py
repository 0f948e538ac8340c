"""The whole photo that a natural picture was cut from, and where in it: of the package's own, which may be shown."""

from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from microscope_atlas.pictures.cuts import cut_of, squares
from microscope_atlas.pictures.sources import DEFAULT, PHOTOS, SOURCES

REVISIONS = 8  # of the set that are remembered
Box = tuple[float, float, float, float]  # left, top, width and height, in percent of the whole


@dataclass(frozen=True)
class Part:
    """A square of a photo."""

    photo: str  # its name
    box: tuple[int, int, int, int]  # left, top, right, bottom, px of the photo
    size: tuple[int, int]  # of the photo, px

    @property
    def square(self) -> Box:
        """What the network saw."""
        return self.within((0, 0, 1, 1))

    def within(self, sides: tuple[float, float, float, float]) -> Box:
        """A part of it (left, top, right, bottom), from 0 to 1."""
        left, top, right, bottom = self.box
        width, height = self.size
        across, down = (right - left) / width * 100, (bottom - top) / height * 100
        return (
            left / width * 100 + sides[0] * across,
            top / height * 100 + sides[1] * down,
            (sides[2] - sides[0]) * across,
            (sides[3] - sides[1]) * down,
        )


def part(name: str, revision: str, picture: int | None) -> Part | None:
    """Which part of a photo a picture of a set is; None where the set is not the package's own."""
    parts = _parts(revision) if name == DEFAULT and picture is not None else ()
    return parts[picture] if picture is not None and 0 <= picture < len(parts) else None


def photo(name: str) -> bytes | None:
    """A photo's file; None where there is none of this name."""
    return (PHOTOS / f"{name}.jpg").read_bytes() if name in SOURCES else None


@lru_cache(REVISIONS)
def _parts(revision: str) -> tuple[Part, ...]:
    """Of every picture of a revision of the package's set; none of a revision that this version does not know."""
    cut = cut_of(revision)
    if cut is None:
        return ()
    sizes = {name: _size(name) for name in cut.photos}
    return tuple(Part(name, box, size) for name, size in sizes.items() for box in squares(*size, cut.shares, cut.step))


def _size(name: str) -> tuple[int, int]:
    with Image.open(PHOTOS / f"{name}.jpg") as opened:
        return opened.size
