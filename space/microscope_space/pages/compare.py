"""Two units side by side."""

from functools import partial

import numpy as np
from markupsafe import Markup

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError, InvalidKey, UnknownName
from microscope_atlas.keys import Key, parse_key
from microscope_space.html import links, markup, plots, text
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.pages import unit
from microscope_space.pages.frame import Page
from microscope_space.pages.table import Rows, shown

TOP = 8  # samples shown of each
TABLES = ("feature_visualization", "dataset_samples", "synthetic_tuning", "units", "responses")


def compare(atlas: Atlas, a: str, b: str) -> Page:
    """The units with keys `a` and `b`; an empty one is asked for, and of a wrong one it is said what is wrong."""
    status, columns = 200, NOTHING
    for name, asked in (("a", a), ("b", b)):
        column: Markup = markup.absent("Choose a unit by its key.")
        try:
            if asked:
                columns += _column(atlas, name, _unit(atlas, asked))
                continue
        except (InvalidKey, UnknownName) as error:
            status = max(status, 400 if isinstance(error, InvalidKey) else 404)
            column = markup.error(str(error))
        columns += html('<section aria-label="Unit {}">{}</section>', name, column)
    form = html(
        '<form class="filter" action="{}" method="get">{}'
        '<label>First <input name="a" value="{}" placeholder="model/layer/unit" maxlength="256"></label>'
        '<label>Second <input name="b" value="{}" placeholder="model/layer/unit" maxlength="256"></label>'
        "<button>Compare</button></form>",
        links.root(),
        markup.hidden(view="compare"),
        a,
        b,
    )
    body = html(
        '<h1 tabindex="-1">Compare</h1><p class="about">Two units, of one network or of two, side by side. A unit is '
        'named by its key, as on its page.</p>{}{}<div class="pair">{}</div>',
        form,
        _alike(atlas, a, b),
        columns,
    )
    asked_for = {name: value for name, value in (("a", a), ("b", b)) if value}
    title = f"{a} and {b}" if status == 200 and a and b else "Compare"
    return Page(title, body, "Two units side by side: what excites each.", None, "compare", asked_for, status)


def _unit(atlas: Atlas, text: str) -> Key:
    """A unit by its key, which is in the atlas."""
    key = parse_key(text)
    if key.layer is None or key.unit is None:
        raise UnknownName(f"{key} is no unit; expected model/layer/unit")
    total = atlas.num_units(key.model, key.layer)
    if key.unit >= total:
        raise UnknownName(f"unit {key.unit} is not in {key.model}/{key.layer}; it has 0 to {total - 1}")
    return key


def _column(atlas: Atlas, name: str, key: Key) -> Markup:
    rows = Rows(atlas, key, TABLES)
    parts = joined(
        shown(f"{table}-{name}", atlas.manifest.table(table), rows[table], draw)
        for table, draw in (
            ("feature_visualization", partial(_pictures, key, rows)),
            ("dataset_samples", partial(_samples, atlas, key, rows)),
            ("synthetic_tuning", partial(_tuning, key, rows)),
            ("units", partial(_against, name, key, rows)),
        )
    )
    return html(
        '<section aria-labelledby="unit-{}"><h2 id="unit-{}"><a href="{}">{}</a></h2>{}</section>',
        name,
        name,
        links.href(key.model, key.layer, key.unit),
        markup.breakable(str(key)),
        parts,
    )


def _pictures(key: Key, rows: Rows) -> Markup:
    made = [row for row in rows["feature_visualization"] if row["image"] and not row["variant"]]
    method = min((row["method"] for row in made), key=lambda method: (method != "fourier", method), default=None)
    figures = joined(
        markup.figure(
            markup.picture(
                links.image("feature_visualization", key.model, row["image"]),
                f"{key}: {row['objective']} {text.direction(row['direction'])}",
                160,
            ),
            f"{text.OBJECTIVES.get(row['objective'], row['objective'])}, {text.direction(row['direction'])}",
            f"score {markup.number(row['score'])}",
        )
        for row in made
        if row["method"] == method
    )
    return html('<div class="figures">{}</div>', figures or rows.none("feature_visualization", str(key)))


def _samples(atlas: Atlas, key: Key, rows: Rows) -> Markup:
    known = atlas.organism(key.model)
    figures = joined(
        unit.sample(key, row, known.input_size if known else None)
        for row in sorted(rows["dataset_samples"], key=lambda row: row["rank"])
        if row["bucket"] == "top" and row["rank"] < TOP
    )
    return html(
        '<h3>Strongest samples</h3><div class="figures small">{}</div>',
        figures or rows.none("dataset_samples", str(key)),
    )


def _tuning(key: Key, rows: Rows) -> Markup:
    drawn = joined(
        html("<h3>{}</h3>{}", row["family"].capitalize(), plots.heat(row)) for row in rows["synthetic_tuning"]
    )
    return drawn or rows.none("synthetic_tuning", str(key))


def _against(name: str, key: Key, rows: Rows) -> Markup:
    """The nearest units, to compare with instead."""
    near = [each for row in rows["units"] for column in ("nearest", "nearest_elsewhere") for each in row[column]]
    tiles = []
    for each in near:
        found = f"{each['model']}/{each['layer']}/{each['unit']}"
        a, b = (str(key), found) if name == "a" else (found, str(key))
        link = links.href(view="compare", a=a, b=b)
        tiles.append(html('<li><a href="{}">{}</a> <small>{}</small></li>', link, found, f"{each['correlation']:.2f}"))
    return html('<h3>Most alike: compare with</h3><ul class="found">{}</ul>', joined(tiles)) if tiles else NOTHING


def _alike(atlas: Atlas, a: str, b: str) -> Markup:
    """How their responses to the same natural pictures are correlated, where both are known."""
    try:
        keys = [_unit(atlas, each) for each in (a, b)]
        rows = [atlas.rows("responses", key.model, str(key.layer), key.unit) for key in keys]
    except AtlasError:
        return NOTHING  # said where the unit would stand
    if not all(rows):
        return NOTHING
    one, other = (found[0] for found in rows)
    first, second = np.array(one["responses"], float), np.array(other["responses"], float)
    if one["recipe"] != other["recipe"] or not 0 < len(first) == len(second):
        return NOTHING
    if not (np.isfinite(first).all() and np.isfinite(second).all() and first.std() and second.std()):
        return NOTHING
    correlation = float(np.corrcoef(first, second)[0, 1])
    return html(
        '<p class="lead">Their responses to {} natural pictures correlate by <b>{}</b>.</p>',
        f"{len(first):,}",
        f"{correlation:.2f}",
    )
