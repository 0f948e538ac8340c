"""An atlas' own images, decoded: whoever made the atlas, they are JPEG or PNG, and of a size that lenses make."""

import io

from PIL import Image

from generate.errors import AtlasDamaged
from generate.pictures.sets import DAMAGED

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
