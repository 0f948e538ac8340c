"""What a caricature is while it is made, and once it is there; for those who show it, and need no PyTorch for that."""

import asyncio
import os
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from microscope_atlas.atlas.reader import Atlas

# offered; the first is quick on a CPU, the second on a GPU
QUALITIES: tuple[Literal["draft", "standard"], ...] = ("draft", "standard")
MAX_LAYERS = 4  # at once: each costs as much again
TABLE = "caricature"

Pixels = NDArray[np.uint8]
T = TypeVar("T")


@dataclass(frozen=True)
class Frame:
    """What there is after some steps."""

    pictures: tuple[Pixels, ...]  # (height, width, 3), one for each layer
    scores: tuple[float, ...]  # how strongly each has what its layer sees in the picture: 1 for a copy
    step: int
    steps: int
    seconds: float  # since the work began
    seconds_left: float  # at the pace so far
    made: tuple[str, ...] = ()  # how each was made, as JSON; of the last frame only


@dataclass(frozen=True)
class Stored:
    """A caricature that the atlas has."""

    file: bytes  # JPEG
    made: dict[str, Any]  # its row, without the image


def stored(atlas: Atlas, name: str, model: str, layer: str) -> Stored | None:
    """The atlas' own caricature of one of the package's pictures; None where it has none."""
    for row in atlas.rows(TABLE, model, layer):
        if row["source"] == name and row["image"] is not None:
            file = atlas.image(TABLE, model, row["image"])
            return Stored(file, {column: value for column, value in row.items() if column != "image"})
    return None


async def awaited(work: Generator[T, None, None]) -> AsyncGenerator[T, None]:
    """The same, but whoever waits for the next may leave at once: the work is closed when that one is made.

    Gradio holds a page's Start button back until its cancelled work has ended, and drops what is clicked meanwhile.
    """
    thread = ThreadPoolExecutor(1)
    try:
        while (each := await asyncio.get_running_loop().run_in_executor(thread, next, work, None)) is not None:
            yield each
    finally:
        thread.submit(work.close)
        thread.shutdown(wait=False)


def zero_gpu() -> bool:
    """Whether this is a Space that borrows a GPU for each call. Others have the package `spaces`, too."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
