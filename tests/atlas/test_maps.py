import io
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from microscope_atlas.atlas import maps
from microscope_atlas.errors import AtlasUnwritable, UnknownName

COLOURS = {0: "#ff0000", 1: "#00ff00", 2: "#0000ff"}  # of the cells of each zoom


def cell(zoom: int, row: int, column: int, grid: int) -> dict[str, Any]:
    file = io.BytesIO()
    Image.new("RGB", (80, 80), COLOURS[zoom]).save(file, "PNG")
    return {"zoom": zoom, "row": row, "column": column, "grid": grid, "image": {"bytes": file.getvalue(), "path": None}}


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    """Three zooms, of 2, 4 and 7 cells along a side; the last of each is empty, and one failed."""
    made = [
        cell(zoom, at // grid, at % grid, grid) for zoom, grid in ((0, 2), (1, 4), (2, 7)) for at in range(grid**2 - 1)
    ]
    made[-1]["image"] = None
    return made


def opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        picture.load()
    return picture


def colour(picture: Image.Image, x: float, y: float) -> str:
    """The nearest of the zooms' colours, or white."""
    pixel = picture.getpixel((int(x * picture.width), int(y * picture.height)))
    assert isinstance(pixel, tuple)
    return "#" + "".join(f"{255 * (value > 127):02x}" for value in pixel)


def test_cells_stand_where_they_are_and_nothing_where_none_is(cells: list[dict[str, Any]]) -> None:
    picture = maps.drawn(cells, 0, 100)
    assert [colour(picture, x, y) for x, y in ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75))] == [COLOURS[0]] * 3
    assert colour(picture, 0.75, 0.75) == "#ffffff"
    assert colour(maps.drawn(cells, 2, 560), 5.5 / 7, 6.5 / 7) == "#ffffff"  # the one that failed
    assert maps.size(cells) == 560


def test_cells_adjoin_however_sizes_divide(cells: list[dict[str, Any]]) -> None:
    picture = maps.drawn(cells, 2, 101).crop((0, 0, 101, 80))
    assert picture.getcolors() == [(101 * 80, (0, 0, 255))]


def test_levels_of_the_pyramid_show_the_finest_cells_that_can_be_seen(
    cells: list[dict[str, Any]], tmp_path: Path
) -> None:
    maps.write(cells, tmp_path / "out", "layer")
    files = tmp_path / "out" / "layer_files"
    levels = sorted(int(path.name) for path in files.iterdir())
    assert levels == list(range(11))  # 1 px to 560
    last = opened(files / "10" / "0_0.jpg")
    assert (colour(last, 0.5, 0.5), last.size) == (COLOURS[2], (255, 255))
    assert sorted(path.name for path in (files / "10").iterdir()) == sorted(
        f"{x}_{y}.jpg" for x in range(3) for y in range(3)
    )
    assert opened(files / "10" / "1_1.jpg").size == (256, 256)
    assert opened(files / "10" / "2_2.jpg").size == (53, 53)
    assert colour(opened(files / "9" / "0_0.jpg"), 0.1, 0.1) == COLOURS[1]  # 280 px: 70 a cell
    assert colour(opened(files / "8" / "0_0.jpg"), 0.1, 0.1) == COLOURS[0]
    assert opened(files / "0" / "0_0.jpg").size == (1, 1)


def test_deep_zoom_says_how_large_it_is(cells: list[dict[str, Any]], tmp_path: Path) -> None:
    whole = maps.write(cells, tmp_path, "layer")
    image = ET.fromstring((tmp_path / "layer.dzi").read_text())
    assert image.attrib == {"Format": "jpg", "Overlap": "1", "TileSize": "254"}
    assert image[0].attrib == {"Width": "560", "Height": "560"}
    assert opened(whole).size == (560, 560)


def test_nothing_is_overwritten(cells: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "layer.dzi").write_text("mine")
    with pytest.raises(AtlasUnwritable, match=r"layer\.dzi is there already; name another folder"):
        maps.write(cells, tmp_path, "layer")
    assert [path.name for path in tmp_path.iterdir()] == ["layer.dzi"]


def test_folder_that_cannot_be_written_is_told(cells: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AtlasUnwritable, match="cannot be written"):
        maps.write(cells, tmp_path / "file" / "out", "layer")


def test_zoom_that_is_not_there_is_told_with_those_that_are(cells: list[dict[str, Any]]) -> None:
    with pytest.raises(UnknownName, match="zoom 3 is not in the map; it has 0, 1, 2"):
        maps.drawn(cells, 3, 100)
