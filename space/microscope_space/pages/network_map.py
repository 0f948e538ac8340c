"""The map of a network: units of all its layers, those that answer natural pictures alike near each other."""

from collections.abc import Sequence

from markupsafe import Markup

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.keys import Key
from microscope_space import network_map
from microscope_space.html import links, markup, text
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.network_map import GRID, Cell, Part, Placed
from microscope_space.pages.frame import Page
from microscope_space.pages.home import count
from microscope_space.pages.unit_map import VIEW, trusted

BESIDE = (("←", "left", 0, -1), ("→", "right", 0, 1), ("↑", "up", -1, 0), ("↓", "down", 1, 0))


def page(atlas: Atlas, model: str, asked: str | None = None) -> Page:
    """The map of a network, or a part of it; what to render where it has none. UnknownName where it is not there."""
    total = sum(atlas.layers(model).values())
    part = network_map.part_of(asked)
    there = network_map.placed(atlas, model)
    found = network_map.cells(there, part)
    known = atlas.organism(model)
    title = known.title if known else model
    about = text.UNIT_MAP if not len(there.unit) else f"{text.NETWORK_MAP} {text.UNIT_MAP}"
    body = html(
        '<h1 tabindex="-1">{}, a map</h1><p class="about">{} {}</p>{}<p><a href="{}">All layers of {}</a></p>',
        title,
        about,
        trusted(len(there.unit), total, there.trustworthiness) if len(there.unit) else "",
        _map(model, part, there, found) if len(there.unit) else markup.absent(text.NO_NETWORK_MAP),
        links.href(model),
        title,
    )
    told = f"{count(total, 'unit')} of {title}: those that answer alike lie near each other."
    return Page(
        f"{title}, a map", body, told, Key(model), asked={"view": VIEW, **({"part": str(part)} if part.zoom else {})}
    )


def link_to(atlas: Atlas, model: str) -> Markup:
    """From a network to its map, where the atlas has one."""
    if not network_map.has_one(atlas, model):
        return NOTHING
    return html('<p><a href="{}">{}</a></p>', links.href(model, view=VIEW), text.NETWORK_MAP_LINK)


def _map(model: str, part: Part, there: Placed, found: Sequence[Cell]) -> Markup:
    """One picture, and over it a link for each cell: to its unit, or where it has several nearer to them."""
    side = 100 / GRID
    each = joined(_cell(model, part, cell, side) for cell in found)
    first, last = there.layers[0], there.layers[-1]
    return html(
        '{}<div class="map" style="--cell:{}%" role="region" aria-label="Map" tabindex="0"><div><img src="{}" alt="{}">'
        '{}</div></div><p class="depth"><span>{}</span><i></i><span>{}</span></p><p class="about">{}</p>',
        _ways(model, part),
        f"{side:.3f}",
        links.map(Key(model), part=str(part)),
        f"{sum(cell.num_units for cell in found)} units of {model}, alike ones side by side",
        each,
        markup.breakable(first),
        markup.breakable(last),
        text.NETWORK_MAP_HOW,
    )


def _cell(model: str, part: Part, cell: Cell, side: float) -> Markup:
    nearer = part.nearer(cell.row, cell.column) if cell.num_units > 1 else None
    unit = f"{cell.layer} {cell.unit}"
    said = f"{unit} and {cell.num_units - 1} more" if cell.num_units > 1 else unit
    return html(
        '<a href="{}" title="{}" style="left:{}%;top:{}%">{}<span class="unseen">{}</span></a>',
        links.href(model, view=VIEW, part=str(nearer)) if nearer else links.href(model, cell.layer, cell.unit),
        said,
        f"{cell.column * side:.3f}",
        f"{cell.row * side:.3f}",
        html("<b>{}</b>", cell.num_units) if cell.num_units > 1 else NOTHING,
        said,
    )


def _ways(model: str, part: Part) -> Markup:
    """Links to the whole map, farther, and to the parts beside; of the whole map, none."""
    if not part.zoom:
        return NOTHING
    ways = [("whole map", "whole map", Part()), ("farther", "farther", part.farther)]
    ways += [(sign, name, part.beside(down, across)) for sign, name, down, across in BESIDE]
    each = joined(
        html(
            '<a href="{}" title="{}">{}</a>',
            links.href(model, view=VIEW, part=str(to) if to.zoom else None),
            name,
            sign,
        )
        for sign, name, to in ways
        if to
    )
    return html('<nav class="switch" aria-label="Where on the map">{}</nav>', each)
