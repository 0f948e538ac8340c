"""A layer's page: all its units in one picture, sorted and filtered by what is known of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import unknown
from microscope_atlas.keys import Key
from microscope_space.html import links, markup, text
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.pages import activation_atlas, unit_map
from microscope_space.pages.frame import Page
from microscope_space.pages.home import count
from microscope_space.pages.table import Rows, sections, shown

SORTS = {
    "unit": "index",
    "maximum": "strongest activation",
    "mean": "mean activation",
    "sparsity": "sparsity",
    "score": "score of the picture",
    "natural": "score, against natural pictures",
    "agreement": "agreement of variants",
}
VISUALIZATION = "feature_visualization"
ANY = "any"
NONE = "none"  # of a branch or flag


@dataclass(frozen=True)
class Choice:
    """Which units a layer's page shows, and how; as its link says."""

    method: str = "fourier"
    objective: str = "channel"
    direction: str = "1"
    sort: str = "unit"
    branch: str = ANY
    flag: str = ANY

    def link(self, model: str, layer: str, **other: str) -> str:
        """To the layer with this choice but for `other`; what is as usual is left out."""
        return links.href(model, layer, **Choice(**{**vars(self), **other}).unusual)

    @property
    def unusual(self) -> dict[str, Any]:
        """What its link has to say."""
        return {name: value for name, value in vars(self).items() if value != getattr(Choice, name)}


def layer(atlas: Atlas, model: str, name: str, choice: Choice = Choice()) -> Page:
    """A layer's units as tiles of its sheet; UnknownName where it, or what is chosen, is not there."""
    total, key = atlas.num_units(model, name), Key(model, name)
    told = Rows(atlas, key, ("units", "sheets", "deepdream", "caricature"))
    sheets = {
        (row["method"], row["objective"], str(row["direction"])): row
        for row in sorted(told["sheets"], key=lambda row: row["lens"] != VISUALIZATION)
    }
    rows = told["units"]
    asked = (choice.method, choice.objective, choice.direction)
    if sheets and asked not in sheets:
        raise unknown("sheet", "-".join(asked), str(key), ["-".join(each) for each in sheets])
    if choice.sort not in SORTS:
        raise unknown("sort", choice.sort, "this page", SORTS)
    kept = chosen(rows, choice)
    some = len(rows) < total and "units" not in told.lost
    found = f"{len(rows):,} of {total:,} units are rendered" if some else count(total, "unit")
    found += f"; {len(kept):,} shown" if len(kept) < len(rows) else ""
    body = html(
        '<h1 tabindex="-1"><span>{}</span> {}</h1>{}{}{}{}<p class="about" aria-live="polite">{}. {}</p>{}{}{}',
        markup.breakable(model),
        markup.breakable(name),
        markup.dictionary(atlas.dictionary(model, name)),
        _neighbours(atlas, model, name) + activation_atlas.link_to(atlas, key),
        _sheet_switch(model, name, sheets, choice),
        _form(model, name, rows, choice),
        found,
        _tiles(choice) if asked in sheets else "",
        unit_map.link(model, name, rows),
        _grid(model, name, kept, sheets.get(asked), choice) if kept or rows else told.none("units", str(key)),
        _whole(atlas, key, told),
    )
    about = f"{count(total, 'unit')} of {name}, a layer of {model}: what excites each, with the numbers beside."
    return Page(str(key), body, about, key, asked=choice.unusual)


def chosen(rows: Sequence[Mapping[str, Any]], choice: Choice) -> list[Mapping[str, Any]]:
    """The rows of `units` that a choice keeps, in its order: the highest first, those without the number last."""
    for column, value in (("branch", choice.branch), ("flag", choice.flag)):
        there = {row[column] or NONE for row in rows}
        if value != ANY and value not in there:
            raise unknown(column, value, "this layer", [ANY, *sorted(there)])
    kept = [
        row
        for row in rows
        if choice.branch in (ANY, row["branch"] or NONE) and choice.flag in (ANY, row["flag"] or NONE)
    ]
    if choice.sort == "unit":
        return sorted(kept, key=lambda row: row["unit"])
    number = _number(choice)
    return sorted(kept, key=lambda row: ((found := number(row)) is None, -(found or 0), row["unit"]))


def _number(choice: Choice) -> Callable[[Mapping[str, Any]], float | None]:
    """What units are sorted by."""
    if choice.sort in ("score", "natural"):
        return lambda row: _visualization(row, choice).get(choice.sort)
    return lambda row: row[choice.sort]


def _visualization(row: Mapping[str, Any], choice: Choice) -> Mapping[str, Any]:
    """What `units` says of the picture in the sheet."""
    asked = (choice.method, choice.objective, int(choice.direction), 0)
    for each in row["visualizations"] or ():
        if (each["method"], each["objective"], each["direction"], each["variant"]) == asked:
            found: Mapping[str, Any] = each
            return found
    return {}


def _grid(
    model: str, layer: str, rows: Sequence[Mapping[str, Any]], sheet: Mapping[str, Any] | None, choice: Choice
) -> Markup:
    """The units as links, each with its tile of the sheet behind it: one image for all of them."""
    if not rows:
        return markup.absent("No unit is like that.")
    style, kind, columns, x, y = "", "sheet plain", 1, 0.0, 0.0
    if sheet and sheet["image"] and sheet["columns"] > 0:
        columns = sheet["columns"]
        lines = max(1, -(-sheet["num_units"] // columns))
        src = links.image("sheets", model, sheet["image"])
        style, kind = f"--sheet:url('{src}');--size:{columns * 100}% {lines * 100}%", "sheet"
        x, y = (100 / max(1, tiles - 1) for tiles in (columns, lines))

    def place(unit: int) -> Markup:
        at = f"{unit % columns * x:.3f}% {unit // columns * y:.3f}%"
        return html(' style="--at:{}"', at) if style else NOTHING

    listed = joined(
        html(
            '<li><a href="{}" title="{}"{}><i></i><span>{}</span></a></li>',
            links.href(model, layer, row["unit"]),
            _told(row, choice),
            place(row["unit"]),
            row["unit"],
        )
        for row in rows
    )
    return html('<ul class="{}" style="{}" aria-label="Units of {}">{}</ul>', kind, style, layer, listed)


def _told(row: Mapping[str, Any], choice: Choice) -> str:
    """A unit's numbers, for those who point at it."""
    made = _visualization(row, choice)
    told = [
        f"unit {row['unit']}" + (f", {row['class_name']}" if row["class_name"] else ""),
        f"maximum {markup.number(row['maximum'])}, mean {markup.number(row['mean'])}",
    ]
    if made:
        times = f", {markup.number(made['natural'])} × natural" if made["natural"] is not None else ""
        told.append(f"score {markup.number(made['score'])}{times}")
    told += [each for each in (row["branch"], row["flag"]) if each]
    return "; ".join(told)


def _sheet_switch(model: str, layer: str, sheets: Mapping[tuple[str, str, str], Any], choice: Choice) -> Markup:
    """Links to the layer's other sheets."""
    several = len({method for method, _, _ in sheets} - set(text.SHEETS)) > 1

    def words(method: str, objective: str, direction: str) -> str:
        if method in text.SHEETS:
            return text.SHEETS[method]
        named = f"{text.METHODS.get(method, method)}, " if several else ""
        return f"{named}{text.OBJECTIVES.get(objective, objective)} {text.direction(int(direction))}"

    options = [
        (
            choice.link(model, layer, method=method, objective=objective, direction=direction),
            words(method, objective, direction),
            (method, objective, direction) == (choice.method, choice.objective, choice.direction),
        )
        for method, objective, direction in sheets
    ]
    return markup.switch("Pictures", options) if options else NOTHING


def _tiles(choice: Choice) -> str:
    """What the tiles of a sheet are."""
    if choice.method in text.SHEETS_LONG:
        return text.SHEETS_LONG[choice.method]
    return text.SHEETS_MADE.format(
        objective=text.OBJECTIVES.get(choice.objective, choice.objective),
        aim={"1": "excite", "-1": "silence"}.get(choice.direction, "show"),
    )


def _form(model: str, layer: str, rows: Sequence[Mapping[str, Any]], choice: Choice) -> Markup:
    """Sort and filter; what there is only one of is not asked."""
    sorts = {
        name: words
        for name, words in SORTS.items()
        if name == "unit" or any(_number(Choice(sort=name))(row) is not None for row in rows)
    }
    fields = markup.choice("sort", sorts, choice.sort, "Sort by")
    for column in ("branch", "flag"):
        values = sorted({row[column] or NONE for row in rows})
        if len(values) > 1:
            options = {ANY: ANY, **{value: value for value in values}}
            fields += markup.choice(column, options, getattr(choice, column), column.capitalize())
    kept = {name: value for name, value in choice.unusual.items() if name in ("method", "objective", "direction")}
    if links.path(model).startswith("?"):  # its page has no path of its own
        kept |= {"model": model, "layer": layer}
    return html(
        '<form class="filter" action="{}" method="get">{}{}<button>Show</button></form>',
        links.href(model, layer),
        markup.hidden(**kept),
        fields,
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
