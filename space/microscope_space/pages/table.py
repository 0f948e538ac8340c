"""A section for a table that has none of its own: what a lens from outside says of a unit, or of a layer.

And for rows that a section of its own does not expect.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.atlas.schema import LAYER_KEY, PROVENANCE, UNIT_KEY
from microscope_atlas.atlas.tables import Column, Table
from microscope_atlas.errors import AtlasError
from microscope_atlas.keys import Key
from microscope_space.html import links, markup, text
from microscope_space.html.escaped import NOTHING, html, joined

MOST_ROWS = 100
MOST_CHARACTERS = 120  # of a cell
SAID = {column.name for column in (*UNIT_KEY, *PROVENANCE)} | {"seed"}  # elsewhere on the page
ABOUT_LAYER = {column.name for column in LAYER_KEY}

log = logging.getLogger(__name__)

Row = Mapping[str, Any]


class Rows(dict[str, list[dict[str, Any]]]):
    """Rows about a key, table by table; of a table that cannot be read, none, and it is remembered."""

    def __init__(self, atlas: Atlas, key: Key, tables: Sequence[str]):
        """AtlasError where none of them can be read."""
        super().__init__()
        self.lost: set[str] = set()
        assert key.layer is not None
        for name in tables:
            try:
                self[name] = atlas.rows(name, key.model, key.layer, key.unit)
            except AtlasError as error:
                log.warning("%s of %s: %s", name, key, error)
                self.lost.add(name)
                self[name] = []
                if len(self.lost) == len(tables):
                    raise

    def none(self, name: str, where: str) -> Markup:
        """In place of a table's rows where there are none: why."""
        return markup.absent(self.why(name, where))

    def why(self, name: str, where: str) -> str:
        """Why nothing of a table is shown: it cannot be read, its rows have no picture, or there are none."""
        if name in self.lost:
            return text.LOST
        return text.no_picture(name, where) if self[name] else text.not_rendered(name, where)


def shown(name: str, table: Table, rows: Sequence[Row], draw: Callable[[], Markup]) -> Markup:
    """A section that `draw` makes of rows; the rows as they are where it cannot.

    An atlas may come from anybody, and from another version: what it holds is no reason not to show the rest of a page.
    """
    try:
        return draw()
    except Exception:  # whatever unexpected values lead to
        log.exception("rows of %s are not as the page expects", table.name)
        body = markup.absent(text.UNEXPECTED) + _cells(table, rows[:MOST_ROWS], table.images)
        return markup.section(name, table.title, body)


def sections(atlas: Atlas, key: Key) -> Markup:
    """Of every such table of the atlas that is about a unit, or about a layer, as the key is."""
    level = "layer" if key.unit is None else "unit"
    return joined(_section(atlas, key, table) for table in atlas.outside.values() if table.level == level)


def _section(atlas: Atlas, key: Key, table: Table) -> Markup:
    assert key.layer is not None
    name, about = f"table-{table.name}", f"{table.about[:1].upper()}{table.about[1:]}."
    try:
        rows = atlas.rows(table.name, key.model, key.layer, key.unit)
    except AtlasError as error:
        log.warning("%s of %s: %s", table.name, key, error)
        return markup.section(name, table.title, markup.absent(text.LOST), about)
    body = _figures(key, table, rows[:MOST_ROWS]) + _cells(table, rows[:MOST_ROWS])
    if len(rows) > MOST_ROWS:
        body += html('<p class="about">The first {} of {} rows.</p>', MOST_ROWS, f"{len(rows):,}")
    if not rows:
        body = markup.absent(f"This atlas has no {table.title.lower()} of {key}.")
    return markup.section(name, table.title, body, about)


def _figures(key: Key, table: Table, rows: Sequence[Row]) -> Markup:
    """The images, each with what its row is told by."""
    figures = []
    for row in rows:
        named = ", ".join(f"{row[c.name]}" for c in table.keys if c.name not in SAID)
        note = f"score {markup.number(row['score'])}" if isinstance(row.get("score"), float) else ""
        for column in table.images:
            if row[column]:
                said = ", ".join(filter(None, [named, column if column != "image" else ""]))
                src = links.image(table.name, key.model, row[column], column)
                seen = markup.picture(src, f"{table.title} of {key} {said}".strip(), 144)
                figures.append(markup.figure(seen, said, note))
    return html('<div class="figures">{}</div>', joined(figures)) if figures else NOTHING


def _cells(table: Table, rows: Sequence[Row], images: Sequence[str] = ()) -> Markup:
    """All else as a table, and the file names of these images."""
    shown = [c for c in table.columns if c.name not in SAID and (c.name in images or c.name not in table.images)]
    if not shown or not rows:
        return NOTHING
    head = joined(html('<th scope="col" title="{}">{}</th>', c.meaning, c.name) for c in shown)
    body = joined(
        html("<tr>{}</tr>", joined(html("<td>{}</td>", _cell(row[c.name], c)) for c in shown)) for row in rows
    )
    return html(
        '<div class="rows" role="region" aria-label="{}" tabindex="0">'
        "<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>",
        table.title,
        head,
        body,
    )


def _cell(value: Any, column: Column) -> str:
    if column.name == "flag":
        return str(value or "none")
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return markup.number(value)
    if isinstance(value, list):
        value = ", ".join(markup.number(each) if isinstance(each, int | float) else str(each) for each in value[:50])
    said = str(value)
    return said if len(said) <= MOST_CHARACTERS else f"{said[:MOST_CHARACTERS]}…"
