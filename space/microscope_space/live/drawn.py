"""What is drawn on a visitor's picture: where something is active, a frame, and masks of groups."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from microscope_space.live.excited import Map, Pixels

TILE = 136  # px on a side of a picture with its place marked, as it is shown; it has twice as many
LARGE = 224  # the same of one that stands alone
FAINT = 0.35  # contrast of the picture where nothing is active
MARK = "#d9480f"
# of groups: told apart by whoever sees colours otherwise; Okabe and Ito 2008, https://jfly.uni-koeln.de/color
COLOURS = ("#e69f00", "#0072b2", "#009e73", "#cc79a7", "#f0e442")
COVER = 0.6  # opacity of a mask where its group is strongest
GREY = 0.8  # contrast of the picture below masks
LEAST = 0.15  # of a group's activity over the strongest of any: less of it is no part of its mask


def shaded(picture: Pixels, active: Map) -> Image.Image:
    """The picture (size, size, 3) in colour where `active`, (size, size), is 1; grey and faint where it is 0."""
    heat = active[:, :, None]
    return _enlarged(picture * heat + _faint(picture) * (1 - heat))


def framed(image: Image.Image, box: Sequence[int], size: int) -> Image.Image:
    """The same with a frame around left, top, right and bottom, px of a picture of `size` px."""
    scale = image.width / size
    left, top, right, bottom = (each * scale for each in box)
    ImageDraw.Draw(image).rectangle([left, top, right - 1, bottom - 1], outline=MARK, width=4)
    return image


def masks(picture: Pixels, active: Sequence[Map]) -> Image.Image:
    """The picture with each group's colour where it is the most active one, bordered, and its number where most so.

    `active` are (size, size), 0 to 1, a group each.
    """
    stack = np.stack(active)
    most, strength = stack.argmax(0), stack.max(0)
    colours = np.array([_rgb(COLOURS[each]) for each in range(len(active))], np.float32)[most]
    cover = (COVER * np.sqrt(strength) * (strength >= LEAST))[:, :, None]
    blended = colours * cover + _faint(picture, GREY) * (1 - cover)
    border = np.zeros(most.shape, bool)
    border[:, 1:] |= most[:, 1:] != most[:, :-1]
    border[1:] |= most[1:] != most[:-1]
    blended[border] = 255
    image = _enlarged(blended)
    scale = image.width / len(picture)
    for number, own in enumerate(active, 1):
        row, column = np.unravel_index(np.where(most == number - 1, own, -1).argmax(), own.shape)
        _numbered(image, number, (float(column) + 0.5) * scale, (float(row) + 0.5) * scale)
    return image


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    """(height, width, 3)."""
    return np.asarray(image)


def _numbered(image: Image.Image, number: int, x: float, y: float) -> None:
    """A number in a white disc, wholly within the picture."""
    radius = image.width / 22
    x, y = (min(max(each, radius + 2), image.width - radius - 3) for each in (x, y))
    draw = ImageDraw.Draw(image)
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill="white", outline="black", width=2)
    draw.text((x, y), str(number), fill="black", font=ImageFont.load_default(radius * 1.4), anchor="mm")


def _faint(picture: Pixels, contrast: float = FAINT) -> NDArray[np.float64]:
    faint: NDArray[np.float64] = 255 - (255 - picture.mean(2, keepdims=True)) * contrast
    return faint


def _enlarged(values: NDArray[Any]) -> Image.Image:
    image = Image.fromarray(values.round().astype(np.uint8))
    return image.resize((TILE * 2, TILE * 2), Image.Resampling.BICUBIC)


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))
