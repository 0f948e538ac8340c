"""What a reader chooses on a layer's page: which pictures, of which units, in which order, how large."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from microscope_atlas.errors import unknown
from microscope_space.html import links, markup, text
from microscope_space.html.escaped import NOTHING, html

Row = Mapping[str, Any]
Sheets = Mapping[tuple[str, str, str], Row]  # by method, objective and direction

SORTS = {
    "unit": "index",
    "maximum": "strongest activation",
    "mean": "mean activation",
    "sparsity": "sparsity",
    "score": "score of the picture",
    "natural": "score, against natural pictures",
    "agreement": "agreement of variants",
    "clarity": "clarity of samples",
    "polysemanticity": "polysemanticity of samples",
    "redundancy": "redundancy of samples",
}
TILES = {"small": "small", "medium": "medium", "large": "large"}  # style.css says how large
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
    tiles: str = "medium"

    @property
    def sheet(self) -> tuple[str, str, str]:
        """Which sheet the tiles are from."""
        return self.method, self.objective, self.direction

    @property
    def unusual(self) -> dict[str, Any]:
        """What its link has to say."""
        return {name: value for name, value in vars(self).items() if value != getattr(Choice, name)}

    def among(self, sheets: Sheets, where: str) -> "Choice":
        """The same, of a sheet that there is: of the asked method, with what else is asked as far as it has it.

        UnknownName where a name stands in no sheet, or in no place where there is a choice.
        """
        if sheets:
            for at, asked in enumerate(self.sheet):
                there = list(dict.fromkeys(sheet[at] for sheet in sheets))
                # what nobody asked for need not be there
                if asked not in there and asked != (Choice.method, Choice.objective, Choice.direction)[at]:
                    raise unknown("sheet", "-".join(self.sheet), where, ["-".join(each) for each in sheets])
        for name, asked, there in (("sort", self.sort, list(SORTS)), ("size of tiles", self.tiles, list(TILES))):
            if asked not in there:
                raise unknown(name, asked, "this page", there)
        best = max(sheets, key=self._likeness, default=self.sheet)  # of equals the first
        return replace(self, method=best[0], objective=best[1], direction=best[2])

    def _likeness(self, sheet: tuple[str, str, str]) -> tuple[bool, ...]:
        return tuple(asked == there for asked, there in zip(self.sheet, sheet, strict=True))

    def number(self) -> Callable[[Row], float | None]:
        """What units are sorted by."""
        if self.sort in ("score", "natural"):
            return lambda row: self.visualization(row).get(self.sort)
        return lambda row: row.get(self.sort)  # of rows without scores, none

    def visualization(self, row: Row) -> Row:
        """What a row of `units` says of the picture in the sheet."""
        for each in row["visualizations"] or ():
            if (each["method"], each["objective"], str(each["direction"])) == self.sheet and not each["variant"]:
                found: Row = each
                return found
        return {}


def chosen(rows: Sequence[Row], choice: Choice) -> list[Row]:
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
    number = choice.number()
    return sorted(kept, key=lambda row: ((found := number(row)) is None, -(found or 0), row["unit"]))


def form(model: str, layer: str, rows: Sequence[Row], sheets: Sheets, choice: Choice) -> Markup:
    """Lens, objective and direction, sort, filter and size; what there is only one of is not asked."""
    methods = dict.fromkeys(method for method, _, _ in sheets)
    beside = [(objective, direction) for method, objective, direction in sheets if method == choice.method]
    several = len(set(methods) - set(text.SHEETS)) > 1
    asked: list[tuple[str, dict[str, str], str]] = [
        ("method", {each: _named(each, several) for each in methods}, "Pictures"),
        ("objective", {each: text.OBJECTIVES.get(each, each) for each, _ in beside}, "Objective"),
        ("direction", {each: text.direction(int(each)) for _, each in beside}, "Direction"),
        ("sort", {name: words for name, words in SORTS.items() if _sorts(rows, name)}, "Sort by"),
    ]
    for column in ("branch", "flag"):
        values = sorted({row[column] or NONE for row in rows})
        asked.append((column, {ANY: ANY, **{each: each for each in values}} if len(values) > 1 else {}, column.title()))
    asked.append(("tiles", TILES if sheets else {}, "Tiles"))
    fields = html("")
    for name, options, hint in asked:
        if len(options) > 1:
            fields += markup.choice(name, options, getattr(choice, name), hint, usual=getattr(Choice, name))
    if not fields:
        return NOTHING
    # a page without a path of its own is asked for by name
    kept = {"model": model, "layer": layer} if links.path(model).startswith("?") else {}
    return html(
        '<form class="filter" action="{}" method="get">{}{}<button>Show</button></form>',
        links.href(model, layer),
        markup.hidden(**kept),
        fields,
    )


def _sorts(rows: Sequence[Row], name: str) -> bool:
    """Whether units can be told apart by it."""
    number = Choice(sort=name).number()
    return name == "unit" or any(number(row) is not None for row in rows)


def _named(method: str, several: bool) -> str:
    if method in text.SHEETS:
        return text.SHEETS[method]
    return f"{text.MADE}, {text.METHODS.get(method, method)}" if several else text.MADE
