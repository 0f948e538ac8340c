"""A visitor's picture, made safe: read within limits, upright, RGB, and without anything but its pixels.

Nothing is kept: the file is read, and forgotten.
"""

import base64
import io
import re
from contextlib import suppress
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from microscope_atlas.errors import PicturesFailed
from microscope_atlas.pictures import decoder

MAX_BYTES = 40 << 20  # of a file; a phone's photo has 2 to 12 MB, one of 108 million pixels up to 35
MAX_PIXELS = 50_000_000  # decoded, 150 MB; of a JPEG, which is decoded at a fraction of its size, of that
KEPT = 640  # px on the longer side of what is passed on; as the package's own pictures

KNOWN = "JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF"  # to people; see decoder.FORMATS

HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # what files of phones call themselves

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
    """The picture in a file, as `--pictures` would read it, and then at most `KEPT` px on its longer side.

    PicturesFailed, in words for visitors, where the file has too many bytes or pixels, is damaged, or is no picture.
    """
    if len(file) > MAX_BYTES:
        raise PicturesFailed(_too_many_bytes())
    try:
        read = decoder.picture(io.BytesIO(file), MAX_PIXELS, enough=KEPT)
    except (decoder.TooManyPixels, *decoder.BOMBS) as error:
        raise PicturesFailed(
            f"this picture has too many pixels; the limit is {MAX_PIXELS // 1_000_000} million"
        ) from error
    except UnidentifiedImageError as error:
        if file[4:8] == b"ftyp" and file[8:12] in HEIC:
            raise PicturesFailed("this picture is HEIC, which cannot be read here; export it as JPEG") from error
        raise PicturesFailed(f"this is no picture that can be read here; expected {KNOWN}") from error
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise PicturesFailed(f"this picture is damaged, or unusual, and cannot be read; expected {KNOWN}") from error
    read.thumbnail((KEPT, KEPT), Image.Resampling.BICUBIC)
    return read


def _too_many_bytes() -> str:
    return f"this file is too large; the limit is {MAX_BYTES >> 20} MB"
