"""What the pages say as plain values, with links to pictures and pages: for JSON, the endpoints and MCP's tools."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

from microscope_atlas.atlas import lists as kept
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import (
    AtlasError,
    ExtraMissing,
    InvalidKey,
    NotRendered,
    UnknownName,
    WrongLevel,
    unknown,
)
from microscope_atlas.keys import Key, parse_key
from microscope_atlas.publish.cite import citation
from microscope_space import network_map, routes
from microscope_space.html import links, text
from microscope_space.pages import activation_atlas, groups, lists, unit_map
from microscope_space.pages.table import Rows
from microscope_space.pages.unit import per_unit
from microscope_space.search import meaning
from microscope_space.search.find import find as found_by
from microscope_space.search.given import exists

Record = dict[str, Any]
Query = Mapping[str, str]
# of a layer's units; what each unit's own record says
DROPPED = {"nearest", "nearest_elsewhere", "recipe", "weights_sha256", "software", "device"}

log = logging.getLogger(__name__)


def record(atlas: Atlas, asked: Query, path: str = "") -> tuple[Record, int]:
    """What the page at a link says, and its HTTP status; of a wrong link `error`, and in `nearest` what is near."""
    try:
        asked = routes.given(atlas, asked, path)
        return {"revision": atlas.revision, **_of(atlas, asked)}, 200
    except routes.Misled as error:
        asked, said = error.asked, error.error
    except (InvalidKey, UnknownName, WrongLevel, NotRendered) as error:
        said = error
    except ExtraMissing as error:  # as of a page: a search by meaning, which cannot be made here
        said = UnknownName(str(error))
    except AtlasError as error:
        return {"error": routes.public(error)}, 503
    near = [brief(atlas, key) for key in routes.nearest(atlas, asked)]
    return {"error": routes.sentence(str(said)), "nearest": near}, routes.status(atlas, asked, said)


def encoded(values: Any) -> bytes:
    """JSON; a number that is none, which JSON does not have, is null."""
    try:
        return json.dumps(values, allow_nan=False).encode()
    except ValueError:
        return json.dumps(_finite(values)).encode()


def brief(atlas: Atlas, key: Key) -> Record:
    """A key, with the links to its page and to a small picture."""
    page = links.href(key.model, key.layer, key.unit, revision=atlas.pin)
    return {"key": str(key), "page": page, "picture": links.thumbnail(key)}


def of_unit(atlas: Atlas, model: str, layer: str, unit: int) -> Record:
    """Rows of every table about a unit; UnknownName where it does not exist.

    Of a table that cannot be read there are none, and `lost` names it.
    """
    key = parse_key(f"{model}/{layer}/{unit}")
    if not exists(atlas, key):
        near = ", ".join(
            str(each) for each in routes.nearest(atlas, {"model": model, "layer": layer, "unit": str(unit)})
        )
        raise UnknownName(f"{key} is not in this atlas; nearest: {near}")
    told = Rows(atlas, key, tuple(per_unit(atlas)))
    rows = {
        table: [{name: value for name, value in row.items() if name != "embedding"} for row in found]
        for table, found in told.items()
    }
    return {**brief(atlas, key), "revision": atlas.revision, **_pictured(atlas, model, rows), **_lost(told)}


def of_layer(atlas: Atlas, model: str, layer: str) -> Record:
    """Rows of `units`, `sheets`, `deepdream` and `caricature` of a layer; UnknownName where it does not exist.

    Of a table that cannot be read there are none, and `lost` names it.
    """
    key = parse_key(f"{model}/{layer}")
    total = atlas.num_units(model, layer)
    outside = [name for name, table in atlas.outside.items() if table.level == "layer"]
    told = Rows(atlas, key, ("sheets", "deepdream", "caricature", *outside, "units"))
    units = [{name: value for name, value in row.items() if name not in DROPPED} for row in told["units"]]
    rows = {**told, "units": units}
    about = {**brief(atlas, key), "revision": atlas.revision, "num_units": total}
    return {**about, **_pictured(atlas, model, rows), **_lost(told)}


def _lost(told: Rows) -> Record:
    """The tables that cannot be read, if there are any."""
    return {"lost": sorted(told.lost)} if told.lost else {}


def of_model(atlas: Atlas, model: str) -> Record:
    """What is known of a network, and its layers from input to logits; UnknownName where it is not there."""
    layers = atlas.layers(model)
    listed = [{**brief(atlas, Key(model, name)), "num_units": units} for name, units in layers.items()]
    made = atlas.manifest.models[model]
    weights = {"weights_sha256": made["weights_sha256"], "license": made["provenance"]["license"]}
    return {**_named(atlas, model), **weights, "layers": listed}


def of_words(atlas: Atlas, words: str, by: str = "") -> Record:
    """What some words may mean; `by` meaning, the units that are nearest to them."""
    results = meaning.meant(atlas, words) if by == meaning.BY else found_by(atlas, words)
    found = [{**brief(atlas, each.key), "what": each.what} for each in results.found]
    return {"words": words, "found": found, "total": results.total, "nearest": results.nearest}


def _of(atlas: Atlas, asked: Query) -> Record:
    if "q" in asked:
        return of_words(atlas, asked["q"], asked.get("by", ""))
    view = "list" if asked.keys() & {"units", "list"} else asked.get("view")
    if view is not None:
        if view not in VIEWS:
            raise unknown("view", view, "what is read", VIEWS)
        return VIEWS[view](atlas, asked)
    key = routes.key_of(asked)
    if key is None:
        return {"models": [_named(atlas, model) for model in atlas.models]}
    if key.layer is None:
        return of_model(atlas, key.model)
    if key.unit is None:
        return of_layer(atlas, key.model, key.layer)
    return of_unit(atlas, key.model, key.layer, key.unit)


def _named(atlas: Atlas, model: str) -> Record:
    """A network in a few facts."""
    known, layers = atlas.organism(model), atlas.layers(model)
    about = {name: getattr(known, name, None) for name in ("title", "year", "dataset", "paper", "input_size")}
    return {**brief(atlas, Key(model)), **about, "num_layers": len(layers), "num_units": sum(layers.values())}


def _compared(atlas: Atlas, asked: Query) -> Record:
    """Two units, each as alone."""
    keys = {name: parse_key(asked[name]) for name in ("a", "b") if name in asked}
    for key in keys.values():
        if key.layer is None or key.unit is None:
            raise UnknownName(f"{key} is no unit; expected model/layer/unit")
    return {name: of_unit(atlas, key.model, str(key.layer), key.unit or 0) for name, key in keys.items()}


def _listed(atlas: Atlas, asked: Query) -> Record:
    """The list that a link names or holds, or the names of those that there are."""
    if "list" not in asked and "units" not in asked:
        names = kept.names(atlas.storage)
        return {"lists": [{"list": name, "page": links.href(list=name)} for name in names]}
    units = kept.read(atlas.storage, asked["list"]) if "list" in asked else lists.given(atlas, asked)
    keys = {entry.key: lists.unit_of(atlas, entry) for entry in units.units}
    entries = [
        {"key": entry.key, "note": entry.note, "in_atlas": key is not None, **(brief(atlas, key) if key else {})}
        for entry in units.units
        for key in [keys[entry.key]]
    ]
    return {"title": units.title, "about": units.about, "units": entries}


def _about(atlas: Atlas, asked: Query) -> Record:
    """What the atlas is, and what it is made from."""
    weights = {name: made["provenance"] for name, made in sorted(atlas.manifest.models.items())}
    cited = citation(atlas.called, atlas.manifest, atlas.release, atlas.commit, None, atlas.identity)
    about = {"about": text.ABOUT, "rows": atlas.num_rows, "software": list(atlas.every_software)}
    return {**about, "weights": weights, "citation": cited}


def _grouped(atlas: Atlas, asked: Query) -> Record:
    """The groups of a layer."""
    key, rows = groups.there(atlas, routes.key_of(asked))
    return {**brief(atlas, key), **_pictured(atlas, key.model, {groups.VIEW: rows})}


def _mapped(atlas: Atlas, asked: Query) -> Record:
    """Where a layer's units lie on its map, or what a part of a network's map shows."""
    key = routes.key_of(asked)
    if key is not None and key.layer is None:
        return _part(atlas, key.model, asked.get("part"))
    key, rows, total = unit_map.there(atlas, key)
    units = [{"unit": row["unit"], "x": row["layer_map"]["x"], "y": row["layer_map"]["y"]} for row in rows]
    trusted = rows[0]["layer_map"]["trustworthiness"] if rows else None
    return {**brief(atlas, key), "num_units": total, "trustworthiness": trusted, "units": units}


def _part(atlas: Atlas, model: str, asked: str | None) -> Record:
    """The cells of a part of a network's map that units lie in: the one shown, and the part that all of them are in."""
    total = sum(atlas.layers(model).values())
    part = network_map.part_of(asked)
    placed = network_map.placed(atlas, model)
    cells = [
        {
            "row": cell.row,
            "column": cell.column,
            "num_units": cell.num_units,
            **brief(atlas, Key(model, cell.layer, cell.unit)),
            "part": str(nearer) if (nearer := part.nearer(cell.row, cell.column)) else None,
        }
        for cell in network_map.cells(placed, part)
    ]
    about = {"num_units": total, "num_placed": len(placed.unit), "trustworthiness": placed.trustworthiness}
    return {**brief(atlas, Key(model)), **about, "part": str(part), "grid": network_map.GRID, "cells": cells}


def _atlas_of(atlas: Atlas, asked: Query) -> Record:
    """The cells of a layer's activation atlas at a zoom, or the one that is asked for."""
    view = activation_atlas
    key, zooms, at, rows = view.there(atlas, asked.get("model", ""), asked.get("layer", ""), asked.get("zoom"))
    if "cell" in asked:
        rows = [dict(view.cell_of(key, rows, asked["cell"]))]
    told = [{name: value for name, value in row.items() if name not in DROPPED | {"mean"}} for row in rows]
    about = {"zooms": zooms, "zoom": at, "map_url": links.map(key, zoom=at)}
    return {**brief(atlas, key), **about, **_pictured(atlas, key.model, {view.VIEW: told})}


VIEWS: dict[str, Callable[[Atlas, Query], Record]] = {
    "compare": _compared,
    "list": _listed,
    "about": _about,
    groups.VIEW: _grouped,
    unit_map.VIEW: _mapped,
    activation_atlas.VIEW: _atlas_of,
}


def _pictured(atlas: Atlas, model: str, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Record:
    """Rows by table; beside the name of each picture, the link to it."""
    found: Record = {}
    for table, own in rows.items():
        images = atlas.manifest.table(table).images
        found[table] = [
            row | {f"{each}_url": links.image(table, model, row[each], each) for each in images if row.get(each)}
            for row in map(dict, own)
        ]
    return found


def _finite(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _finite(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return values if not isinstance(values, float) or isfinite(values) else None
