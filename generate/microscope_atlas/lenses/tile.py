"""Tiles: stored pictures, small and square."""

import io

from PIL import Image, ImageOps

from microscope_atlas.pictures.decoder import decoded


def tile(file: bytes, size: int) -> Image.Image:
    """The middle of an encoded picture, `size` px on a side, RGB; what is transparent shows white.

    Shrunk with Lanczos' filter, which keeps fine texture without folding it into patterns that were not there.
    """
    stored = decoded(file)
    picture = stored.convert("RGBA" if stored.has_transparency_data else "RGB")
    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)


def jpeg(image: Image.Image, quality: int) -> bytes:
    """The encoded image: colour at half resolution, tables fitted to it, coarse first and then finer."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling=2, optimize=True, progressive=True)
    return file.getvalue()
