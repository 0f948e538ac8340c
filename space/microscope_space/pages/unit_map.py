"""A layer's units at their places on its map: those that answer natural pictures alike lie near each other."""

from collections.abc import Mapping, Sequence
from math import isfinite, sqrt
from typing import Any

from markupsafe import Markup

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import WrongLevel
from microscope_atlas.keys import Key
from microscope_space.html import links, markup, text
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.pages.frame import Page
from microscope_space.pages.home import count
from microscope_space.pages.table import Rows
from microscope_space.pages.tiles import tiles

VIEW = "map"
FILLED = 0.7  # share of the map's side that tiles would fill, were they laid out as a square: more would hide others
MARGIN = 3.0  # percent around the outermost

Row = Mapping[str, Any]


def unit_map(atlas: Atlas, key: Key | None) -> Page:
    """The map of a layer, or what to render where it has none; WrongLevel where the key is none of a layer."""
    key, placed, total = there(atlas, key)
    assert key.layer is not None  # as `there` has seen
    told = Rows(atlas, key, ("sheets",))
    sheet = min(told["sheets"], key=_usual, default=None)
    body = html(
        '<h1 tabindex="-1"><span>{}</span> {}, a map</h1><p class="about">{} {}</p>{}'
        '<p><a href="{}">All units of {}</a></p>',
        markup.breakable(key.model),
        markup.breakable(key.layer),
        text.UNIT_MAP,
        trusted(len(placed), total, placed[0]["layer_map"]["trustworthiness"]) if placed else "",
        _map(key, placed, sheet) if placed else markup.absent(text.NO_MAP),
        links.href(key.model, key.layer),
        key.layer,
    )
    about = (
        f"{count(total, 'unit')} of {key.layer}, a layer of {key.model}: those that answer alike lie near each other."
    )
    return Page(f"{key}, a map", body, about, key, asked={"view": VIEW})


def there(atlas: Atlas, key: Key | None) -> tuple[Key, list[Row], int]:
    """A layer's key, the rows of its units that have a place on its map, and how many units it has.

    WrongLevel where the key is none of a layer.
    """
    if key is None or key.layer is None or key.unit is not None:
        raise WrongLevel(
            f"a map is of a layer or a model; {key or 'this link'} is neither, add them: ?model=...&layer=..."
        )
    total = atlas.num_units(key.model, key.layer)
    return key, [row for row in Rows(atlas, key, ("units",))["units"] if mapped(row)], total


def mapped(row: Row) -> bool:
    """Whether a row of `units` has a place on its layer's map."""
    place = row.get("layer_map")
    return place is not None and all(place[side] is not None and isfinite(place[side]) for side in ("x", "y"))


def link(model: str, layer: str, rows: Sequence[Row]) -> Markup:
    """To the map of a layer, where its rows of `units` have places."""
    if not any(map(mapped, rows)):
        return NOTHING
    return html('<p><a href="{}">A map of these units</a></p>', links.href(model, layer, view=VIEW))


def _usual(sheet: Row) -> tuple[bool, bool, bool, bool]:
    usual = {"lens": "feature_visualization", "method": "fourier", "objective": "channel", "direction": 1}
    wrong = [sheet[name] != value for name, value in usual.items()]
    return wrong[0], wrong[1], wrong[2], wrong[3]


def trusted(num_placed: int, total: int, trustworthiness: float) -> str:
    """How many units are on a map, and how far their neighbours there can be trusted."""
    return f"{num_placed:,} of {count(total, 'unit')} are on it; trustworthiness {markup.number(trustworthiness)}."


def _map(key: Key, placed: Sequence[Row], sheet: Row | None) -> Markup:
    """Links at their places, each with its tile of the sheet: one image for all of them."""
    assert key.layer is not None
    shown = tiles(key.model, sheet)
    side = min(8.0, 100 * FILLED / sqrt(len(placed)))
    x, y = (_spread([row["layer_map"][name] for row in placed], side) for name in ("x", "y"))
    items = joined(
        html(
            '<li style="left:{}%;top:{}%;{}"><a href="{}" title="{}"><i></i><span>{}</span></a></li>',
            f"{left:.2f}",
            f"{100 - side - top:.2f}",  # upwards, as in a plot
            shown.at(row["unit"]) if shown else "",
            links.href(key.model, key.layer, row["unit"]),
            f"unit {row['unit']}" + (f", {row['class_name']}" if row["class_name"] else ""),
            row["unit"],
        )
        for row, left, top in zip(placed, x, y, strict=True)
    )
    style = html("{}{}--tile:{}%", shown.style if shown else "", ";" if shown else "", f"{side:.2f}")
    return html(
        '<div class="map" role="region" aria-label="Map of {}" tabindex="0"><div>'
        '<ul class="{}" style="{}" data-glance="{}" data-asked="{}">{}</ul></div></div>',
        key.layer,
        "places" if shown else "places plain",
        style,
        links.glance(),
        links.asked(),
        items,
    )


def _spread(values: Sequence[float], side: float) -> list[float]:
    """Percent from an edge, so that tiles of `side` percent fill the map and none leaves it."""
    low, high = min(values), max(values)
    room = 100 - 2 * MARGIN - side
    return [MARGIN + room * ((value - low) / (high - low) if high > low else 0.5) for value in values]
