"""A sample of a layer's activations: its vectors at random places of the pictures of a set.

Memory does not grow with the sample: vectors lie in a file without a name, which is gone when nobody holds it. Which
places are taken hangs on the layer, the picture's number and how many vectors are asked for, on nothing else.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from microscope_atlas.errors import LensFailed
from microscope_atlas.lenses.lens import Subject, seed
from microscope_atlas.lenses.response_statistics import numbered
from microscope_atlas.pictures.picture_set import PictureSet

AT_ONCE = 2048  # vectors that are read together


class Spilled:
    """Rows of float32 in a file: written one after another, read in order or by number."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - see close
        self.width = 0  # numbers in a row
        self.length = 0

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def append(self, rows: Tensor) -> None:
        """Write (rows, width) behind what is there."""
        self.width = rows.shape[1]
        self._file.write(rows.float().contiguous().numpy().tobytes())
        self.length += len(rows)

    def between(self, start: int, stop: int) -> Tensor:
        """The rows from `start` to `stop`."""
        each = 4 * self.width
        self._file.seek(start * each)
        content = bytearray(self._file.read((stop - start) * each))
        return torch.frombuffer(content, dtype=torch.float32).view(-1, self.width)

    def numbered(self, numbers: Sequence[int]) -> Tensor:
        """Some rows, by their numbers."""
        return torch.cat([self.between(number, number + 1) for number in numbers])


@dataclass
class Sample:
    """Vectors of a layer, each from a place of a picture."""

    shape: tuple[int, int] = (0, 0)  # height and width of the layer's map
    vectors: Spilled = field(default_factory=Spilled)  # (vectors, units): in the order of the pictures
    logits: Spilled | None = None  # (pictures, classes); None where the classes are not known
    num_silent: int = 0  # vectors that were left out because they are all zero
    num_not_finite: int = 0  # and because they hold what is no number
    _pictures: list[Tensor] = field(default_factory=list)
    _places: list[Tensor] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Let go of its files."""
        self.vectors.close()
        if self.logits is not None:
            self.logits.close()

    @cached_property
    def pictures(self) -> NDArray[np.int32]:
        """The number of each vector's picture."""
        return torch.cat(self._pictures).int().numpy()

    @cached_property
    def places(self) -> NDArray[np.int32]:
        """The place of each vector in the map, row by row."""
        return torch.cat(self._places).int().numpy()

    def add(self, picture: int, places: Tensor, vectors: Tensor) -> None:
        """Take in vectors (places, units) of a picture; those without a direction are left out, and counted."""
        finite = vectors.isfinite().all(1)
        silent = (vectors == 0).all(1)
        self.num_not_finite += int((~finite).sum())
        self.num_silent += int(silent.sum())
        kept = finite & ~silent
        self.vectors.append(vectors[kept])
        self._places.append(places[kept])
        self._pictures.append(torch.full((int(kept.sum()),), picture))

    def owners(self, photos: Sequence[str] | None) -> NDArray[np.int32]:
        """Of each vector its picture, or the photo that this was cut from, `photos` picture by picture, by numbers."""
        return self.pictures if photos is None else numbered(photos)[self.pictures]

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """All vectors in their order, some at a time, and which they are."""
        for start in range(0, self.vectors.length, AT_ONCE):
            stop = min(start + AT_ONCE, self.vectors.length)
            yield slice(start, stop), self.vectors.between(start, stop)


def sampled(subject: Subject, pictures: PictureSet, most: int, batch: int, with_logits: bool = True) -> Sample:
    """At most `most` vectors of the subject's layer, as many of each picture, in a sample that has to be left.

    With the logits of the pictures, where the classes are known, for which the network runs to its end.

    Places at the edge of the map are left out, as in the article: padding tells on them. LensFailed where the layer
    has no places.
    """
    logits = subject.organism.logits if with_logits else None
    sample = Sample(logits=Spilled() if logits else None)
    try:
        _fill(sample, subject, pictures, most, batch, logits)
    except BaseException:
        sample.__exit__()
        raise
    return sample


def _fill(sample: Sample, subject: Subject, pictures: PictureSet, most: int, batch: int, logits: str | None) -> None:
    """Take in the vectors of all pictures."""
    targets = list(dict.fromkeys([subject.layer.name, *([logits] if logits else [])]))
    number, count = 0, len(pictures)
    for some in pictures.batches(subject.organism.input_size, batch, subject.device):
        with torch.no_grad():
            found = dict(zip(targets, subject.graph(subject.joined(some, batch), targets), strict=True))
        acts = found[subject.layer.name][: len(some)].float().cpu()
        if acts.dim() != 4:
            raise LensFailed(f"{subject.key()} has no places, only neurons; name a layer whose units are on a map")
        sample.shape = acts.shape[2], acts.shape[3]
        inner = within(*sample.shape)
        whole = min(most, count * len(inner))
        for each in acts:
            wanted = (number + 1) * whole // count - number * whole // count
            stream = torch.Generator().manual_seed(seed(subject.key(), "places", number))
            places = inner[torch.randperm(len(inner), generator=stream)[:wanted].sort().values]
            sample.add(number, places, each.flatten(1).T[places])
            number += 1
        if logits and sample.logits is not None:
            sample.logits.append(found[logits][: len(some)].float().cpu())


def within(height: int, width: int) -> Tensor:
    """The places of a map that are not at its edge, numbered row by row; along an axis of one or two, all."""
    rows, columns = (torch.arange(length)[1:-1] if length > 2 else torch.arange(length) for length in (height, width))
    return (rows[:, None] * width + columns).flatten()
