"""A list of units as one picture."""

import io
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image

from microscope_atlas.atlas.lists import MOST_UNITS, Entry, UnitList
from microscope_atlas.atlas.reader import Atlas
from microscope_space import figure, letters
from microscope_space.figure import COLUMN, GAP, MARGIN
from microscope_space.letters import legible, wrapped
from tests.atlases import MODEL
from tests.space.test_documents import plain
from tests.space.test_pages import Elements

A, B, LOST = f"{MODEL}/blocks_4/2", f"{MODEL}/blocks_6/1", f"{MODEL}/blocks_4/400"


def drawn(atlas: Atlas, *keys: str, title: str = "Wheels") -> Image.Image:
    content = figure.figure(atlas, UnitList(title, tuple(Entry(key, f"{key} is one") for key in keys)))
    return Image.open(io.BytesIO(content)).convert("RGB")


def column(image: Image.Image, at: int) -> np.ndarray:
    """The large picture of a unit, where no line of the title is longer than one."""
    left, top = MARGIN + at * (COLUMN + GAP), MARGIN + round(figure.TITLE * 1.35) + GAP
    return np.asarray(image.crop((left, top, left + COLUMN, top + COLUMN)), dtype=float)


def test_pictures_of_the_units_stand_side_by_side(known: Atlas) -> None:
    image = drawn(known, A, LOST, B)
    for at, unit in ((0, ("blocks_4", 2)), (2, ("blocks_6", 1))):
        row = next(r for r in known.rows("feature_visualization", MODEL, *unit) if r["image"] and r["direction"] > 0)
        made = Image.open(io.BytesIO(known.image("feature_visualization", MODEL, row["image"]))).convert("RGB")
        assert np.abs(column(image, at) - np.asarray(made.resize((COLUMN, COLUMN)), dtype=float)).mean() < 12
    assert np.abs(column(image, 1) - 0xEF).max() < 8  # of the unit that is not there: grey


def test_a_list_gives_the_same_bytes_and_another_title_others(known: Atlas) -> None:
    assert drawn(known, A, B).tobytes() == drawn(known, A, B).tobytes()
    assert drawn(known, A, B, title="Windows").tobytes() != drawn(known, A, B).tobytes()


def test_more_than_four_units_take_more_rows_and_none_is_left_out(known: Atlas) -> None:
    sizes = [drawn(known, *(f"{MODEL}/blocks_4/{unit}" for unit in range(number))).size for number in (1, 4, 5, 9)]
    assert sizes[0][0] == 2 * (MARGIN + COLUMN) + GAP
    assert len({width for width, _ in sizes[1:]}) == 1
    assert sizes[1][1] < sizes[2][1] < sizes[3][1]


def test_the_page_of_a_list_leads_to_its_picture(known: Atlas) -> None:
    client = plain(known)
    page = Elements(client.get(f"/?{urlencode({'units': f'{A},{B}', 'title': 'Wheels', 'notes': 'a | b'})}").text)
    (link,) = [str(each["href"]) for each in page.of("a") if "download" in each]
    found = client.get(link)
    assert (found.status_code, found.headers["content-type"]) == (200, "image/jpeg")
    assert "immutable" in found.headers["cache-control"]
    units = UnitList("Wheels", (Entry(A, "a"), Entry(B, "b")))
    assert found.content == figure.figure(known, units)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, 400),
        ({"list": "none"}, 404),
        ({"units": f"{MODEL}/nowhere/1,{MODEL}/stem/99999"}, 404),
        ({"units": "x" * 5000}, 400),
        ({"units": ",".join(f"{MODEL}/stem/{unit}" for unit in range(MOST_UNITS + 1))}, 400),
    ],
)
def test_there_is_no_picture_of_no_list(known: Atlas, asked: dict[str, str], status: int) -> None:
    found = plain(known).get(f"/figure?{urlencode(asked)}")
    assert (found.status_code, found.headers["content-type"].partition(";")[0]) == (status, "text/plain")


def test_lines_keep_to_their_room_and_lose_no_letter() -> None:
    font, words = letters.letters(30), "a wheel of a " + "very" * 40 + " long word"
    lines = list(wrapped(words, font, 300))
    assert all(font.getlength(line) <= 300 for line in lines)
    assert "".join(lines).replace(" ", "") == words.replace(" ", "")
    assert list(wrapped("", font, 300)) == []


def test_what_no_font_shows_becomes_its_base_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "FONTS", ())
    assert legible("Löwenzahn") == "Lowenzahn"
    assert legible("\u72d0") == "\u72d0"
    assert legible("wheel") == "wheel"


def test_a_font_that_has_the_letters_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    own = letters.letters(30)
    assert letters.letters(30, "wheel") is own
    assert not letters.shows(own, "ö")
    monkeypatch.setattr(letters, "_font", lambda name, size: own if not name else f"{name} {size}")
    monkeypatch.setattr(letters, "shows", lambda font, words: font == f"{letters.FONTS[1]} 30")
    assert letters.letters(30, "ö") == f"{letters.FONTS[1]} 30"
