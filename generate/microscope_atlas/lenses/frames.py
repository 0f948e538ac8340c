"""What lenses that render pictures share: a picture in, and bytes and flags out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from microscope_atlas.lenses.lens import Row
from microscope_atlas.pictures.decoder import fitted
from microscope_atlas.pictures.sources import source
from microscope_atlas.rendering.ascend import Frame
from microscope_atlas.rendering.views import Views

FLAT = 2 / 255  # standard deviation of all values, below which a picture is flat

# Views of pictures whose arrangement shall stay: half as far as those that a single unit is shown by
GENTLE = Views(rotate_degrees=5.0, scale=0.05, shift=8.0)


def square(image: Image.Image, size: int) -> Tensor:
    """The middle square of a picture at `size` px on a side: (3, size, size), RGB in [0, 1]."""
    return torch.from_numpy(np.array(fitted(image.convert("RGB"), size))).permute(2, 0, 1) / 255


def squares(names: Sequence[str], size: int) -> Tensor:
    """Of the pictures `names` that come with the package: (pictures, 3, size, size), RGB in [0, 1]."""
    return torch.stack([square(source(name), size) for name in names])


def fill_rows(rows: Sequence[Row], frame: Frame, zero_is_dead: bool, recipe: Mapping[str, Any]) -> None:
    """Put into each row how its picture was made, what is wrong with it and, where it is finite, it and its scores."""
    found = flags(frame, zero_is_dead)
    for row, flag, picture, score in zip(rows, found, frame.pictures, frame.scores.tolist(), strict=True):
        finite = flag != "nan"
        row.update(recipe=recipe, flag=flag, image=pixels(picture) if finite else None, score=score if finite else None)
    if frame.robust is not None:
        for row, score in zip(rows, frame.robust.tolist(), strict=True):
            row["robust_score"] = score if row["flag"] != "nan" and math.isfinite(score) else None


def flags(frame: Frame, zero_is_dead: bool) -> list[str | None]:
    """What is wrong with each picture of a frame, if anything."""
    deviation = frame.pictures.flatten(1).std(1)
    finite = frame.pictures.flatten(1).isfinite().all(1) & frame.scores.isfinite()
    return [
        "nan" if not ok else "flat" if std < FLAT else "dead" if zero_is_dead and score == 0 else None
        for ok, std, score in zip(finite.tolist(), deviation.tolist(), frame.scores.tolist(), strict=True)
    ]


def pixels(picture: Tensor) -> Tensor:
    """(channels, height, width) in [0, 1] -> (height, width, channels) bytes; of one channel, or none, two axes."""
    values = (picture * 255).round().byte()
    values = values[0] if values.shape[0] == 1 and values.dim() == 3 else values
    return (values.permute(1, 2, 0) if values.dim() == 3 else values).contiguous().cpu()
