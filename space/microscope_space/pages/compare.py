"""Two units side by side."""

from html import escape

import numpy as np

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError, UnknownName
from microscope_atlas.keys import Key, parse_key
from microscope_space.html import links, markup, plots, text
from microscope_space.pages import frame as page
from microscope_space.pages import unit

TOP = 8  # samples shown of each


def compare(atlas: Atlas, a: str, b: str) -> str:
    """The units with keys `a` and `b`; an empty one is asked for, and of a wrong one it is said what is wrong."""
    columns = "".join(_column(atlas, name, key) for name, key in (("a", a), ("b", b)))
    form = (
        f'<form class="filter" action="?" method="get">{markup.hidden(view="compare")}'
        f'<label>First <input name="a" value="{escape(a)}" placeholder="model/layer/unit" maxlength="256"></label>'
        f'<label>Second <input name="b" value="{escape(b)}" placeholder="model/layer/unit" maxlength="256"></label>'
        "<button>Compare</button></form>"
    )
    body = (
        '<h1 tabindex="-1">Compare</h1><p class="about">Two units, of one network or of two, side by side. A unit is '
        f'named by its key, as on its page.</p>{form}{_alike(atlas, a, b)}<div class="pair">{columns}</div>'
    )
    return page.frame(atlas, "Compare", body, view="compare")


def _unit(atlas: Atlas, text: str) -> tuple[str, str, int]:
    """Model, layer and unit of a key that is in the atlas."""
    key = parse_key(text)
    if key.layer is None or key.unit is None:
        raise UnknownName(f"{key} is no unit; expected model/layer/unit")
    total = atlas.num_units(key.model, key.layer)
    if key.unit >= total:
        raise UnknownName(f"unit {key.unit} is not in {key.model}/{key.layer}; it has 0 to {total - 1}")
    return key.model, key.layer, key.unit


def _column(atlas: Atlas, name: str, asked: str) -> str:
    if not asked:
        return f'<section aria-label="Unit {name}">{markup.absent("Choose a unit by its key.")}</section>'
    try:
        model, layer, number = _unit(atlas, asked)
    except AtlasError as error:
        return f'<section aria-label="Unit {name}"><p class="error" role="alert">{escape(str(error))}</p></section>'
    key = Key(model, layer, number)
    made = [row for row in atlas.rows("feature_visualization", model, layer, number) if row["image"]]
    alone = [row for row in made if not row["variant"] and row["method"] == "fourier"]
    pictures = "".join(
        markup.figure(
            markup.picture(
                links.image("feature_visualization", model, row["image"]),
                f"{key}: {row['objective']} {text.DIRECTIONS[row['direction']]}",
                160,
            ),
            f"{text.OBJECTIVES.get(row['objective'], row['objective'])}, {text.DIRECTIONS[row['direction']]}",
            f"score {markup.number(row['score'])}",
        )
        for row in alone
    ) or markup.absent(text.not_rendered("feature_visualization", str(key)))
    known = atlas.organism(model)
    samples = "".join(
        unit.sample(key, row, known.input_size if known else None)
        for row in sorted(atlas.rows("dataset_samples", model, layer, number), key=lambda row: row["rank"])
        if row["bucket"] == "top" and row["rank"] < TOP
    ) or markup.absent(text.not_rendered("dataset_samples", str(key)))
    tuning = "".join(
        f"<h3>{escape(row['family'].capitalize())}</h3>{plots.heat(row)}"
        for row in atlas.rows("synthetic_tuning", model, layer, number)
    ) or markup.absent(text.not_rendered("synthetic_tuning", str(key)))
    return (
        f'<section aria-labelledby="unit-{name}"><h2 id="unit-{name}"><a href="{links.href(model, layer, number)}">'
        f'{markup.breakable(str(key))}</a></h2><div class="figures">{pictures}</div><h3>Strongest samples</h3>'
        f'<div class="figures small">{samples}</div>{tuning}{_against(atlas, name, key)}</section>'
    )


def _against(atlas: Atlas, name: str, key: Key) -> str:
    """The nearest units, to compare with instead."""
    assert key.layer is not None
    rows = atlas.rows("units", key.model, key.layer, key.unit)
    near = [each for row in rows for column in ("nearest", "nearest_elsewhere") for each in row[column]]
    tiles = ""
    for each in near:
        found = f"{each['model']}/{each['layer']}/{each['unit']}"
        a, b = (str(key), found) if name == "a" else (found, str(key))
        link = links.href(view="compare", a=a, b=b)
        tiles += f'<li><a href="{link}">{escape(found)}</a> <small>{each["correlation"]:.2f}</small></li>'
    return f'<h3>Most alike: compare with</h3><ul class="found">{tiles}</ul>' if tiles else ""


def _alike(atlas: Atlas, a: str, b: str) -> str:
    """How their responses to the same natural pictures are correlated, where both are known."""
    try:
        rows = [atlas.rows("responses", *_unit(atlas, key)) for key in (a, b)]
    except AtlasError:
        return ""  # said where the unit would stand
    if not all(rows):
        return ""
    one, other = (found[0] for found in rows)
    first, second = np.array(one["responses"]), np.array(other["responses"])
    if one["recipe"] != other["recipe"] or not len(first) or not first.std() or not second.std():
        return ""
    correlation = float(np.corrcoef(first, second)[0, 1])
    return (
        f'<p class="lead">Their responses to {len(first):,} natural pictures correlate by <b>{correlation:.2f}</b>.</p>'
    )
