"""Lists: units side by side with what is said of each and the connections among them, of a link or of the atlas."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from microscope_atlas.atlas import lists as kept
from microscope_atlas.atlas.lists import MOST_UNITS, Entry, UnitList
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError, InvalidKey, UnknownName
from microscope_atlas.keys import Key
from microscope_atlas.publish.cite import cite_list, space_url
from microscope_space.html import links, markup, papers, plots, text
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.pages.frame import Page
from microscope_space.pages.table import Rows, shown
from microscope_space.pages.unit import main_image, sample
from microscope_space.search.given import exists, key_of

Query = Mapping[str, str]
TABLES = ("feature_visualization", "dataset_samples", "connections")
SAMPLES = 4  # of a unit
BETWEEN = "|"  # the sentences of a link
TITLE = "A list of units"


class Wire(NamedTuple):
    """A connection between two units of a list."""

    start: Key
    end: Key
    row: Mapping[str, Any]  # of `connections`

    @property
    def verb(self) -> str:
        return "excites" if self.row["sign"] > 0 else "inhibits"


def lists(atlas: Atlas, asked: Query) -> Page:
    """The list that a link names or holds; without either, those that the atlas has.

    UnknownName where it has none of this name, AtlasDamaged where that cannot be read; InvalidKey for a link with too
    many units. A unit that is not in the atlas is said to be none where it would stand.
    """
    if units := asked_for(atlas, asked):
        return _list(atlas, units, asked.get("list"))
    there = joined(_listed(atlas, name) for name in kept.names(atlas.storage))
    body = html(
        '<h1 tabindex="-1">Lists</h1><p class="about">{}</p>{}{}',
        text.LISTS,
        html('<ul class="found">{}</ul>', there) if there else markup.absent("This atlas has no lists."),
        _form(UnitList(TITLE, ())),
    )
    return Page("Lists", body, text.LISTS, view="list")


def asked_for(atlas: Atlas, asked: Query) -> UnitList | None:
    """The list that a link names or holds; None where it does neither. Raises as `lists` does."""
    if "list" in asked:
        return kept.read(atlas.storage, asked["list"])
    return given(atlas, asked) if "units" in asked else None


def given(atlas: Atlas, asked: Query) -> UnitList:
    """The list that a link holds: its keys between commas, its sentences between bars, in their order."""
    keys = list(dict.fromkeys(key.strip() for key in asked["units"].split(",") if key.strip()))
    if not 1 <= len(keys) <= MOST_UNITS:
        raise InvalidKey(f"a list of {len(keys)} units; expected 1 to {MOST_UNITS}")
    notes = [note.strip() for note in asked.get("notes", "").split(BETWEEN)]
    notes += [""] * len(keys)
    now = [str(key_of(atlas, key) or key) for key in keys]  # a layer may have its name of OpenAI Microscope
    entries = tuple(Entry(key, note) for key, note in zip(now, notes, strict=False))
    return UnitList(asked.get("title", TITLE), entries, asked.get("about", ""))


def wires(rows: Mapping[Key, Sequence[Mapping[str, Any]]]) -> list[Wire]:
    """The connections among units, by the rows of `connections` of each; each once, the strongest first."""
    found: dict[tuple[Key, Key, int], Wire] = {}
    for key, own in rows.items():
        for row in own:
            other = Key(key.model, row["other_layer"], row["other_unit"])
            if other in rows:
                start, end = (other, key) if row["towards"] == "input" else (key, other)
                found.setdefault((start, end, row["sign"]), Wire(start, end, row))
    return sorted(found.values(), key=lambda wire: (-wire.row["strength"], wire.start, wire.end))


def _list(atlas: Atlas, units: UnitList, name: str | None) -> Page:
    rows = {key: Rows(atlas, key, TABLES) for entry in units.units if (key := unit_of(atlas, entry)) is not None}
    among = wires({key: own["connections"] for key, own in rows.items()})
    body = html(
        '<h1 tabindex="-1">{}</h1>{}<div class="lineup">{}</div>{}{}{}',
        units.title,
        html('<p class="lead">{}</p>', units.about) if units.about else NOTHING,
        joined(_column(atlas, at, entry, rows) for at, entry in enumerate(units.units)),
        _among(atlas, among, len(rows)),
        _use(atlas, units, among, name),
        _form(units),
    )
    asked: dict[str, Any] = {"list": name} if name else _asked(units)
    return Page(units.title, body, units.about or text.LISTS, view="list", asked=asked, status=200 if rows else 404)


def unit_of(atlas: Atlas, entry: Entry) -> Key | None:
    """The unit of an entry; None where the atlas has no such."""
    try:
        key = entry.unit
    except InvalidKey:
        return None
    return key if exists(atlas, key) else None


def _column(atlas: Atlas, at: int, entry: Entry, rows: Mapping[Key, Rows]) -> Markup:
    """A unit: its picture, its best samples, and what is said of it."""
    note = html("<p>{}</p>", entry.note) if entry.note else NOTHING
    key = unit_of(atlas, entry)
    if key is None:
        try:
            raise UnknownName(f"{entry.unit} is not in this atlas")
        except AtlasError as error:
            return html('<section aria-label="{}">{}{}</section>', entry.key, markup.error(str(error)), note)
    own = rows[key]
    return html(
        '<section aria-labelledby="unit-{}"><h2 id="unit-{}">{}</h2>{}{}{}</section>',
        at,
        at,
        _linked(key),
        note,
        shown(f"made-{at}", atlas.manifest.table(TABLES[0]), own[TABLES[0]], lambda: _picture(key, own)),
        shown(f"seen-{at}", atlas.manifest.table(TABLES[1]), own[TABLES[1]], lambda: _seen(atlas, key, own)),
    )


def _picture(key: Key, rows: Rows) -> Markup:
    made = main_image(rows["feature_visualization"])
    if not made:
        return rows.none("feature_visualization", str(key))
    src = links.image("feature_visualization", key.model, made["image"])
    return markup.picture(src, f"{key}: what excites it", 224)


def _seen(atlas: Atlas, key: Key, rows: Rows) -> Markup:
    known = atlas.organism(key.model)
    best = sorted((row for row in rows["dataset_samples"] if row["bucket"] == "top"), key=lambda row: row["rank"])
    samples = joined(sample(key, row, known.input_size if known else None) for row in best[:SAMPLES])
    return html('<div class="figures small">{}</div>', samples)


def _among(atlas: Atlas, among: Sequence[Wire], num_units: int) -> Markup:
    """The connections, with their kernels."""
    if num_units < 2:
        return NOTHING
    largest = max((abs(weight) for wire in among for line in wire.row["kernel"] for weight in line), default=1.0) or 1.0

    def drawn() -> Markup:
        items = joined(
            html(
                "<li>{}<span>{} {} {}<small>weights {} in sum</small></span></li>",
                plots.kernel(wire.row, largest),
                _linked(wire.start),
                wire.verb,
                _linked(wire.end),
                markup.number(wire.row["weight"]),
            )
            for wire in among
        )
        body = html('<ul class="among">{}</ul>', items) if items else markup.absent(text.NOT_AMONG)
        return markup.section("among", "Connections among them", body, text.AMONG, text.CONNECTIONS_WARNING)

    return shown("among", atlas.manifest.table("connections"), [wire.row for wire in among], drawn)


def _linked(key: Key) -> Markup:
    return html('<a href="{}">{}</a>', links.href(key.model, key.layer, key.unit), markup.breakable(str(key)))


def _use(atlas: Atlas, units: UnitList, among: Sequence[Wire], name: str | None) -> Markup:
    """Link, citation and text for papers, to take away."""
    space = atlas.release.space if atlas.release else None

    def link(key: Key) -> str:
        if space:
            return space_url(space, key, atlas.pin)
        return f"{links.address()}{links.path(key.model, key.layer, key.unit, revision=atlas.pin)}"

    own = UnitList(units.title, tuple(each for each in units.units if unit_of(atlas, each)), units.about)
    told = [(wire.start, wire.verb, wire.end) for wire in among]
    taken = {
        "Markdown": papers.markdown(own, told, link, atlas.revision),
        "LaTeX": papers.latex(own, told, link, atlas.revision),
        "Cite": cite_list(atlas.called, atlas.manifest, atlas.release, atlas.commit, name) if name else "",
    }
    blocks = joined(
        html(
            '<details><summary>{}</summary><button type="button" data-copy>Copy</button>'
            '<pre tabindex="0">{}</pre></details>',
            what,
            content,
        )
        for what, content in taken.items()
        if content
    )
    asked: dict[str, Any] = {"list": name} if name else _asked(units)
    here = links.href(view="list", **asked, revision=atlas.pin)
    copied = html(
        '<p class="buttons"><a class="button" data-link href="{}">Copy link</a>'
        '<a class="button" href="{}" download="{}.jpg">Save as an image</a></p>{}',
        here,
        links.figure(**asked),
        name or "list",
        blocks,
    )
    return markup.section("use", "Share, cite", copied)


def _asked(units: UnitList) -> dict[str, str]:
    """What a link says that holds a list."""
    asked = {
        "units": ",".join(entry.key for entry in units.units),
        "title": units.title if units.title != TITLE else "",
        "about": units.about,
        "notes": _notes(units),
    }
    return {name: value for name, value in asked.items() if value}


def _form(units: UnitList) -> Markup:
    """A list of one's own, or a change of this one."""
    keys = ", ".join(entry.key for entry in units.units)
    title = units.title if units.units else ""
    fields = joined(
        html('<label>{} <input name="{}" value="{}" placeholder="{}" maxlength="{}"></label>', *field)
        for field in (
            ("Units", "units", keys, "inceptionv1/mixed4c/447, inceptionv1/mixed4b/373", 4000),
            ("Title", "title", title, "A car, of a wheel and a window", 250),
            ("About", "about", units.about, "what they have in common", 1000),
            ("Notes", "notes", _notes(units), "a car | a wheel", 4000),
        )
    )
    form = html(
        '<form class="filter stacked" action="{}" method="get">{}{}<button>Show</button></form>',
        links.root(),
        markup.hidden(view="list"),
        fields,
    )
    return markup.section("own", "A list of your own", form, text.OWN_LIST)


def _notes(units: UnitList) -> str:
    """The sentences as a link holds them; nothing where there are none."""
    notes = f" {BETWEEN} ".join(entry.note.replace(BETWEEN, "/") for entry in units.units)
    return notes if notes.strip(f" {BETWEEN}") else ""


def _listed(atlas: Atlas, name: str) -> Markup:
    """A list of the atlas, by its title; by its name where it cannot be read."""
    try:
        units = kept.read(atlas.storage, name)
    except AtlasError:
        said, title = "cannot be read", name
    else:
        said, title = f"{len(units.units)} units. {units.about}", units.title
    link = links.href(view="list", list=name)
    return html('<li><a href="{}">{}</a> <small>{}</small></li>', link, title, said)
