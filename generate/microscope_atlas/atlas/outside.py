"""Tables of lenses from outside, as a manifest describes them: an atlas is read without the code that made it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import pyarrow as pa

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.tables import IMAGE, Column, Level, Scope, Table, feature, list_of
from microscope_atlas.keys import LAYER
from microscope_atlas.structure import PRINTABLE, matching, structure

Name = Annotated[str, matching(LAYER, "letters, digits and underscores")]
Words = Annotated[str, PRINTABLE]

NUMBERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
DTYPES = {name: pa.type_for_alias(name) for name in (*NUMBERS, "bool", "string", "binary")}


@dataclass(frozen=True)
class PlainColumn:
    """A column, as JSON has it."""

    name: Name
    type: Any  # as in the head of a dataset card
    meaning: Words
    key: bool = False
    descending: bool = False
    optional: bool = False
    order: tuple[Words, ...] = ()


@dataclass(frozen=True)
class PlainTable:
    """A table, as JSON has it."""

    lens: Words  # what the lens was called on the command line: `own:PACKAGE.MODULE.LENS`
    title: Words
    about: Words
    columns: tuple[PlainColumn, ...]
    level: Level
    rows: int | None  # of a unit, or of a layer, with the atlas' settings; None: it depends
    reads: Mapping[Name, Scope] = field(default_factory=dict)
    shows_pictures: bool = False


def described(table: Table, lens: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A table for a manifest, of the lens that is called so, with its settings."""
    columns = [
        {
            "name": column.name,
            "type": feature(column.type),
            "meaning": column.meaning,
            **{flag: True for flag in ("key", "descending", "optional") if getattr(column, flag)},
            **({"order": list(column.order)} if column.order else {}),
        }
        for column in table.columns
    ]
    return {
        "lens": lens,
        "title": table.title,
        "about": table.about,
        "columns": columns,
        "level": table.level,
        "rows": table.count(settings),
        "reads": dict(table.reads),
        "shows_pictures": table.shows_pictures,
    }


def table(name: str, plain: Any) -> Table:
    """The table that a manifest describes; ValueError where it describes none."""
    told = structure(PlainTable, plain, name)
    columns = [
        Column(c.name, type_of(c.type, f"{name}.{c.name}"), c.meaning, c.key, c.descending, c.optional, c.order)
        for c in told.columns
    ]
    made = Table(
        name,
        told.about,
        tuple(columns),
        told.level,
        told.reads,
        count=lambda _: told.rows,
        title=told.title,
        shows_pictures=told.shows_pictures,
    )
    refuse_unfit(made)
    return made


def type_of(plain: Any, at: str) -> pa.DataType:
    """A column's type, from what the head of a dataset card says: see tables.feature. ValueError where that is none."""
    if isinstance(plain, str):
        plain = {"dtype": plain}
    if isinstance(plain, list):
        plain = {"struct": plain}
    if plain == {"dtype": "image"}:
        return IMAGE
    if isinstance(plain, dict) and plain.keys() == {"list"}:
        return list_of(type_of(plain["list"], at))
    if isinstance(plain, dict) and plain.keys() == {"struct"} and isinstance(plain["struct"], list):
        return pa.struct([_field(each, at) for each in plain["struct"]])
    if isinstance(plain, dict) and plain.keys() == {"dtype"} and plain["dtype"] in DTYPES:
        return DTYPES[plain["dtype"]]
    raise ValueError(f"{at} has a type that is none; expected image, {', '.join(DTYPES)}, or lists and structs of them")


def _field(plain: Any, at: str) -> pa.Field:
    if not isinstance(plain, dict) or not isinstance(plain.get("name"), str):
        raise ValueError(f"{at} has a struct with a field that has no name")
    rest = {key: value for key, value in plain.items() if key != "name"}
    return pa.field(plain["name"], type_of(rest, f"{at}.{plain['name']}"))


def refuse_unfit(table: Table) -> None:
    """ValueError for a table that cannot stand beside ours in an atlas."""
    if not LAYER.fullmatch(table.name):
        raise ValueError(f"table {table.name!r}; expected letters, digits and underscores")
    if table.name in schema.TABLES or schema.GIVEN_LABELS.fullmatch(table.name):
        raise ValueError(f"table {table.name!r} is one of this package's own; give it another name")
    if table.name in table.reads:
        raise ValueError(f"table {table.name} reads itself; expected tables that other lenses make")
    names = [column.name for column in table.columns]
    if len(set(names)) < len(names):
        raise ValueError(f"table {table.name} has two columns of one name")
    keys = schema.UNIT_KEY if table.level == "unit" else schema.LAYER_KEY
    head = [(column.name, column.type) for column in table.keys[: len(keys)]]
    if head != [(column.name, column.type) for column in keys] or (table.level == "layer" and "unit" in names):
        raise ValueError(
            f"table {table.name} is about a {table.level}; its first columns are to be "
            f"{'UNIT_KEY' if table.level == 'unit' else 'LAYER_KEY'} of microscope_atlas.atlas.schema"
        )
    there = {column.name: column.type for column in table.columns}
    if lacking := [column.name for column in schema.PROVENANCE if there.get(column.name) != column.type]:
        raise ValueError(
            f"table {table.name} does not say {', '.join(lacking)} of its rows; its last columns are to be "
            "PROVENANCE of microscope_atlas.atlas.schema"
        )
    for column in table.columns:
        if not LAYER.fullmatch(column.name):
            raise ValueError(f"column {column.name!r} of {table.name}; expected letters, digits and underscores")
        type_of(feature(column.type), f"{table.name}.{column.name}")
        if (column.type == IMAGE and not column.optional) or (column.key and column.optional):
            raise ValueError(f"column {column.name} of {table.name}: images are optional, and keys are not")
        if column.descending and feature(column.type).get("dtype") not in NUMBERS:
            raise ValueError(f"column {column.name} of {table.name} is no number, and cannot be descending")
