"""The map of a network's units: parts of it, what is seen of them, and the picture of a part."""

import numpy as np
import pytest

from microscope_atlas.errors import InvalidKey
from microscope_space.network_map import GRID, MOST_ZOOM, Cell, Part, Placed, cells, depth, part_of


def placed(*points: tuple[float, float]) -> Placed:
    """Units at these places, from the left and the top: those of even number of one layer, the others of another."""
    x, y = (np.array(side, float) for side in zip(*points, strict=True))
    number = np.arange(len(points), dtype=np.int32)
    return Placed(["first", "last"], number % 2, number, x, y, 1.0)


def test_cell_shows_the_unit_nearest_to_its_middle_and_says_how_many_there_are() -> None:
    cell = 1 / GRID
    there = placed((0.1 * cell, 0.1 * cell), (0.6 * cell, 0.5 * cell), (0.9 * cell, 0.9 * cell), (0.99, 0.99))
    assert cells(there, Part()) == [Cell(0, 0, "last", 1, 3), Cell(GRID - 1, GRID - 1, "last", 3, 1)]


def test_parts_of_a_zoom_hold_every_unit_once() -> None:
    there = placed(*np.random.default_rng(0).random((500, 2)).tolist())
    for zoom in (0, 1, 3):
        side = range(2**zoom)
        parts = [Part(zoom, row, column) for row in side for column in side]
        assert sum(cell.num_units for part in parts for cell in cells(there, part)) == 500


def test_cell_leads_to_the_part_that_its_units_are_in() -> None:
    there, part, layers = placed((0.3, 0.8), (0.301, 0.801)), Part(), ["first", "last"]
    for _ in range(MOST_ZOOM):
        (cell,) = {cell for cell in cells(there, part) if cell.num_units == 2} or {None}
        if cell is None:
            break
        assert cell.layer in layers
        nearer = part.nearer(cell.row, cell.column)
        assert nearer is not None
        assert nearer.farther == part
        part = nearer
    assert [cell.num_units for cell in cells(there, part)] == [1, 1]


def test_part_is_read_as_it_is_written() -> None:
    assert part_of("2-3-1") == Part(2, 3, 1)
    assert str(Part(2, 3, 1)) == "2-3-1"
    assert Part(MOST_ZOOM, 3, 1).nearer(0, 0) is None
    assert Part().farther is None
    assert Part(1, 0, 1).beside(0, 1) is None
    assert Part(1, 0, 1).beside(1, -1) == Part(1, 1, 0)


@pytest.mark.parametrize("asked", ["", "1", "1-2-0", "0-0-1", "9-0-0", "1--1-0", "a-b-c", "1-0-0 "])
def test_other_words_are_no_part(asked: str) -> None:
    with pytest.raises(InvalidKey, match="is no part of a map"):
        part_of(asked)


def test_colours_go_from_dark_to_bright() -> None:
    layers = ["one", "two", "three"]
    assert [depth(layers, each) for each in layers] == [(68, 1, 84), (33, 145, 140), (253, 231, 37)]
