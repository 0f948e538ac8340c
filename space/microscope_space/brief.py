"""Units and layers in brief, for readers who pay by the word."""

from collections.abc import Iterable, Mapping
from typing import Any

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasDamaged, UnknownName
from microscope_atlas.keys import Key
from microscope_space.answers import kind
from microscope_space.html import links
from microscope_space.pages.glance import best
from microscope_space.pages.table import Rows
from microscope_space.pages.unit import PER_UNIT, main_image
from microscope_space.records import brief
from microscope_space.thumbnail import thumbnail

SAMPLES, WIRES, NEAR, WORDS, STRONGEST = 4, 5, 5, 5, 10
Row = Mapping[str, Any]
Record = dict[str, Any]


def brief_unit(atlas: Atlas, key: Key) -> Record:
    """A unit that is in the atlas: some 2 KB as JSON; what the atlas has no rows for is left out."""
    rows = Rows(atlas, key, PER_UNIT)
    about: Row = next(iter(rows["units"]), {})
    natural = {_which(each): each["natural"] for each in about.get("visualizations") or ()}
    told = {
        **brief(atlas, key),
        "class": about.get("class_name"),
        "flag": about.get("flag"),
        "statistics": {name: _short(about.get(name)) for name in ("mean", "maximum", "sparsity")} if about else None,
        "made": [
            {
                **{name: row[name] for name in ("method", "objective", "direction")},
                "score": _short(row["score"]),
                "times_natural": _short(natural.get(_which(row))),
                "picture": links.image("feature_visualization", key.model, row["image"]),
            }
            for row in rows["feature_visualization"]
            if row["image"] and not row["variant"]
        ],
        "samples": [
            {
                "activation": _short(row["activation"]),
                "picture": links.image("dataset_samples", key.model, row["image"]),
            }
            for row in best(rows["dataset_samples"])[:SAMPLES]
        ],
        "tuning": {
            row["family"]: {
                "peak": _short(row["peak"]),
                row["x_axis"]: _short(row["preferred_x"]),
                row["y_axis"]: _short(row["preferred_y"]),
            }
            for row in rows["synthetic_tuning"]
        },
        "connections": _wired(key, rows["connections"]),
        "labels": [
            {**{name: row[name] for name in ("label", "method", "source", "license")}, "score": _short(row["score"])}
            for row in rows["labels"]
        ][:WORDS],
        "texts": [row["text"] for row in rows["texts"] if row["text"]][:WORDS],
        "nearest": [
            {"key": "{model}/{layer}/{unit}".format_map(each), "correlation": _short(each["correlation"])}
            for column in ("nearest", "nearest_elsewhere")
            for each in (about.get(column) or ())[:NEAR]
        ],
    }
    return {name: value for name, value in told.items() if value not in (None, [], {})}


def brief_layer(atlas: Atlas, key: Key) -> Record:
    """A layer that is in the atlas: the units whose activations are strongest, and its deepdreams."""
    assert key.layer is not None
    units = atlas.units(key.model, ("unit", "maximum", "class_name"), key.layer).to_pylist()
    known = sorted((row for row in units if row["maximum"] is not None), key=lambda row: -row["maximum"])
    strongest = [
        {"key": f"{key}/{row['unit']}", "maximum": _short(row["maximum"]), "class": row["class_name"]}
        for row in known[:STRONGEST]
    ]
    layers = list(atlas.layers(key.model))
    at = layers.index(key.layer)
    dreams = (row["image"] for row in atlas.rows("deepdream", key.model, key.layer) if row["image"])
    return {
        **brief(atlas, key),
        "num_units": atlas.num_units(key.model, key.layer),
        "num_rendered": len(atlas.units_there(key.model, key.layer)),
        "before": layers[at - 1] if at else None,
        "after": layers[at + 1] if at + 1 < len(layers) else None,
        "strongest": strongest,
        "deepdreams": [links.image("deepdream", key.model, name) for name in dreams],
    }


def picture_of(atlas: Atlas, key: Key) -> tuple[bytes, str]:
    """The encoded picture of a unit as large as it is, or of a layer or network, and its media type.

    UnknownName where there is none.
    """
    content = None
    if key.unit is not None:
        made = main_image(Rows(atlas, key, ("feature_visualization",))["feature_visualization"])
        content = atlas.image("feature_visualization", key.model, made["image"]) if made else None
    content = content or thumbnail(atlas, key)
    if content is None:
        raise UnknownName(f"this atlas has no picture of {key}")
    if not (found := kind(content)).startswith("image/"):
        raise AtlasDamaged(f"the picture of {key} is none")
    return content, found


def _wired(key: Key, rows: Iterable[Row]) -> Record:
    """The strongest connections: `excited by blocks_5` -> units."""
    found: dict[str, list[int]] = {}
    for row in rows:
        verb = "excited by" if row["sign"] > 0 else "inhibited by"
        verb = verb if row["towards"] == "input" else "excites" if row["sign"] > 0 else "inhibits"
        found.setdefault(f"{verb} {key.model}/{row['other_layer']}", []).append(row["other_unit"])
    return {name: units[:WIRES] for name, units in found.items()}


def _which(row: Row) -> tuple[str, str, int, int]:
    return row["method"], row["objective"], row["direction"], row["variant"]


def _short(value: float | None) -> float | None:
    """Four figures."""
    return None if value is None else float(f"{value:.4g}")
