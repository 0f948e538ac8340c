"""A visitor's picture, made safe: read within limits, upright, RGB, and without anything but its pixels.

Nothing is kept: the file is read, and forgotten.
"""

import base64
import io
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from microscope_atlas.errors import PicturesFailed

MAX_BYTES = 15 << 20  # of a file; a phone's photo has 2 to 12 MB
MAX_PIXELS = 50_000_000  # the largest that phones make; decoded, 150 MB
KEPT = 640  # px on the longer side of what is passed on; as the package's own pictures

# what Pillow may try: formats of photographs, whose decoders are in wide use; none starts another program
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
KNOWN = "JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF"

DATA_URI = re.compile(r"data:[\w.+/-]{0,100};base64,", re.ASCII)


def read_and_forget(path: Path) -> Image.Image:
    """The picture in an uploaded file; the file is deleted, and its folder where that is empty then. See `picture`."""
    try:
        with path.open("rb") as file:
            return picture(file.read(MAX_BYTES + 1))
    except FileNotFoundError as error:  # uploads are named by their content: another visitor's was the same
        raise PicturesFailed("this file is gone before it could be read; choose it again") from error
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # it is named by the picture's hash; not empty where another one has come
            path.parent.rmdir()


def from_text(text: str) -> Image.Image:
    """The picture in a file's base64, bare or as a data URI; see `picture`."""
    if len(text) > MAX_BYTES * 4 // 3 + 200:
        raise PicturesFailed(_too_many_bytes())
    encoded = text[found.end() :] if (found := DATA_URI.match(text)) else text
    try:
        return picture(base64.b64decode(encoded, validate=True))
    except ValueError as error:
        raise PicturesFailed("this is no picture: expected an image file in base64, or its data URI") from error


def picture(file: bytes) -> Image.Image:
    """The picture in a file: RGB, upright, at most `KEPT` px on its longer side, its metadata left behind.

    Of moving pictures the first, over white where it is transparent. PicturesFailed, in words for visitors, where the
    file has too many bytes or pixels, is damaged, or is no picture.
    """
    if len(file) > MAX_BYTES:
        raise PicturesFailed(_too_many_bytes())
    try:
        with Image.open(io.BytesIO(file), formats=_readable()) as opened:
            _refuse_pixels(*opened.size)
            opened.draft("RGB", (2 * KEPT, 2 * KEPT))  # a large JPEG is decoded at a fraction of its size
            opened.load()
            upright = ImageOps.exif_transpose(_of_eight_bits(opened))
            upright.thumbnail((KEPT, KEPT), Image.Resampling.BICUBIC)
            return _only_pixels(_over_white(upright))
    except PicturesFailed:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PicturesFailed(_too_many_pixels()) from error
    except UnidentifiedImageError as error:
        raise PicturesFailed(f"this is no picture that can be read here; expected {KNOWN}") from error
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise PicturesFailed(f"this picture is damaged, or unusual, and cannot be read; expected {KNOWN}") from error


def _readable() -> list[str]:
    """Those of `FORMATS` that Pillow has a decoder for here: AVIF is not in all builds."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _refuse_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PicturesFailed(f"{_too_many_pixels()}; this one has {width} x {height}")


def _too_many_bytes() -> str:
    return f"this file is too large; the limit is {MAX_BYTES >> 20} MB"


def _too_many_pixels() -> str:
    return f"this picture has too many pixels; the limit is {MAX_PIXELS // 1_000_000} million"


def _of_eight_bits(image: Image.Image) -> Image.Image:
    """With values that have 8 bits; Pillow cuts off what is above 255 instead."""
    if not image.mode.startswith(("I", "F")):
        return image.copy()
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:  # no range is agreed on: all of it is shown
        low, high = values.min(), values.max()
        values = (values - low) * (65535 / (high - low)) if high > low else np.zeros_like(values)
    eight = Image.fromarray((values / 257).round().astype(np.uint8))
    eight.info.update(image.info)
    eight.getexif().update(image.getexif())
    return eight


def _over_white(image: Image.Image) -> Image.Image:
    """RGB, white where it was transparent."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    shown = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")


def _only_pixels(image: Image.Image) -> Image.Image:
    """A copy that has no metadata."""
    bare = Image.new("RGB", image.size)
    bare.paste(image)
    return bare
