"""A list of units as one picture, for papers: the picture of each, its best samples, and what is said of it."""

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont, ImageOps

from microscope_atlas.atlas.lists import Entry, UnitList
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError
from microscope_atlas.keys import Key
from microscope_atlas.pictures.decoder import decoded
from microscope_space.html import text
from microscope_space.letters import legible, letters, wrapped
from microscope_space.pages.glance import best
from microscope_space.pages.lists import Wire, unit_of, wires
from microscope_space.pages.table import Rows
from microscope_space.pages.unit import main_image

COLUMN, GAP, MARGIN = 448, 48, 64  # px: printed at 300 dots an inch, a column is 38 mm wide
SMALL_GAP, SAMPLES = 8, 4
SAMPLE = (COLUMN - (SAMPLES - 1) * SMALL_GAP) // SAMPLES  # px
PICTURES = COLUMN + SMALL_GAP + SAMPLE + GAP // 4  # px of a column, before what is said
LEAST_COLUMNS, MOST_COLUMNS = 2, 4
QUALITY = 90  # of the JPEG: 64 units take 0.5 s and 4 MB; a PNG of them 4 s
MOST_WIRES = 12  # that are written below, the strongest
TITLE, LARGE, NORMAL, SMALL = 56, 36, 30, 26  # px of letters
INK, FAINT, PAPER, EMPTY = "#1f2328", "#5a626c", "#ffffff", "#eef0f2"
TABLES = ("feature_visualization", "dataset_samples", "connections")


class Line(NamedTuple):
    """A line of text."""

    words: str
    font: ImageFont.FreeTypeFont
    colour: str = INK

    @property
    def height(self) -> int:
        return round(self.font.size * 1.35)


def figure(atlas: Atlas, units: UnitList) -> bytes:
    """A JPEG of a list, its units side by side, at most four in a row; the same list gives the same bytes.

    A unit that the atlas has not keeps its place, and a picture that is lacking or cannot be read stays grey.
    """
    keys = [unit_of(atlas, entry) for entry in units.units]
    rows = {key: Rows(atlas, key, TABLES) for key in keys if key}
    num_columns = min(MOST_COLUMNS, max(LEAST_COLUMNS, len(keys)))
    width = num_columns * (COLUMN + GAP) - GAP
    head = [*_lines(units.title, TITLE, INK, width), *_lines(units.about, NORMAL, FAINT, width)]
    said = [list(_said(entry, key)) for entry, key in zip(units.units, keys, strict=True)]
    rounds = [range(at, min(at + num_columns, len(keys))) for at in range(0, len(keys), num_columns)]
    heights = [PICTURES + max(_height(said[at]) for at in each) + GAP for each in rounds]
    among = wires({key: own["connections"] for key, own in rows.items()})
    foot = [*_among(among, width), *_lines(f"{text.TITLE}, {atlas.revision}", SMALL, FAINT, width)]

    whole = 2 * MARGIN + _height(head) + GAP + sum(heights) + _height(foot)
    paper = Image.new("RGB", (2 * MARGIN + width, whole), PAPER)
    top = _write(paper, head, MARGIN, MARGIN) + GAP
    for each, height in zip(rounds, heights, strict=True):
        for column, at in enumerate(each):
            left, key = MARGIN + column * (COLUMN + GAP), keys[at]
            paper.paste(EMPTY, (left, top, left + COLUMN, top + COLUMN))
            if key:
                _column(paper, atlas, key, rows[key], (left, top))
            _write(paper, said[at], left, top + PICTURES)
        top += height
    _write(paper, foot, MARGIN, top)
    file = io.BytesIO()
    paper.save(file, "JPEG", quality=QUALITY, subsampling=0)  # which leaves the edges of letters clean
    return file.getvalue()


def _said(entry: Entry, key: Key | None) -> Iterator[Line]:
    """What stands below a unit's pictures: its place, its number, and its sentence."""
    if key is None:
        yield from _lines(entry.key, NORMAL, INK, COLUMN)
        yield Line("not in this atlas", letters(SMALL), FAINT)
    else:
        yield from _lines(f"{key.model}/{key.layer}", SMALL, FAINT, COLUMN)
        yield Line(str(key.unit), letters(LARGE))
    yield from _lines(entry.note, NORMAL, INK, COLUMN)


def _among(among: Sequence[Wire], width: int) -> Iterator[Line]:
    """The connections between the units of the list, a line each."""
    for wire in among[:MOST_WIRES]:
        yield from _lines(
            f"{wire.start} {wire.verb} {wire.end}: weights {wire.row['weight']:.3g} in sum", SMALL, INK, width
        )
    if len(among) > MOST_WIRES:
        yield Line(f"and {len(among) - MOST_WIRES} weaker connections", letters(SMALL), FAINT)


def _column(paper: Image.Image, atlas: Atlas, key: Key, rows: Rows, place: tuple[int, int]) -> None:
    """A unit's picture, and below it those that excite it most."""
    left, top = place
    if made := main_image(rows["feature_visualization"]):
        _paste(paper, atlas, ("feature_visualization", key.model, made["image"]), (left, top), COLUMN)
    for at, row in enumerate(best(rows["dataset_samples"])[:SAMPLES]):
        where = (left + at * (SAMPLE + SMALL_GAP), top + COLUMN + SMALL_GAP)
        _paste(paper, atlas, ("dataset_samples", key.model, row["image"]), where, SAMPLE)


def _paste(paper: Image.Image, atlas: Atlas, name: tuple[str, str, str], place: tuple[int, int], side: int) -> None:
    """An image of the atlas, if it can be read; else what was there stays."""
    try:
        image = decoded(atlas.image(*name)).convert("RGB")
    except AtlasError:
        return
    fitted = ImageOps.contain(image, (side, side), Image.Resampling.LANCZOS)
    paper.paste(fitted, (place[0] + (side - fitted.width) // 2, place[1] + (side - fitted.height) // 2))


def _lines(words: str, size: int, colour: str, room: int) -> Iterator[Line]:
    said = legible(words)
    font = letters(size, said)
    return (Line(line, font, colour) for line in wrapped(said, font, room))


def _height(lines: Iterable[Line]) -> int:
    return sum(line.height for line in lines)


def _write(paper: Image.Image, lines: Iterable[Line], left: int, top: int) -> int:
    """Lines below each other; where the next one would begin."""
    draw = ImageDraw.Draw(paper)
    for line in lines:
        draw.text((left, top), line.words, line.colour, line.font)
        top += line.height
    return top
