"""The map of a layer's activations: a picture of all cells, each a link to what fell into it."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from markupsafe import Markup

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import InvalidKey, NotRendered, UnknownName, unknown
from microscope_atlas.keys import Key
from microscope_space.html import links, markup, text
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.pages.frame import Page
from microscope_space.pages.table import Rows, shown

TABLE = schema.ACTIVATION_ATLAS
VIEW = TABLE.name  # in links
ZOOM = re.compile("[0-9]{1,2}")
CELL = re.compile("([0-9]{1,4})-([0-9]{1,4})")  # row and column

Row = Mapping[str, Any]


def activation_atlas(atlas: Atlas, model: str, layer: str, zoom: str | None = None, cell: str | None = None) -> Page:
    """A layer's map at a zoom, its finest unless told, and one of its cells; raises as `there` and `cell_of`."""
    key, zooms, at, found = there(atlas, model, layer, zoom)
    asked = {"view": VIEW, **({"zoom": zoom} if zoom else {}), **({"cell": cell} if cell else {})}
    body = html(
        '<h1 tabindex="-1"><span>{}</span> {}</h1><p class="about">{}</p>{}{}{}',
        markup.breakable(model),
        markup.breakable(layer),
        text.MAP.format(placed=f"{found[0]['num_placed']:,}"),
        _switch(key, zooms, at),
        shown("map", TABLE, found, partial(_map, key, at, found, cell)),
        shown("cell", TABLE, found, partial(_cell, key, cell_of(key, found, cell))) if cell else NOTHING,
    )
    about = f"A map of what {key} tells apart, in {len(found)} cells."
    return Page(f"{key}, {TABLE.title.lower()}", body, about, key, asked=asked)


def there(
    atlas: Atlas, model: str, layer: str, zoom: str | None = None
) -> tuple[Key, dict[str, int], str, list[dict[str, Any]]]:
    """A layer's key, how many cells its map has along a side at each zoom, the zoom that is shown, and its cells.

    NotRendered where there is no map, UnknownName where it has no such zoom.
    """
    key = Key(model, layer)
    atlas.num_units(model, layer)
    rows = Rows(atlas, key, (VIEW,))[VIEW]
    if not rows:
        raise NotRendered(f"this atlas has no {TABLE.title.lower()} of {key}")
    zooms = {str(row["zoom"]): row["grid"] for row in rows}
    at = zoom or max(zooms, key=int)
    if at not in zooms:
        raise unknown("zoom", at, "this map", zooms)
    return key, zooms, at, [row for row in rows if str(row["zoom"]) == at]


def link_to(atlas: Atlas, key: Key) -> Markup:
    """From a layer to its map, where the atlas has one."""
    if not any(path.startswith(f"{VIEW}/") for path in atlas.files_about(key)):
        return NOTHING
    to = links.href(key.model, key.layer, view=VIEW)
    return html('<p><a href="{}">{}: {}</a></p>', to, TABLE.title, text.MAP_LINK)


def cell_of(key: Key, rows: Sequence[Row], cell: str) -> Row:
    """The cell that a link names; InvalidKey, UnknownName where there is none."""
    match = CELL.fullmatch(cell)
    if not match:
        raise InvalidKey(f"cell {cell!r} is none; expected its row and column, 3-12")
    row, column = map(int, match.groups())
    found = next((each for each in rows if (each["row"], each["column"]) == (row, column)), None)
    if found is None:
        raise UnknownName(f"cell {cell} is empty on this map of {key}")
    return found


def _switch(key: Key, there: Mapping[str, int], at: str) -> Markup:
    options = [
        (links.href(key.model, key.layer, view=VIEW, zoom=zoom), f"{grid} × {grid}", zoom == at)
        for zoom, grid in sorted(there.items(), key=lambda each: int(each[0]))
    ]
    return markup.switch("Cells", options)


def _map(key: Key, zoom: str, rows: Sequence[Row], chosen: str | None) -> Markup:
    """One picture, and over it a link for each cell."""
    grid = rows[0]["grid"]
    side = 100 / grid
    cells = joined(
        html(
            '<a href="{}#cell" title="{}" style="left:{}%;top:{}%"{}><span class="unseen">{}</span></a>',
            links.href(key.model, key.layer, view=VIEW, zoom=zoom, cell=f"{row['row']}-{row['column']}"),
            _told(row),
            f"{row['column'] * side:.3f}",
            f"{row['row'] * side:.3f}",
            markup.current(chosen == f"{row['row']}-{row['column']}"),
            f"Cell {row['row']}-{row['column']}",
        )
        for row in rows
    )
    return html(
        '<div class="map" style="--cell:{}%" role="region" aria-label="Map" tabindex="0"><div><img src="{}" alt="{}">'
        '{}</div></div><p class="about">{} <a href="{}">{}</a></p>',
        f"{side:.3f}",
        links.map(key, zoom=zoom),
        f"{len(rows)} cells of {key}, alike ones side by side",
        cells,
        text.MAP_HOW,
        links.map(key, zoom=zoom),
        text.MAP_WHOLE,
    )


def _told(row: Row) -> str:
    """A cell in brief, for those who point at it."""
    names = ", ".join(each["name"] for each in row["classes"][:3])
    return f"{row['num_vectors']:,} activations" + (f"; {names}" if names else "")


def _cell(key: Key, row: Row) -> Markup:
    """All that is said of a cell."""
    where = f"{row['row']}-{row['column']}"
    image = NOTHING
    if row["image"]:
        src = links.image(VIEW, key.model, row["image"])
        image = markup.large(src, markup.picture(src, f"Cell {where} of {key}", 224))
    facts = markup.facts(
        [
            ("activations", f"{row['num_vectors']:,}"),
            ("score", markup.number(row["score"])),
            ("cosine", markup.number(row["cosine"])),
            ("seen in pictures", ", ".join(str(each["picture"]) for each in row["samples"])),
            ("of", text.picture_set(row["set"], row["revision"])),
        ]
    )
    classes = joined(html("<li>{} {}</li>", each["name"], f"{each['logit']:+.2f}") for each in row["classes"])
    photos = NOTHING
    if row["photos"]:
        src = links.image(VIEW, key.model, row["photos"], "photos")
        photos = html('<p><img class="strip" src="{}" alt="{}"></p>', src, f"What falls into cell {where}: photos")
    content = html(
        '{}<div class="figures">{}</div>{}{}{}{}',
        markup.flagged(row["flag"]),
        image,
        facts,
        html("<h3>{}</h3><ul>{}</ul>", text.MAP_CLASSES, classes) if classes else NOTHING,
        html("<h3>{}</h3>", text.MAP_PHOTOS) if row["photos"] else NOTHING,
        photos,
    )
    return markup.section("cell", f"Cell {where}", content, warning=text.MAP_WARNING)
