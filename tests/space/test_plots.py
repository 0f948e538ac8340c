"""Drawings, read back."""

import base64
import io
import re

import numpy as np
from PIL import Image

from microscope_space.html import plots

ROW = {
    "family": "colours",
    "x_axis": "hue_degrees",
    "y_axis": "lightness",
    "x_values": [0.0, 90.0, 180.0, 270.0],
    "y_values": [0.25, 0.75],
    "responses": [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 8.0]],
    "preferred_x": 270.0,
    "preferred_y": 0.75,
}


def cells(drawn: str) -> np.ndarray:
    """The colours of a heat map, (lines, columns, 4)."""
    (content,) = re.findall(r'<image href="data:image/png;base64,([^"]*)" width="240" height="120"', drawn)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_heat_map_goes_from_dark_to_bright_and_rings_the_peak() -> None:
    drawn = plots.heat(ROW)
    found = cells(drawn)
    assert found.shape == (2, 4, 4)
    assert found[0, 0].tolist() == [0x44, 0x01, 0x54, 255]
    assert found[1, 3].tolist() == [0xFD, 0xE7, 0x25, 255]
    assert found[1, 0].tolist() == [33, 145, 140, 255]  # halfway
    assert set(re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn)) == {("210.0", "90.0")}
    assert "hue, degrees" in drawn


def test_peak_between_cells_is_ringed_there() -> None:
    drawn = plots.heat({**ROW, "preferred_x": 45.0, "preferred_y": 0.5})
    assert set(re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn)) == {("60.0", "60.0")}


def test_peak_without_a_side_is_told_and_not_ringed() -> None:
    drawn = plots.heat({**ROW, "preferred_x": None})
    assert "peak at any, " in drawn and "<circle" not in drawn


def test_responses_that_are_not_finite_are_left_out() -> None:
    lines = [[float("nan"), 1.0, 2.0, 3.0], [4.0, 5.0, float("inf"), 8.0]]
    drawn = plots.heat({**ROW, "responses": lines, "preferred_x": None})
    assert (cells(drawn)[..., 3] > 0).tolist() == [[False, True, True, True], [True, True, False, True]]
    assert "<circle" not in drawn
    assert "No response is finite" in plots.heat({**ROW, "responses": [[float("nan")]]})


def test_flat_responses_are_drawn() -> None:
    assert (cells(plots.heat({**ROW, "responses": [[1.0] * 4] * 2})) == [0x44, 0x01, 0x54, 255]).all()


def test_kernel_is_red_where_it_excites_and_blue_where_it_inhibits() -> None:
    weights = [[0.0] * 5 for _ in range(5)]
    weights[0][4], weights[3][1], weights[2][2] = 2.0, -2.0, 0.5
    drawn = plots.kernel({"kernel": weights, "weight": 0.5, "norm": 3.0, "extent": 7}, 2.0)
    found = re.findall(r'<rect x="(\d)" y="(\d)".*?fill="(#\w+)" fill-opacity="([\d.]+)"', drawn)
    assert {(x, y): (fill, alpha) for x, y, fill, alpha in found} == {
        ("4", "0"): ("#b2182b", "1.00"),
        ("1", "3"): ("#2166ac", "1.00"),
        ("2", "2"): ("#b2182b", "0.50"),
    }
    assert "middle 5 of 7" in drawn


def test_histogram_counts_every_value() -> None:
    drawn = plots.histogram([0.0, 0.0, 0.0, 1.0])
    assert re.findall(r'height="([\d.]+)"', drawn) == ["120.00", "40.00"]
    assert plots.histogram([2.0, 2.0]).count("<rect") == 1
    assert "No response" in plots.histogram([])


def test_crop_is_framed_unless_it_is_the_whole_picture() -> None:
    assert 'x="10" y="20" width="50" height="60"' in plots.crop((10, 20, 60, 80), 224)
    nearly = (0, 8, 224, 224)
    for sides, size in (((0, 0, 224, 224), 224), (nearly, 224), ((None,) * 4, 224), ((1, 2, 3, 4), None)):
        assert not plots.crop(sides, size)


def test_curve_runs_along_the_line_of_the_peak() -> None:
    drawn = plots.curve(ROW)
    (points,) = re.findall(r'points="([^"]*)"', drawn)
    heights = [float(point.partition(",")[2]) for point in points.split()]
    assert heights == [30.0, 22.5, 15.0, 0.0]  # 4, 5, 6 and 8 of 8
    assert "from 4 to 8" in drawn
    for other in ({"preferred_y": None}, {"responses": [[float("nan")] * 4] * 2}, {"y_values": []}):
        assert not plots.curve({**ROW, **other})
