"""An atlas' own images, decoded: whoever made the atlas, they are JPEG or PNG, and of a size that lenses make."""

import io
import struct
import zlib

from PIL import Image, ImageOps

from microscope_atlas.errors import AtlasDamaged

# what Pillow's decoders raise, led astray by a damaged file; SyntaxError is their word for a broken PNG
DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, struct.error, zlib.error)
FORMATS = ("JPEG", "PNG")  # no other decoder is tried: some of Pillow's start another program
MAX_PIXELS = 1 << 27  # of an image, 400 MB decoded; the largest sheet, of 21,843 tiles of 64 px, has 90 million


def decoded(file: bytes) -> Image.Image:
    """The image in an encoded file; AtlasDamaged where it is of another format, damaged or too large."""
    try:
        with Image.open(io.BytesIO(file), formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise AtlasDamaged(f"image is too large: {opened.width} x {opened.height} px")
            opened.load()
            return opened
    except DAMAGED as error:
        raise AtlasDamaged(f"image does not decode: {error}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise AtlasDamaged(f"image is too large: {error}") from error


def fitted(image: Image.Image, size: int) -> Image.Image:
    """A picture as a network sees it: the largest square in its middle, at `size` px on a side."""
    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
