"""Odd, hostile and damaged pictures, made by Pillow."""

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from microscope_atlas.errors import PicturesFailed
from microscope_space.live import uploads

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def encoded(image: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def plain(mode: str, colour: Any, size: tuple[int, int] = (8, 6)) -> Image.Image:
    return Image.new(mode, size, colour)


def palette(transparent: bool) -> bytes:
    image = plain("P", 1)
    image.putpalette([0, 0, 255, *RED])
    return encoded(image, transparency=1) if transparent else encoded(image)


def sixteen(value: int) -> Image.Image:
    return Image.fromarray(np.full((6, 8), value, np.uint16))


def moving(kind: str) -> bytes:
    return encoded(plain("RGB", RED), kind, save_all=True, append_images=[plain("RGB", GREEN)], duration=100)


ODD = {
    "one pixel": (encoded(plain("RGB", RED, (1, 1))), RED),
    "a line": (encoded(plain("RGB", RED, (3000, 1))), RED),
    "bilevel": (encoded(plain("1", 1)), WHITE),
    "gray": (encoded(plain("L", 64)), (64, 64, 64)),
    "gray with alpha": (encoded(plain("LA", (0, 0))), WHITE),
    "palette": (palette(transparent=False), RED),
    "palette with a transparent entry": (palette(transparent=True), WHITE),
    "clear": (encoded(plain("RGBA", (*RED, 0))), WHITE),
    "half clear": (encoded(plain("RGBA", (*RED, 128))), (255, 127, 127)),
    "a transparent colour": (encoded(plain("RGB", RED), transparency=RED), WHITE),
    "CMYK": (encoded(plain("CMYK", (0, 255, 255, 0)), "TIFF"), RED),
    "CMYK JPEG": (encoded(plain("CMYK", (0, 255, 255, 0)), "JPEG"), (254, 0, 0)),
    "16 bits": (encoded(sixteen(32896)), (128, 128, 128)),
    "16 bits, dark": (encoded(sixteen(300), "TIFF"), (1, 1, 1)),
    "16 bits with a transparent value": (encoded(sixteen(65535)), WHITE),
    "floats": (encoded(Image.fromarray(np.full((6, 8), 0.5, np.float32)), "TIFF"), (0, 0, 0)),
    "moving GIF": (moving("GIF"), RED),
    "moving PNG": (moving("PNG"), RED),
    "moving WebP": (moving("WEBP"), RED),
    "bitmap": (encoded(plain("RGB", RED), "BMP"), RED),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures_become_plain_ones(name: str) -> None:
    file, colour = ODD[name]
    made = uploads.picture(file)
    assert made.mode == "RGB"
    assert np.abs(np.asarray(made).astype(int) - colour).max() <= 2


def test_floats_are_shown_from_the_least_to_the_largest() -> None:
    ramp = Image.fromarray(np.tile(np.linspace(-3, 1e6, 256, dtype=np.float32), (4, 1)))
    shown = np.asarray(uploads.picture(encoded(ramp, "TIFF")))[0, :, 0]
    assert (shown == np.arange(256)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_metadata_dropped(orientation: int) -> None:
    stored = plain("RGB", WHITE, (60, 30))
    stored.paste(RED, (0, 0, 20, 10))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, "where I live"
    exif.get_ifd(0x8825)[1] = "N"
    file = encoded(stored, "JPEG", exif=exif, quality=95, comment=b"mine")
    made = uploads.picture(file)
    corners = [np.asarray(made)[y, x].tolist()[1] < 100 for y in (2, -3) for x in (2, -3)]
    # the corner that EXIF says the file's first row and column are at
    assert corners.index(True) == {1: 0, 2: 1, 3: 3, 4: 2, 5: 0, 6: 1, 7: 3, 8: 2}[orientation]
    assert made.size == ((60, 30) if orientation < 5 else (30, 60))
    assert not made.info and not made.getexif()
    assert b"where I live" not in encoded(made) and b"mine" not in encoded(made)


def test_large_pictures_are_made_smaller() -> None:
    assert uploads.picture(encoded(plain("RGB", RED, (3000, 1500)), "JPEG")).size == (640, 320)


def header_of(width: int, height: int) -> bytes:
    """A PNG that says how large it is, and holds nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    about = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + about + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(10_000, 5_001), (10_000, 9_000), (100_000, 100_000), (2**31 - 1, 1)])
def test_too_many_pixels_are_refused_by_the_header(size: tuple[int, int]) -> None:
    with pytest.raises(PicturesFailed, match="too many pixels; the limit is 50 million"):
        uploads.picture(header_of(*size))


def test_a_jpeg_of_108_million_pixels_is_read_at_a_fraction_of_its_size() -> None:
    assert uploads.picture(encoded(Image.new("L", (12_000, 9_000), 64), "JPEG")).size == (640, 480)
    progressive = bytearray(encoded(plain("L", 64), "JPEG", progressive=True))
    at = progressive.index(b"\xff\xc2") + 5  # where its header says height and width
    progressive[at : at + 4] = struct.pack(">HH", 9_000, 12_000)
    with pytest.raises(PicturesFailed, match="too many pixels"):  # its coefficients are all held at once
        uploads.picture(bytes(progressive))


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"hevc"])
def test_heic_is_named_and_what_to_do(brand: bytes) -> None:
    with pytest.raises(PicturesFailed, match=r"this picture is HEIC, .* export it as JPEG"):
        uploads.picture(b"\0\0\0\x18ftyp" + brand + bytes(1000))


def test_too_many_bytes_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    file = encoded(plain("RGB", RED)) + bytes(uploads.MAX_BYTES)
    with pytest.raises(PicturesFailed, match="too large; the limit is 40 MB"):
        uploads.picture(file)
    (tmp_path / "large").write_bytes(file)
    with pytest.raises(PicturesFailed, match="too large"):
        uploads.read_and_forget(tmp_path / "large")
    with pytest.raises(PicturesFailed, match="too large"):
        uploads.from_text("A" * 56_000_000)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_truncated_pictures_are_refused(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    file = encoded(noise, kind)
    with pytest.raises(PicturesFailed, match=r"damaged|no picture"):
        uploads.picture(file[: len(file) // 2])


@pytest.mark.parametrize(
    "file",
    [b"", b"no picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"%PDF-1.7\n"],
)
def test_what_is_no_picture_is_refused(file: bytes) -> None:
    with pytest.raises(PicturesFailed, match=r"no picture.*expected JPEG, PNG"):
        uploads.picture(file)


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]), data=st.data())
def test_damaged_pictures_are_read_or_refused(kind: str, data: st.DataObject) -> None:
    file = bytearray(encoded(Image.linear_gradient("L").resize((24, 16)).convert("RGB"), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        made = uploads.picture(bytes(file[: data.draw(st.integers(1, len(file)))]))
    except PicturesFailed as error:
        assert str(error)
    else:
        assert made.mode == "RGB" and 1 <= max(made.size) <= uploads.KEPT


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
    width=st.integers(1, 700),
    height=st.integers(1, 700),
)
def test_any_mode_and_shape_becomes_plain(mode: str, width: int, height: int) -> None:
    made = uploads.picture(encoded(Image.new(mode, (width, height))))
    assert made.mode == "RGB"
    assert made.size == (width, height) or max(made.size) == uploads.KEPT


def test_nothing_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "named by its hash"
    folder.mkdir()
    good, bad = folder / "good.png", tmp_path / "bad.png"
    good.write_bytes(encoded(plain("RGB", RED)))
    bad.write_bytes(b"no picture")
    assert uploads.read_and_forget(good).size == (8, 6)
    (tmp_path / "other").write_bytes(b"")
    with pytest.raises(PicturesFailed):
        uploads.read_and_forget(bad)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    with pytest.raises(PicturesFailed, match="choose it again"):
        uploads.read_and_forget(good)


def test_a_picture_may_come_as_text() -> None:
    text = base64.b64encode(encoded(plain("RGB", RED))).decode()
    assert uploads.from_text(text).getpixel((0, 0)) == RED
    assert uploads.from_text(f"data:image/png;base64,{text}").getpixel((0, 0)) == RED
    for wrong in ("/etc/passwd", "data:image/png;base64,%%%", "https://example.org/a.png", "../../secret", "ä"):
        with pytest.raises(PicturesFailed):
            uploads.from_text(wrong)
