"""A set of pictures: many, by number, read from disk when they are asked for."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from microscope_atlas.errors import PicturesFailed
from microscope_atlas.pictures.decoder import BOMBS, DAMAGED, fitted
from microscope_atlas.pictures.labels import Labels
from microscope_atlas.pictures.terms import Terms

MAX_PIXELS = 150_000_000  # of a picture, 450 MB decoded; the largest sensors have 150 million
THREADS = 4  # that read pictures ahead


@dataclass(frozen=True)
class PictureSet:
    """Pictures by number, read when they are asked for."""

    name: str  # as rows have it: never a path on this machine
    revision: str  # of its content: other pictures have another, the same pictures elsewhere the same
    length: int
    read: Callable[[int], Image.Image]
    describe: Callable[[int], str]  # which picture a number is, for errors
    terms: Terms | None = None  # under which its pictures may be passed on; None: nobody has stated any
    photos: tuple[str, ...] | None = None  # of which each picture is a crop, by number; None: none is a crop
    read_labels: Callable[[], Labels | None] = lambda: None  # its classes; they are read when they are asked for

    @cached_property
    def labels(self) -> Labels | None:
        """Which class each picture is of; None where nobody says."""
        return self.read_labels()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Image.Image:
        """A picture, RGB, upright; PicturesFailed where it cannot be read."""
        if not 0 <= number < self.length:
            raise IndexError(f"{self.name} has pictures 0 to {self.length - 1}, not {number}")
        try:
            return self.read(number)
        except (*DAMAGED, *BOMBS) as error:
            raise PicturesFailed(
                f"{self.describe(number)} cannot be read as a picture: {error}; mend it, or take it out of the set"
            ) from error

    def batches(self, size: int, batch: int, device: torch.device) -> Iterator[Tensor]:
        """All pictures in order, (at most `batch`, 3, size, size), RGB in [0, 1]; see fitted.

        Some threads read ahead, two batches at most, and nothing waits until a batch has arrived on the device.
        """
        on_cuda = device.type == "cuda"
        pixels = ahead(lambda number: np.asarray(fitted(self[number], size)), range(self.length), 2 * batch)
        while some := list(islice(pixels, batch)):
            read = torch.from_numpy(np.stack(some))
            read = read.pin_memory() if on_cuda else read
            yield read.to(device, non_blocking=on_cuda).permute(0, 3, 1, 2) / 255


def ahead(work: Callable[[Any], Any], items: Iterable[Any], most: int) -> Iterator[Any]:
    """`work` on each item, in order, done by some threads ahead of what is asked for: `most` items at most."""
    waiting = iter(items)
    pool = ThreadPoolExecutor(THREADS)
    try:
        begun = deque(pool.submit(work, item) for item in islice(waiting, most))
        while begun:
            done = begun.popleft().result()
            begun.extend(pool.submit(work, item) for item in islice(waiting, 1))
            yield done
    finally:
        pool.shutdown(cancel_futures=True)
