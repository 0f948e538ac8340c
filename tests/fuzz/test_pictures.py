"""Hostile pictures: a visitor's uploads, the files of `--pictures`, and what an atlas says are its images."""

import base64
import io
import struct
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from microscope_atlas.errors import AtlasDamaged, PicturesFailed
from microscope_atlas.pictures.decoder import FORMATS, coarse, decoded
from microscope_atlas.pictures.sets import picture_set
from microscope_space.live import uploads
from tests.fuzz import cases as generated
from tests.fuzz.limits import reads
from tests.fuzz.mutation import LENGTHS, mutated, survived

ENDINGS = {"JPEG": "jpg", "TIFF": "tif"}


@cache
def files() -> tuple[bytes, ...]:
    """The same picture in every format that is read, and in some of their variants."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 3), np.uint8)
    image, made = Image.fromarray(pixels), []
    for kind, more in (
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("PNG", {"save_all": True, "append_images": [image.rotate(90)]}),
        ("GIF", {"save_all": True, "append_images": [image.rotate(90)]}),
        ("BMP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {}),
        ("WEBP", {}),
        ("PPM", {}),
    ):
        file = io.BytesIO()
        image.save(file, kind, **more)
        made.append(file.getvalue())
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[1] = "N"
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    return (*made, file.getvalue())


def readable(content: bytes, formats: Sequence[str]) -> bool:
    with Image.open(io.BytesIO(content)) as opened:
        return opened.format in formats


def summed(content: bytes, random: Random) -> bytes:
    """A PNG whose chunks' checksums are right again, as often as not, so that damage reaches what decodes them."""
    if not content.startswith(b"\x89PNG") or random.random() < 0.3:
        return content
    out, at = bytearray(content[:8]), 8
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        body = content[at + 4 : at + 8 + length]
        if at + 12 + length > len(content):
            break
        out += content[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(out + content[at:])


@generated.of("uploads")
def test_uploads(tmp_path: Path, cases: int) -> None:
    kinds = list(files())

    def read(path: Path) -> None:
        made = uploads.picture(path.read_bytes())
        assert made.mode == "RGB" and 1 <= max(made.size) <= uploads.KEPT

    assert 0 < survived(read, kinds, tmp_path / "upload", cases, summed) < cases


@generated.of("uploads as text")
def test_uploads_as_text(tmp_path: Path, cases: int) -> None:
    text = b"data:image/png;base64," + base64.b64encode(files()[2])

    def read(path: Path) -> object:
        return uploads.from_text(path.read_bytes().decode("latin-1"))

    assert survived(read, [text], tmp_path / "upload", cases) < cases


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")  # what Pillow thinks of the files
@generated.of("pictures in a folder")
def test_pictures_in_a_folder(tmp_path: Path, cases: int) -> None:
    """Under any ending: what a file is, its content says."""
    found = 0
    for number in range(cases):
        random = Random(f"pictures {number}")
        path = tmp_path / f"picture.{random.choice(('png', 'jpg', 'tif', 'gif', 'ppm', 'webp', 'bmp'))}"
        path.write_bytes(summed(mutated(files(), random), random))
        found += reads(lambda folder: picture_set(str(folder))[0], tmp_path, f"case {number}, left at {path}")
        path.unlink()
    assert 0 < found < cases


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
@generated.of("stored images")
def test_stored_images(tmp_path: Path, cases: int) -> None:
    kinds = [content for content in files() if readable(content, ("JPEG", "PNG"))]

    def read(path: Path) -> None:
        file = path.read_bytes()
        try:
            coarse(file)
        except AtlasDamaged:
            with pytest.raises(AtlasDamaged):
                decoded(file)
            raise
        decoded(file).convert("RGB")

    assert 0 < survived(read, kinds, tmp_path / "image", cases, summed) < cases


def claiming(kind: str, width: int, height: int) -> bytes:
    """A picture of a few bytes that says it has so many pixels."""
    if kind == "PNG":
        about = b"IHDR" + struct.pack(">IIBBBBB", width % 2**32, height % 2**32, 8, 2, 0, 0, 0)
        body = b"IDAT" + zlib.compress(bytes(1000))
        chunks = [
            struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each)) for each in (about, body)
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    if kind == "BMP":
        return struct.pack(
            "<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, width % 2**31, height % 2**31, 1, 24, *[0] * 6
        )
    if kind == "GIF":
        size = struct.pack("<HH", width % 2**16, height % 2**16)
        return b"GIF89a" + size + b"\0\0\0," + bytes(4) + size + b"\0\x08\x01\0\0"
    return b"P6 %d %d 255\n" % (width, height)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "PPM"])
def test_pictures_that_claim_any_size(tmp_path: Path, kind: str) -> None:
    for width in LENGTHS:
        for height in LENGTHS:
            content = claiming(kind, width, height)
            (tmp_path / "picture.png").write_bytes(content)
            for read in (uploads.picture, decoded):
                reads(read, content, f"{read.__name__}: {kind} of {width} x {height}")
            reads(lambda folder: picture_set(str(folder))[0], tmp_path, f"{kind} of {width} x {height}")


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"%PDF-1.4\n"])
def test_no_decoder_that_starts_another_program_is_tried(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "picture.png").write_bytes(content)
    with pytest.raises(PicturesFailed, match="cannot identify"):
        picture_set(str(tmp_path))[0]
    assert not {"EPS", "WMF", "PDF", "MPEG"} & {*FORMATS}
