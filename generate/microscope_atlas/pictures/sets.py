"""Sets of natural pictures that lenses look at: the package's own, a folder, or any dataset that `datasets` loads.

    default                            pictures that come with the package, cut into overlapping squares
    FOLDER                             the image files in it and below it, sorted by path
    DATASET[:CONFIG][@REVISION]#SPLIT  as in load_dataset: `owner/name#train`, `owner/name:small@v1.0#train[:1000]`

A set can have millions of pictures: it is read from disk picture by picture, and only a few batches are held at once.
"""

import hashlib
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice, product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from microscope_atlas.errors import PicturesFailed
from microscope_atlas.pictures.decoder import BOMBS, DAMAGED, fitted, picture, plain
from microscope_atlas.pictures.sources import DEFAULT, SOURCES, source

SHARES = (1.0, 0.7, 0.45)  # sides of the default set's squares, of the shorter side of the picture
STEP = 0.5  # between neighbouring squares at most, of their side

FILES = {
    ".avif",
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
}  # what counts as an image file
MAX_PIXELS = 150_000_000  # of a picture, 450 MB decoded; the largest sensors have 150 million
THREADS = 4  # that read pictures ahead

T = TypeVar("T")


@dataclass(frozen=True)
class PictureSet:
    """Pictures by number, read when they are asked for."""

    name: str
    revision: str  # of its content: other pictures under the same name have another
    length: int
    read: Callable[[int], Image.Image]
    describe: Callable[[int], str]  # which picture a number is, for errors

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
                f"{self.describe(number)} cannot be read as a picture: {error}; mend it or take it out of {self.name}"
            ) from error

    def batches(self, size: int, batch: int, device: torch.device) -> Iterator[Tensor]:
        """All pictures in order, (at most `batch`, 3, size, size), RGB in [0, 1]; see fitted.

        Some threads read ahead, two batches at most, and nothing waits until a batch has arrived on the device.
        """
        on_cuda = device.type == "cuda"
        pixels = _ahead(lambda number: np.asarray(fitted(self[number], size)), range(self.length), 2 * batch)
        while some := list(islice(pixels, batch)):
            read = torch.from_numpy(np.stack(some))
            read = read.pin_memory() if on_cuda else read
            yield read.to(device, non_blocking=on_cuda).permute(0, 3, 1, 2) / 255


def picture_set(name: str, revision: str | None = None) -> PictureSet:
    """The set called `name`; see the head of this file.

    PicturesFailed where there is no such set, where it has no pictures, or where its revision is not the one expected.
    """
    found = _default() if name == DEFAULT else _dataset(name) if "#" in name else _folder(Path(name))
    if not found.length:
        raise PicturesFailed(f"{name} has no pictures")
    if revision is not None and found.revision != revision:
        raise PicturesFailed(
            f"{name} has revision {found.revision} here, {revision} is expected: its pictures are not the same"
        )
    return found


def with_pictures(recipe: T, name: str) -> T:
    """A recipe with `pictures` and `revision` among its settings, set to another set."""
    return replace(recipe, pictures=name, revision=picture_set(name).revision)  # type: ignore[type-var]


def default_revision() -> str:
    """Of the default set: its pictures and how they are cut."""
    return _sha256([[known.sha256 for known in SOURCES.values()], SHARES, STEP])


def squares(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """How the default set cuts a picture: squares (left, top, right, bottom) of several sizes, spread evenly."""
    boxes = []
    for share in SHARES:
        side = round(share * min(width, height))
        lefts, tops = (_spread(length - side, STEP * side) for length in (width, height))
        boxes += [(left, top, left + side, top + side) for top, left in product(tops, lefts)]
    return boxes


def _spread(room: int, step: float) -> list[int]:
    """0 to `room`, evenly, in steps of at most `step`."""
    intervals = -int(-room // step)
    return [round(room * at / max(intervals, 1)) for at in range(intervals + 1)]


def _default() -> PictureSet:
    pictures = {name: source(name) for name in SOURCES}
    crops = [(name, box) for name, picture in pictures.items() for box in squares(*picture.size)]
    return PictureSet(
        DEFAULT,
        default_revision(),
        len(crops),
        lambda number: pictures[crops[number][0]].crop(crops[number][1]),
        lambda number: "{} of the package, {}".format(*crops[number]),
    )


def _folder(folder: Path) -> PictureSet:
    """Its revision is a hash of the files' names and sizes: to hash what is in them would mean to read them all."""
    try:
        there = folder.is_dir()
    except OSError:  # a name longer than any file's
        there = False
    if not there:
        raise PicturesFailed(
            f"pictures {str(folder)!r} are not to be had: there is no such folder; expected {DEFAULT!r}, a folder with "
            "image files, or a dataset and its split: OWNER/NAME#SPLIT"
        )
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in FILES and path.is_file())
    files = [[path.relative_to(folder).as_posix(), path.stat().st_size] for path in paths]

    def read(number: int) -> Image.Image:
        with paths[number].open("rb") as file:
            return picture(file, MAX_PIXELS)

    return PictureSet(str(folder), _sha256(files), len(paths), read, lambda number: str(paths[number]))


def _dataset(name: str) -> PictureSet:
    """Its revision is the commit on the Hub; elsewhere the fingerprint that `datasets` gives it."""
    import datasets  # no part of what rendering needs

    place, split = name.rsplit("#", 1)
    match = re.fullmatch(r"(?P<path>[^@:]+)(:(?P<config>[^@]+))?(@(?P<revision>.+))?", place)
    if match is None:
        raise PicturesFailed(f"{name!r} names no dataset; expected DATASET[:CONFIG][@REVISION]#SPLIT")
    try:
        builder = datasets.load_dataset_builder(match["path"], match["config"], revision=match["revision"])
        builder.download_and_prepare()
        data = builder.as_dataset(split=split)
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise PicturesFailed(f"dataset {name} cannot be loaded: {error}") from error
    columns = [column for column, feature in data.features.items() if isinstance(feature, datasets.Image)]
    if not columns:
        raise PicturesFailed(f"dataset {name} has no column of images; its columns are {', '.join(data.features)}")
    images = data.select_columns(columns[:1])
    files = [file for some in (builder.config.data_files or {}).values() for file in some]
    return PictureSet(
        name,
        _commit(files) or data._fingerprint,
        len(images),
        lambda number: plain(images[number][columns[0]]),
        lambda number: f"picture {number} of dataset {name}",
    )


def _commit(files: Sequence[str]) -> str | None:
    """The commit that a dataset's files were loaded from; None where they are not on the Hub."""
    found = {match[1] for file in files if (match := re.match(r"hf://datasets/[^@]+@([0-9a-f]{40})/", str(file)))}
    return found.pop() if len(found) == 1 else None


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _ahead(work: Callable[[int], Any], items: Iterable[int], most: int) -> Iterator[Any]:
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
