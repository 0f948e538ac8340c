"""Every door reads a picture the same way: pictures of a set and a visitor's upload have the same pixels."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from microscope_atlas.pictures.decoder import coarse, decoded, plain
from microscope_atlas.pictures.sets import picture_set
from microscope_space.live import uploads

# formats that keep a mode as it is; of the others, files that do exist in the world
KINDS = {
    "1": ("PNG", "TIFF", "BMP", "PPM", "GIF"),
    "L": ("PNG", "TIFF", "BMP", "PPM", "GIF", "JPEG"),
    "LA": ("PNG", "TIFF"),
    "P": ("PNG", "TIFF", "BMP", "GIF"),
    "PA": ("TIFF",),
    "RGB": ("PNG", "TIFF", "BMP", "PPM", "JPEG", "WEBP"),
    "RGBA": ("PNG", "TIFF", "WEBP", "GIF"),
    "RGBX": ("TIFF",),
    "CMYK": ("TIFF", "JPEG"),
    "YCbCr": ("TIFF", "JPEG"),
    "LAB": ("TIFF",),
    "I": ("TIFF", "PPM"),
    "I;16": ("PNG", "TIFF"),
    "I;16B": ("PNG", "TIFF"),
    "F": ("TIFF", "PPM"),
}
KEPT = {mode: [kind for kind in kinds if kind not in ("JPEG", "WEBP", "GIF")] for mode, kinds in KINDS.items()}


def random_picture(mode: str, width: int, height: int, seed: int) -> Image.Image:
    """Noise of any mode; opacity, where there is any, from 0 to 255; a palette with a transparent entry."""
    stream = np.random.default_rng(seed)
    if mode == "1":
        return Image.fromarray(stream.integers(0, 2, (height, width), np.uint8) * 255).convert("1")
    if mode == "I":
        return Image.fromarray(stream.integers(0, 65536, (height, width), np.int32))
    if mode == "F":
        return Image.fromarray(stream.normal(size=(height, width)).astype(np.float32))
    if mode.startswith("I;16"):
        values = stream.integers(0, 65536, (height, width)).astype(">u2" if mode == "I;16B" else "<u2")
        return Image.frombytes(mode, (width, height), values.tobytes())
    image = Image.frombytes(
        mode, (width, height), stream.bytes(width * height * len(Image.new(mode, (1, 1)).tobytes()))
    )
    if mode in ("P", "PA"):
        image.putpalette(stream.bytes(768))
    return image


def saved(image: Image.Image, kind: str, **more: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def from_folder(folder: Path, file: bytes) -> np.ndarray:
    (folder / "picture.png").write_bytes(file)  # what it is, its content says
    return np.asarray(picture_set(str(folder))[0])


@pytest.mark.filterwarnings("ignore:Saving I mode:DeprecationWarning")
@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_both_doors_give_the_same_pixels(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    mode = data.draw(st.sampled_from(sorted(KINDS)))
    width, height = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    image = random_picture(mode, width, height, data.draw(st.integers(0, 2**32 - 1)))
    kind, more = data.draw(st.sampled_from(KINDS[mode])), dict[str, Any]()
    if kind in ("JPEG", "PNG", "TIFF", "WEBP"):
        more["exif"] = Image.Exif()
        more["exif"][0x0112] = data.draw(st.integers(1, 8))
    if kind == "PNG" and mode == "P" and data.draw(st.booleans()):
        more["transparency"] = data.draw(st.integers(0, 255))
    if kind in ("GIF", "TIFF") and mode in ("1", "L", "P", "RGB") and data.draw(st.booleans()):
        more |= {"save_all": True, "append_images": [random_picture(mode, width, height, 7)]}
    if (mode, kind) == ("YCbCr", "TIFF"):
        more["compression"] = "jpeg"  # Pillow cannot read its own without
    file = saved(image, kind, **more)
    shown = np.asarray(uploads.picture(file))
    assert shown.shape[2:] == (3,) and sorted(shown.shape[:2]) == sorted((height, width))
    assert np.array_equal(from_folder(tmp_path_factory.mktemp("door"), file), shown), (mode, kind, more)


@pytest.mark.parametrize("mode", KINDS)
def test_a_file_keeps_what_its_mode_means(tmp_path: Path, mode: str) -> None:
    """Not only the same through both doors, but right: what the picture in memory shows, by its own mode."""
    image = random_picture(mode, 9, 7, 3)
    for kind in KEPT[mode]:
        if mode == "F" or (mode, kind) == ("YCbCr", "TIFF"):
            continue  # no range is agreed on; not kept as it is
        difference = np.abs(from_folder(tmp_path, saved(image, kind)).astype(int) - np.asarray(plain(image)))
        assert difference.max() <= 1, kind


def of_values(values: Any, dtype: str, mode: str) -> bytes:
    array = np.asarray(values, dtype)
    return saved(Image.frombytes(mode, array.shape[::-1], array.tobytes()), "TIFF")


RAMP = np.arange(256).reshape(16, 16)


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(of_values(RAMP * 257, "<u2", "I;16"), id="little"),
        pytest.param(of_values(RAMP * 257, ">u2", "I;16B"), id="big"),
        pytest.param(of_values(RAMP * 257, "<i4", "I"), id="32 bits"),
        pytest.param(of_values(RAMP - 99.5, "<f4", "F"), id="floats"),
        pytest.param(saved(Image.fromarray((RAMP * 257).astype(np.uint16)), "PNG"), id="PNG"),
        pytest.param(b"P5 16 16 65535\n" + (RAMP * 257).astype(">u2").tobytes(), id="PGM"),
        pytest.param(saved(Image.fromarray(RAMP.astype(np.uint8)), "PNG"), id="eight bits"),
    ],
)
def test_gray_of_any_depth_runs_from_black_to_white(tmp_path: Path, file: bytes) -> None:
    for channel in np.moveaxis(from_folder(tmp_path, file), 2, 0):
        assert np.array_equal(channel, RAMP)


@pytest.mark.parametrize("hidden", [0, 255])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda v: (Image.new("RGBA", (4, 4), (v, v, v, 0)), {}), id="RGBA"),
        pytest.param(lambda v: (Image.new("LA", (4, 4), (v, 0)), {}), id="LA"),
        pytest.param(lambda v: (Image.new("L", (4, 4), v), {"transparency": v}), id="L with a key"),
        pytest.param(lambda v: (Image.new("RGB", (4, 4), (v, 9, 9)), {"transparency": (v, 9, 9)}), id="RGB with a key"),
        pytest.param(
            lambda v: (Image.fromarray(np.full((4, 4), v, np.uint16)), {"transparency": v}), id="16 bits with a key"
        ),
    ],
)
def test_what_is_hidden_is_white(tmp_path: Path, make: Callable[[int], Any], hidden: int) -> None:
    image, more = make(hidden)
    assert (from_folder(tmp_path, saved(image, "PNG", **more)) == 255).all()


def test_lab_is_shown_in_its_colours(tmp_path: Path) -> None:
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    for colour in ((200, 60, 40), (30, 120, 70), (128, 128, 128)):
        lab = ImageCms.applyTransform(Image.new("RGB", (4, 4), colour), to_lab)
        assert lab is not None
        assert np.abs(from_folder(tmp_path, saved(lab, "TIFF"))[0, 0].astype(int) - colour).max() <= 3


def test_column_of_a_dataset_is_read_as_a_folder_is(tmp_path: Path) -> None:
    """`datasets` would decode pictures in its own way: turned, but with more bits and what is hidden."""
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [
        saved(random_picture("I;16", 9, 5, 1), "PNG", exif=exif),
        saved(random_picture("RGBA", 9, 5, 2), "PNG"),
        saved(random_picture("LAB", 9, 5, 3), "TIFF"),
    ]
    features = Features({"photo": ImageFeature()})
    rows = Dataset.from_dict({"photo": [{"bytes": file, "path": None} for file in files]}, features=features)
    (tmp_path / "rows").mkdir()
    rows.to_parquet(tmp_path / "rows" / "train.parquet")
    found = picture_set(f"{tmp_path / 'rows'}#train")
    for number, file in enumerate(files):
        (tmp_path / f"{number}").mkdir()
        assert np.array_equal(np.asarray(found[number]), from_folder(tmp_path / f"{number}", file))


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("size", [(32, 32), (37, 20), (1, 1)])
def test_coarse_image_has_the_means_of_blocks(size: tuple[int, int], subsampling: int) -> None:
    colours = np.random.default_rng(0).integers(60, 200, (3, 5, 3), np.uint8)
    image = Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90, subsampling=subsampling)
    small, whole = coarse(file.getvalue()), np.asarray(decoded(file.getvalue()), float)
    assert small.size == tuple(-(-side // 8) for side in size)
    for y in range(size[1] // 8):
        for x in range(size[0] // 8):
            mean = whole[8 * y : 8 * y + 8, 8 * x : 8 * x + 8].mean((0, 1))
            np.testing.assert_allclose(np.asarray(small)[y, x], mean, atol=6)


def test_coarse_image_of_another_kind_is_the_whole() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8))
    for kind, more in (("PNG", {}), ("JPEG", {"progressive": True})):
        file = io.BytesIO()
        image.save(file, kind, **more)
        assert coarse(file.getvalue()) == decoded(file.getvalue())
