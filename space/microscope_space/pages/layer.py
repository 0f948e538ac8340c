"""A layer's page: all its units in one picture, sorted and filtered by what is known of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import unknown
from microscope_atlas.keys import Key
from microscope_space.html import links, markup, text
from microscope_space.pages import frame as page
from microscope_space.pages.table import sections

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
        usual = Choice()
        asked = {**vars(self), **other}
        return links.href(
            model, layer, **{name: value for name, value in asked.items() if value != getattr(usual, name)}
        )


def layer(atlas: Atlas, model: str, name: str, choice: Choice = Choice()) -> str:
    """A layer's units as tiles of its sheet; UnknownName where it, or what is chosen, is not there."""
    total = atlas.num_units(model, name)
    sheets = {
        (row["method"], row["objective"], str(row["direction"])): row
        for row in sorted(atlas.rows("sheets", model, name), key=lambda row: row["lens"] != VISUALIZATION)
    }
    rows = atlas.rows("units", model, name)
    asked = (choice.method, choice.objective, choice.direction)
    if sheets and asked not in sheets:
        raise unknown("sheet", "-".join(asked), f"{model}/{name}", ["-".join(each) for each in sheets])
    if choice.sort not in SORTS:
        raise unknown("sort", choice.sort, "this page", SORTS)
    shown = chosen(rows, choice)
    found = f"{len(rows):,} of {total:,} units are rendered" if len(rows) < total else f"{total:,} units"
    found += f"; {len(shown):,} shown" if len(shown) < len(rows) else ""
    body = (
        f'<h1 tabindex="-1"><span>{markup.breakable(model)}</span> {markup.breakable(name)}</h1>'
        f"{markup.dictionary(atlas.dictionary(model, name))}{_neighbours(atlas, model, name)}"
        f"{_sheet_switch(model, name, sheets, choice)}{_form(model, name, rows, choice)}"
        f'<p class="about" aria-live="polite">{found}. {_tiles(choice) if asked in sheets else ""}</p>'
        f"{_grid(model, name, shown, sheets.get(asked), choice)}"
        f"{_whole(atlas, model, name)}"
    )
    return page.frame(atlas, f"{model}/{name}", body, Key(model, name))


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
    for each in row["visualizations"]:
        if (each["method"], each["objective"], each["direction"], each["variant"]) == asked:
            found: Mapping[str, Any] = each
            return found
    return {}


def _grid(
    model: str, layer: str, rows: Sequence[Mapping[str, Any]], sheet: Mapping[str, Any] | None, choice: Choice
) -> str:
    """The units as links, each with its tile of the sheet behind it: one image for all of them."""
    if not rows:
        return markup.absent("No unit is like that." if sheet else text.not_rendered("units", f"{model}/{layer}"))
    style, kind, columns, x, y = "", "sheet plain", 1, 0.0, 0.0
    if sheet and sheet["image"]:
        columns = sheet["columns"]
        lines = -(-sheet["num_units"] // columns)
        src = links.image("sheets", model, sheet["image"])
        style, kind = f"--sheet:url('{src}');--size:{columns * 100}% {lines * 100}%", "sheet"
        x, y = (100 / max(1, count - 1) for count in (columns, lines))

    def place(unit: int) -> str:
        return f' style="--at:{unit % columns * x:.3f}% {unit // columns * y:.3f}%"' if style else ""

    tiles = "".join(
        f'<li><a href="{links.href(model, layer, row["unit"])}" title="{escape(_told(row, choice))}"'
        f"{place(row['unit'])}><i></i><span>{row['unit']}</span></a></li>"
        for row in rows
    )
    return f'<ul class="{kind}" style="{style}" aria-label="Units of {escape(layer)}">{tiles}</ul>'


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


def _sheet_switch(model: str, layer: str, sheets: Mapping[tuple[str, str, str], Any], choice: Choice) -> str:
    """Links to the layer's other sheets."""
    several = len({method for method, _, _ in sheets} - set(text.SHEETS)) > 1

    def words(method: str, objective: str, direction: str) -> str:
        if method in text.SHEETS:
            return text.SHEETS[method]
        named = f"{text.METHODS.get(method, method)}, " if several else ""
        return f"{named}{text.OBJECTIVES.get(objective, objective)} {text.DIRECTIONS[int(direction)]}"

    options = [
        (
            choice.link(model, layer, method=method, objective=objective, direction=direction),
            words(method, objective, direction),
            (method, objective, direction) == (choice.method, choice.objective, choice.direction),
        )
        for method, objective, direction in sheets
    ]
    return markup.switch("Pictures", options) if options else ""


def _tiles(choice: Choice) -> str:
    """What the tiles of a sheet are."""
    if choice.method in text.SHEETS_LONG:
        return text.SHEETS_LONG[choice.method]
    return text.SHEETS_MADE.format(
        objective=text.OBJECTIVES.get(choice.objective, choice.objective),
        aim={"1": "excite", "-1": "silence"}[choice.direction],
    )


def _form(model: str, layer: str, rows: Sequence[Mapping[str, Any]], choice: Choice) -> str:
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
    kept = {name: getattr(choice, name) for name in ("method", "objective", "direction")}
    return (
        f'<form class="filter" action="?" method="get">{markup.hidden(model=model, layer=layer, **kept)}{fields}'
        "<button>Show</button></form>"
    )


def _neighbours(atlas: Atlas, model: str, layer: str) -> str:
    """Links to the layers before and after."""
    names = list(atlas.layers(model))
    at = names.index(layer)
    before, after = names[at - 1] if at else None, names[at + 1] if at + 1 < len(names) else None
    return (
        '<p class="steps">'
        + (f'<a rel="prev" href="{links.href(model, before)}">← {escape(before)}</a>' if before else "<span></span>")
        + (f'<a rel="next" href="{links.href(model, after)}">{escape(after)} →</a>' if after else "<span></span>")
        + "</p>"
    )


def _whole(atlas: Atlas, model: str, layer: str) -> str:
    """What all units together see: deepdreams and caricatures."""
    parts = ""
    for lens, column in (("deepdream", "start"), ("caricature", "source")):
        table = schema.table(lens)
        figures = "".join(
            markup.figure(
                markup.picture(links.image(lens, model, row["image"]), f"{table.title}: {row[column]}", 176),
                row[column] if row[column] != "noise" else "from noise",
                f"score {markup.number(row['score'])}",
            )
            for row in atlas.rows(lens, model, layer)
            if row["image"]
        )
        content = (
            f'<div class="figures">{figures}</div>'
            if figures
            else markup.absent(text.not_rendered(lens, f"{model}/{layer}"))
        )
        parts += markup.section(lens, table.title, content, f"{escape(table.about.capitalize())}.")
    return parts + sections(atlas, Key(model, layer))
