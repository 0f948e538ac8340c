"""A layer's page: all its units in one picture, sorted and filtered by what is known of them."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from markupsafe import Markup

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.keys import Key
from microscope_space.html import links, markup, text
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.pages import activation_atlas, groups, labelled, unit_map
from microscope_space.pages.choice import Choice, chosen, form
from microscope_space.pages.frame import Page
from microscope_space.pages.home import count
from microscope_space.pages.table import Rows, sections, shown
from microscope_space.pages.tiles import tiles
from microscope_space.search.said import who

Row = Mapping[str, Any]
VISUALIZATION = "feature_visualization"
SCORES = ("clarity", "polysemanticity", "redundancy")  # that units can be sorted by
USUAL = Choice()
UNKNOWN: Row = dict.fromkeys(column.name for column in schema.UNITS.columns)  # of a unit that `units` has no row of


def layer(atlas: Atlas, model: str, name: str, choice: Choice = USUAL) -> Page:
    """A layer's units as tiles of its sheet; UnknownName where it, or what is chosen, is not there."""
    total, key = atlas.num_units(model, name), Key(model, name)
    told = Rows(atlas, key, ("units", "sheets", "deepdream", "caricature", "scores"))
    sheets = {
        (row["method"], row["objective"], str(row["direction"])): row
        for row in sorted(told["sheets"], key=lambda row: row["lens"] != VISUALIZATION)
    }
    scores = {row["unit"]: {name: row[name] for name in SCORES} for row in told["scores"]}
    known = {row["unit"] for row in told["units"]}
    others = [{**UNKNOWN, "unit": unit} for unit in atlas.units_there(model, name) if unit not in known]
    rows = [{**row, **scores.get(row["unit"], {})} for row in (*told["units"], *others)]
    choice = choice.among(sheets, str(key))
    sheet, labels = sheets.get(choice.sheet), atlas.first_labels(model, name)
    there = _pictured(rows, sheet, choice)
    kept = chosen(there, choice)
    some = len(rows) < total
    found = f"{len(rows):,} of {total:,} units are rendered" if some else count(total, "unit")
    found += f"; {len(there):,} of them have such a picture" if len(there) < len(rows) else ""
    found += f"; {len(kept):,} shown" if len(kept) < len(there) else ""
    body = html(
        '<h1 tabindex="-1"><span>{}</span> {}</h1>{}{}{}<p class="about" aria-live="polite">{}. {}</p>{}{}{}{}{}',
        markup.breakable(model),
        markup.breakable(name),
        markup.dictionary(atlas.dictionary(model, name)),
        _neighbours(atlas, model, name) + activation_atlas.link_to(atlas, key) + groups.link_to(atlas, key),
        form(model, name, rows, sheets, choice),
        found,
        _tiles(choice) if sheet else "",
        unit_map.link(model, name, rows),
        labelled.captions({row["unit"]: labels[row["unit"]] for row in kept if row["unit"] in labels}),
        _grid(model, name, kept, sheet, choice, labels) if rows else NOTHING,
        _lacking(told, rows, sheet),
        _whole(atlas, key, told),
    )
    about = f"{count(total, 'unit')} of {name}, a layer of {model}: what excites each, with the numbers beside."
    return Page(str(key), body, about, key, asked=choice.unusual)


def _lacking(told: Rows, rows: Sequence[Row], sheet: Row | None) -> Markup:
    """Why there are no units, or no pictures of them."""
    if "units" in told.lost or (rows and not sheet and "sheets" in told.lost):
        return markup.absent(text.LOST)
    if not rows:
        return markup.absent(text.NO_UNITS)
    return NOTHING if sheet else markup.absent(text.NO_SHEET)


def _pictured(rows: Sequence[Row], sheet: Row | None, choice: Choice) -> Sequence[Row]:
    """The units with a picture in a sheet; where that does not say which, as `units` says of made pictures."""
    if sheet is None or sheet["num_pictures"] >= len(rows):
        return rows
    if (there := sheet.get("units")) is not None:
        pictured = set(there)
        return [row for row in rows if row["unit"] in pictured]
    return [row for row in rows if choice.visualization(row)] if sheet["lens"] == VISUALIZATION else rows


def _grid(
    model: str, layer: str, rows: Sequence[Row], sheet: Row | None, choice: Choice, labels: Mapping[int, Row]
) -> Markup:
    """The units as links, each with its tile of the sheet behind it: one image for all of them."""
    if not rows:
        return markup.absent("No unit is like that.")
    shown = tiles(model, sheet)
    listed = joined(
        html(
            '<li><a href="{}" title="{}"{}><i></i><span>{}</span>{}</a></li>',
            links.href(model, layer, row["unit"]),
            _told(row, choice, labels.get(row["unit"])),
            html(' style="{}"', shown.at(row["unit"])) if shown else NOTHING,
            row["unit"],
            html("<small>{}</small>", labels[row["unit"]]["label"]) if row["unit"] in labels else NOTHING,
        )
        for row in rows
    )
    return html(
        '<ul class="{}" style="{}" aria-label="Units of {}" data-glance="{}" data-asked="{}">{}</ul>',
        f"sheet {choice.tiles if shown else 'plain'}",
        shown.style if shown else "",
        layer,
        links.glance(),
        links.asked(method=choice.method, objective=choice.objective, direction=choice.direction),
        listed,
    )


def _told(row: Row, choice: Choice, label: Row | None) -> str:
    """A unit's numbers, for those who point at it."""
    made = choice.visualization(row)
    told = [
        f"unit {row['unit']}" + (f", {row['class_name']}" if row["class_name"] else ""),
    ]
    if row["maximum"] is not None:
        told.append(f"maximum {markup.number(row['maximum'])}, mean {markup.number(row['mean'])}")
    if made:
        times = f", {markup.number(made['natural'])} × natural" if made["natural"] is not None else ""
        told.append(f"score {markup.number(made['score'])}{times}")
    told += [each for each in (row["branch"], row["flag"]) if each]
    told += [f"label {label['label']} ({who(label['method'], label['source'])})"] if label else []
    return "; ".join(told)


def _tiles(choice: Choice) -> str:
    """What the tiles of a sheet are."""
    if choice.method in text.SHEETS_LONG:
        return text.SHEETS_LONG[choice.method]
    return text.SHEETS_MADE.format(
        objective=text.OBJECTIVES.get(choice.objective, choice.objective),
        aim={"1": "excite", "-1": "silence"}.get(choice.direction, "show"),
    )


def _neighbours(atlas: Atlas, model: str, layer: str) -> Markup:
    """Links to the layers before and after."""
    names = list(atlas.layers(model))
    at = names.index(layer)
    before, after = names[at - 1] if at else None, names[at + 1] if at + 1 < len(names) else None
    nothing = html("<span></span>")
    return html(
        '<p class="steps">{}{}</p>',
        html('<a rel="prev" href="{}">← {}</a>', links.href(model, before), before) if before else nothing,
        html('<a rel="next" href="{}">{} →</a>', links.href(model, after), after) if after else nothing,
    )


def _whole(atlas: Atlas, key: Key, told: Rows) -> Markup:
    """What all units together see: deepdreams and caricatures."""
    parts = joined(
        shown(lens, schema.table(lens), told[lens], partial(_seen, key, told, lens, column))
        for lens, column in (("deepdream", "start"), ("caricature", "source"))
    )
    return parts + sections(atlas, key)


def _seen(key: Key, told: Rows, lens: str, column: str) -> Markup:
    table = schema.table(lens)
    figures = joined(
        markup.figure(
            markup.picture(links.image(lens, key.model, row["image"]), f"{table.title}: {row[column]}", 176),
            row[column] if row[column] != "noise" else "from noise",
            f"score {markup.number(row['score'])}",
        )
        for row in told[lens]
        if row["image"]
    )
    content = html('<div class="figures">{}</div>', figures) if figures else told.none(lens, str(key))
    return markup.section(lens, table.title, content, f"{table.about.capitalize()}.")
