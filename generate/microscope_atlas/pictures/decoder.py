"""The one decoder for every door: pictures of a set, a visitor's upload, and an atlas' own images.

Whatever a file holds, what comes out is what a person would be shown: RGB of eight bits, upright, of moving and paged
pictures the first, white where it is transparent. So what is hidden under transparency reaches neither a network nor
a row.
"""

import io
import struct
import zlib
from functools import cache
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, ImageCms, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from microscope_atlas.errors import AtlasDamaged

# what Pillow's decoders raise, led astray by a damaged file; SyntaxError is their word for a broken PNG
DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, KeyError, struct.error, zlib.error)
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)

# what Pillow may try, whatever a file's ending: in wide use for photographs, and none starts another program
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
JPEG = b"\xff\xd8\xff"  # that such a file begins with
STORED = ("JPEG", "PNG")  # of which an atlas' own images are
MAX_PIXELS = 1 << 27  # of an image, 400 MB decoded; the largest sheet, of 21,843 tiles of 64 px, has 90 million


class TooManyPixels(ValueError):
    """A picture whose header says that it has more pixels than may be decoded."""


def picture(file: BinaryIO, max_pixels: int, enough: int | None = None) -> Image.Image:
    """The picture in a file, RGB, upright, over white, without metadata.

    The file is an open one: given a path, Pillow maps some TIFFs into memory, and then does not turn them upright.

    TooManyPixels by what the header says, before anything is decoded; one of DAMAGED or BOMBS where the file is no
    picture, or not all of one. A JPEG with more than twice `enough` px on both sides may be decoded at a fraction of
    its size, and it is that which is counted, unless it is progressive.
    """
    with _opened(file, enough) as opened:
        whole = bool(opened.info.get("progressive"))  # whose coefficients are all held at once
        if enough is not None and not whole:
            opened.draft("RGB", (2 * enough, 2 * enough))
        if opened.width * opened.height > max_pixels:
            raise TooManyPixels(f"it has {opened.width} x {opened.height} pixels, at most {max_pixels:,} are read")
        if enough is not None and whole:
            opened.draft("RGB", (2 * enough, 2 * enough))
        opened.load()
        return plain(opened)


def _opened(file: BinaryIO, enough: int | None) -> Image.Image:
    """The file, of which the header is read; of a JPEG that may be decoded in part, whatever its size."""
    begins = file.read(len(JPEG))
    file.seek(0)
    if enough is not None and begins == JPEG:  # by its own class, which does not refuse by the size of the whole
        try:
            return JpegImageFile(file)
        except SyntaxError:
            file.seek(0)  # it is told by Image.open what it is not
    return Image.open(file, formats=readable())


@cache
def readable() -> tuple[str, ...]:
    """Those of `FORMATS` that Pillow has a decoder for here: AVIF is not in all builds."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def plain(image: Image.Image) -> Image.Image:
    """A decoded picture of any mode as RGB of eight bits, upright, over white, without metadata."""
    shown = over_white(ImageOps.exif_transpose(image))
    bare = Image.new("RGB", shown.size)
    bare.paste(shown)
    return bare


def over_white(image: Image.Image) -> Image.Image:
    """RGB of eight bits, white where the picture is transparent."""
    if _is_deep(image):
        eight, opacity = _of_eight_bits(image)
        shown = eight.convert("RGB")
    elif image.has_transparency_data:
        clear = image.convert("RGBA")
        shown, opacity = clear.convert("RGB"), clear.getchannel("A")
    else:
        return _from_lab(image) if image.mode == "LAB" else image.convert("RGB")
    if opacity is None:
        return shown
    white = Image.new("RGB", shown.size, "white")
    white.paste(shown, mask=opacity)
    return white


def _is_deep(image: Image.Image) -> bool:
    """Whether values have more than eight bits: `I`, `F`, and 16 bits in either byte order, `I;16`, `I;16B`."""
    return image.mode.startswith(("I", "F"))


def _of_eight_bits(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Gray values of eight bits, and where one value stands for transparent, the opacity.

    65,535 is white; Pillow cuts off what is above 255 instead. Floats, and values outside 16 bits, have no agreed
    range: the least is black and the largest white.
    """
    stored = np.asarray(image)
    values = np.nan_to_num(stored.astype(np.float64), posinf=0.0, neginf=0.0)
    clear = image.info.get("transparency")
    opacity = Image.fromarray(np.where(stored == clear, 0, 255).astype(np.uint8)) if isinstance(clear, int) else None
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        low, high = values.min(), values.max()
        values = (values - low) * (65535 / (high - low)) if high > low else np.zeros_like(values)
    return Image.fromarray((values / 257).round().astype(np.uint8)), opacity


def _from_lab(image: Image.Image) -> Image.Image:
    """CIE Lab, which Pillow itself does not convert, as sRGB."""
    shown = ImageCms.applyTransform(image, _lab_to_srgb())
    assert shown is not None  # it is where nothing is changed in place
    return shown


@cache
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


def decoded(file: bytes) -> Image.Image:
    """An atlas' own image in an encoded file; AtlasDamaged where it is of another format, damaged or too large."""
    if found := _plain_jpeg(file):
        return found
    try:
        with Image.open(io.BytesIO(file), formats=STORED) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise AtlasDamaged(f"image is too large: {opened.width} x {opened.height} px")
            opened.load()
            return opened
    except DAMAGED as error:
        raise AtlasDamaged(f"image does not decode: {error}") from error
    except BOMBS as error:
        raise AtlasDamaged(f"image is too large: {error}") from error


def coarse(file: bytes) -> Image.Image:
    """As `decoded`, but a JPEG as rows are written with at an eighth of its size: a pixel is about the mean of 64.

    All of the file is read, so this one is damaged where that one is.
    """
    return _plain_jpeg(file, scale=8) or decoded(file)


SOF0, SOS = 0xC0, 0xDA  # markers of a JPEG: the head of a baseline one, and what its coefficients begin with


def _plain_jpeg(file: bytes, scale: Literal[1, 2, 4, 8] = 1) -> Image.Image | None:
    """The image in a baseline JPEG of three colours, as those are that rows are written with, made `scale` smaller.

    Straight from Pillow's decoder: what Image.open looks for beside takes longer than to decode a small one. None of
    every other file, and of what does not decode, which is then told by Image.open.
    """
    at = 2
    while file[:2] == JPEG[:2] and file[at : at + 1] == b"\xff" and len(file) > at + 9 and file[at + 1] != SOS:
        if file[at + 1] == SOF0 and file[at + 4] == 8 and file[at + 9] == 3:
            height, width = int.from_bytes(file[at + 5 : at + 7]), int.from_bytes(file[at + 7 : at + 9])
            if not 0 < height * width <= MAX_PIXELS:
                return None
            try:
                size = -(-width // scale), -(-height // scale)
                return Image.frombytes("RGB", size, file, "jpeg", "RGB", "", scale, 0)
            except DAMAGED:
                return None
        at += 2 + int.from_bytes(file[at + 2 : at + 4])
    return None


def fitted(image: Image.Image, size: int) -> Image.Image:
    """A picture as a network sees it: the largest square in its middle, at `size` px on a side."""
    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
