"""The plain routes of the Space as OpenAPI 3.1 describes them: every page as JSON, pictures, and cards."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.atlas.tables import IMAGE, Table
from microscope_space.html import text
from microscope_space.pages.unit import per_unit

Plain = dict[str, Any]

PARTS = {
    "model": "a network, for example inceptionv1",
    "layer": "a layer of it, for example mixed4c",
    "unit": "a channel or neuron, from 0",
}
ASKED = {
    "q": "words to search for; a key or a link is opened",
    "by": "of a search: meaning, where the atlas has embeddings and their CLIP is at hand",
    "view": "compare, list, about, map, groups or activation_atlas",
    "a": "of compare: the key of a unit",
    "b": "of compare: the key of another",
    "units": "of list: keys, with commas between them",
    "list": "of list: the name of one that the atlas has",
}
PICTURE = {
    "table": "the table that has the picture",
    "model": "a network",
    "name": "the picture's name, as in a row",
    "column": "the column, image where none is named",
}
LINK: Plain = {"type": "string", "format": "uri-reference"}
STRING: Plain = {"type": "string"}
NUMBER: Plain = {"type": "integer", "minimum": 0}


def description(atlas: Atlas, address: str) -> Plain:
    """The whole document, for the Space at `address`."""
    layers = ["sheets", "deepdream", "caricature", "units"]
    layers += [name for name, table in atlas.outside.items() if table.level == "layer"]
    units = per_unit(atlas)
    brief = {"key": STRING, "page": LINK, "picture": LINK}
    return {
        "openapi": "3.1.0",
        "info": {"title": text.TITLE, "version": atlas.version, "description": text.ABOUT},
        "servers": [{"url": address.rstrip("/") or "/"}],
        "paths": {
            "/json": {"get": _told("The networks; or a search, a comparison, a list", "Any", _asked(ASKED, False))},
            "/json/{model}": {"get": _told("A network and its layers", "Model", _parts("model"))},
            "/json/{model}/{layer}": {"get": _told("A layer and its units", "Layer", _parts("model", "layer"))},
            "/json/{model}/{layer}/{unit}": {"get": _told("All rows about a unit", "Unit", _parts(*PARTS))},
            "/picture": {"get": _shown("A picture of the atlas", "image/*", _asked(PICTURE, True))},
            "/thumbnail/{model}/{layer}/{unit}": {"get": _shown("A unit's small picture", "image/*", _parts(*PARTS))},
            "/embed/{model}/{layer}/{unit}": {"get": _shown("A card to frame", "text/html", _parts(*PARTS))},
        },
        "components": {
            "schemas": {
                "Any": {"type": "object"},
                "Brief": _object(brief, brief),
                "Model": _object(
                    {**brief, "title": _or_null(STRING), "num_units": NUMBER, "layers": _list_of(_ref("Brief"))}, brief
                ),
                "Layer": _object({**brief, "num_units": NUMBER, **_rows(layers)}, brief),
                "Unit": _object({**brief, **_rows(units)}, brief),
                "Error": _object({"error": STRING, "nearest": _list_of(_ref("Brief"))}, ["error"]),
                **{_row(name): _columns(atlas.manifest.table(name)) for name in dict.fromkeys((*layers, *units))},
            }
        },
    }


def _told(summary: str, schema: str, parameters: list[Plain]) -> Plain:
    wrong = {"content": {"application/json": {"schema": _ref("Error")}}}
    return {
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": summary, "content": {"application/json": {"schema": _ref(schema)}}},
            "400": {"description": "The link makes no sense", **wrong},
            "404": {"description": "It is not in the atlas", **wrong},
            "503": {"description": "Its rows cannot be read just now", **wrong},
        },
    }


def _shown(summary: str, kind: str, parameters: list[Plain]) -> Plain:
    return {
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": summary, "content": {kind: {}}},
            "404": {"description": "It is not in the atlas"},
        },
    }


def _parts(*names: str) -> list[Plain]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": PARTS[name],
            "schema": NUMBER if name == "unit" else STRING,
        }
        for name in names
    ]


def _asked(named: Mapping[str, str], required: bool) -> list[Plain]:
    return [
        {
            "name": name,
            "in": "query",
            "required": required and name != "column",
            "description": meaning,
            "schema": STRING,
        }
        for name, meaning in named.items()
    ]


def _rows(names: list[str]) -> Plain:
    return {name: _list_of(_ref(_row(name))) for name in names}


def _row(table: str) -> str:
    """The name of a row's schema: `FeatureVisualization`."""
    return "".join(part.title() for part in table.replace("-", "_").split("_"))


def _columns(table: Table) -> Plain:
    """A row: its columns with their meanings, and the links to its pictures."""
    columns = {column.name: {**_or_null(_type(column.type)), "description": column.meaning} for column in table.columns}
    return _object({**columns, **{f"{name}_url": LINK for name in table.images}}, ())


def _type(kind: pa.DataType) -> Plain:
    if kind == IMAGE:
        return STRING  # its name
    if pa.types.is_struct(kind):
        return _object({field.name: _or_null(_type(field.type)) for field in kind}, ())
    if pa.types.is_list(kind):
        return _list_of(_or_null(_type(kind.value_type)))
    if pa.types.is_boolean(kind):
        return {"type": "boolean"}
    if pa.types.is_integer(kind):
        return {"type": "integer"}
    return {"type": "number"} if pa.types.is_floating(kind) else STRING


def _or_null(schema: Plain) -> Plain:
    return {**schema, "type": [schema["type"], "null"]}


def _object(properties: Mapping[str, Any], required: Mapping[str, Any] | list[str] | tuple[str, ...]) -> Plain:
    return {"type": "object", "properties": dict(properties), "required": list(required)}


def _list_of(schema: Plain) -> Plain:
    return {"type": "array", "items": schema}


def _ref(name: str) -> Plain:
    return {"$ref": f"#/components/schemas/{name}"}
