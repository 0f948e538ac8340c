"""A section for a table that has none of its own: what a lens from outside says of a unit, or of a layer."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.atlas.schema import LAYER_KEY, PROVENANCE, UNIT_KEY
from microscope_atlas.atlas.tables import Column, Table
from microscope_atlas.keys import Key
from microscope_space.html import links, markup

MOST_ROWS = 100
MOST_CHARACTERS = 120  # of a cell
SAID = {column.name for column in (*UNIT_KEY, *PROVENANCE)} | {"seed"}  # elsewhere on the page
ABOUT_LAYER = {column.name for column in LAYER_KEY}


def sections(atlas: Atlas, key: Key) -> str:
    """Of every such table of the atlas that is about a unit, or about a layer, as the key is."""
    level = "layer" if key.unit is None else "unit"
    return "".join(_section(atlas, key, table) for table in atlas.outside.values() if table.level == level)


def _section(atlas: Atlas, key: Key, table: Table) -> str:
    assert key.layer is not None
    rows = atlas.rows(table.name, key.model, key.layer, key.unit)
    body = _figures(key, table, rows[:MOST_ROWS]) + _cells(table, rows[:MOST_ROWS])
    if len(rows) > MOST_ROWS:
        body += f'<p class="about">The first {MOST_ROWS} of {len(rows):,} rows.</p>'
    if not rows:
        body = markup.absent(f"This atlas has no {table.title.lower()} of {key}.")
    return markup.section(
        f"table-{table.name}", table.title, body, escape(f"{table.about[:1].upper()}{table.about[1:]}.")
    )


def _figures(key: Key, table: Table, rows: Sequence[Mapping[str, Any]]) -> str:
    """The images, each with what its row is told by."""
    figures = ""
    for row in rows:
        named = ", ".join(f"{row[c.name]}" for c in table.keys if c.name not in SAID)
        note = f"score {markup.number(row['score'])}" if isinstance(row.get("score"), float) else ""
        for column in table.images:
            if row[column]:
                said = ", ".join(filter(None, [named, column if column != "image" else ""]))
                src = links.image(table.name, key.model, row[column], column)
                figures += markup.figure(markup.picture(src, f"{table.title} of {key} {said}".strip(), 144), said, note)
    return f'<div class="figures">{figures}</div>' if figures else ""


def _cells(table: Table, rows: Sequence[Mapping[str, Any]]) -> str:
    """All else as a table."""
    shown = [c for c in table.columns if c.name not in SAID and c.name not in table.images]
    if not shown or not rows:
        return ""
    head = "".join(f'<th scope="col" title="{escape(c.meaning)}">{escape(c.name)}</th>' for c in shown)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(row[c.name], c)}</td>' for c in shown)}</tr>" for row in rows)
    return (
        f'<div class="rows" role="region" aria-label="{escape(table.title)}" tabindex="0">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(value: Any, column: Column) -> str:
    if column.name == "flag":
        return escape(value or "none")
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return escape(markup.number(value))
    if isinstance(value, list):
        value = ", ".join(markup.number(each) if isinstance(each, int | float) else str(each) for each in value[:50])
    said = str(value)
    return escape(said if len(said) <= MOST_CHARACTERS else f"{said[:MOST_CHARACTERS]}…")
