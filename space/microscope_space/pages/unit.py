"""A unit's page: everything that the atlas knows of it."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import UnknownName
from microscope_atlas.keys import Key
from microscope_atlas.publish.cite import citation, dataset_url, space_url
from microscope_space.html import links, markup, plots, text
from microscope_space.pages import frame as page
from microscope_space.pages.table import sections

Row = Mapping[str, Any]
KINDS = {"conv": "channel", "dense": "neuron", "tokens": "feature"}  # of a layer -> what its units are
PER_UNIT = (
    "feature_visualization",
    "dataset_samples",
    "synthetic_tuning",
    "connections",
    "texts",
    "responses",
    "units",
)


def unit(atlas: Atlas, model: str, layer: str, number: int) -> str:
    """All lenses on a unit; UnknownName where it does not exist."""
    total = atlas.num_units(model, layer)
    if number >= total:
        raise UnknownName(f"unit {number} is not in {model}/{layer}; it has 0 to {total - 1}, nearest: {total - 1}")
    rows = {table: atlas.rows(table, model, layer, number) for table in per_unit(atlas)}
    key = Key(model, layer, number)
    about = next(iter(rows["units"]), None)
    kind = _kind(atlas, model, layer, about)
    dictionary = atlas.dictionary(model, layer)
    body = (
        _heading(key, about, total, "direction" if dictionary else KINDS.get(kind or "", "unit"))
        + markup.dictionary(dictionary)
        + _visualizations(key, rows["feature_visualization"], about, kind)
        + _samples(atlas, key, rows["dataset_samples"])
        + _tuning(key, rows["synthetic_tuning"])
        + _connections(atlas, key, rows["connections"])
        + _texts(rows["texts"])
        + _nearest(atlas, key, about)
        + _statistics(key, rows["responses"])
        + sections(atlas, key)
        + _made(atlas, rows)
        + _use(atlas, key, rows)
    )
    return page.frame(atlas, str(key), body, key)


def per_unit(atlas: Atlas) -> list[str]:
    """The tables that are about units, ours and those from outside."""
    return [*PER_UNIT, *(name for name, table in atlas.outside.items() if table.level == "unit")]


def main_image(rows: Sequence[Row]) -> Row | None:
    """The row whose picture stands for a unit: the channel, maximised, alone."""
    alike = [row for row in rows if row["image"] and row["direction"] > 0 and not row["variant"]]
    return min(alike, key=lambda row: (row["method"] != "fourier", row["objective"] != "channel"), default=None)


def _kind(atlas: Atlas, model: str, layer: str, about: Row | None) -> str | None:
    """A layer's kind, by its row of `units`, else by what is known of the network; None: nobody says."""
    if about:
        return str(about["kind"])
    known = atlas.organism(model)
    return known.layers[layer].kind if known and layer in known.layers else None


def _heading(key: Key, about: Row | None, total: int, named_after: str) -> str:
    assert key.unit is not None
    named = f" <em>{escape(about['class_name'])}</em>" if about and about["class_name"] else ""
    said = [f"{named_after} {key.unit} of {total:,}"]
    if about and about["branch"]:
        said.append(f"branch {about['branch']}")
    compare = f'<a href="{links.href(view="compare", a=str(key))}">Compare with another</a>'
    steps = "".join(
        f'<a rel="{rel}" href="{links.href(key.model, key.layer, at)}">{words}</a>'
        if 0 <= at < total
        else "<span></span>"
        for rel, at, words in (("prev", key.unit - 1, f"← {key.unit - 1}"), ("next", key.unit + 1, f"{key.unit + 1} →"))
    )
    flag = markup.flagged(about["flag"]) if about else ""
    old = f'<a href="{escape(about["legacy_url"])}">in OpenAI Microscope</a>' if about and about["legacy_url"] else ""
    return (
        f'<h1 tabindex="-1"><span>{markup.breakable(f"{key.model}/{key.layer}")}</span> {key.unit}{named}</h1>'
        f'<p class="about">{escape(", ".join(said))}. {" · ".join(filter(None, [compare, old]))}</p>'
        f'<p class="steps">{steps}</p>{flag}'
    )


def _visualizations(key: Key, rows: Sequence[Row], about: Row | None, kind: str | None) -> str:
    times = {_which(row): row["natural"] for row in about["visualizations"]} if about else {}

    def shown(row: Row, size: int) -> str:
        # a dense unit's one position is the channel and the neuron
        named = "neuron" if kind == "dense" else text.OBJECTIVES.get(row["objective"], row["objective"])
        what = f"{named}, {text.DIRECTIONS[row['direction']]}"
        what += f", variant {row['variant']}" if row["variant"] else ""
        natural = times.get(_which(row))
        note = f"score {markup.number(row['score'])}" + (
            f", {markup.number(natural)} × natural" if natural is not None else ""
        )
        if not row["image"]:
            return markup.figure(f'<span class="nothing">{escape(row["flag"] or "no picture")}</span>', what, note)
        src, alt = links.image("feature_visualization", key.model, row["image"]), f"{key}: {what}"
        return markup.figure(markup.picture(src, alt, size, eager=size > 176), what, note) + markup.flagged(row["flag"])

    parts = ""
    for method, of in groupby(
        sorted(rows, key=lambda row: ("fourier", "maco", "transparent").index(row["method"])),
        key=lambda row: row["method"],
    ):
        own = sorted(of, key=lambda row: (row["variant"], -row["direction"], row["objective"]))
        alone, variants = [row for row in own if not row["variant"]], [row for row in own if row["variant"]]
        parts += f'<p class="about">{escape(text.METHODS_LONG.get(method, method))}</p>'
        parts += f'<div class="figures large">{"".join(shown(row, 224) for row in alone)}</div>'
        if variants:
            parts += "<h3>Variants, made to differ</h3>"
            parts += f'<div class="figures">{"".join(shown(row, 144) for row in variants)}</div>'
    if not rows:
        parts = markup.absent(text.not_rendered("feature_visualization", str(key)))
    return markup.section(
        "visualizations", "Feature visualization", parts, text.FEATURE_VISUALIZATION, text.FEATURE_VISUALIZATION_WARNING
    )


def _which(row: Row) -> tuple[str, str, int, int]:
    return row["method"], row["objective"], row["direction"], row["variant"]


def _samples(atlas: Atlas, key: Key, rows: Sequence[Row]) -> str:
    known = atlas.organism(key.model)
    size = known.input_size if known else None
    parts = ""
    for bucket, words in text.BUCKETS.items():
        own = sorted((row for row in rows if row["bucket"] == bucket), key=lambda row: row["rank"])
        figures = "".join(sample(key, row, size) for row in own)
        if figures:
            parts += f'<div class="bucket"><h3>{escape(words)}</h3><div class="figures small">{figures}</div></div>'
    if not rows:
        parts = markup.absent(text.not_rendered("dataset_samples", str(key)))
    else:
        parts = f'<div class="buckets">{parts}</div>'
    if rows and rows[0]["flag"]:
        parts = markup.flagged(rows[0]["flag"]) + parts
    sets = ", ".join(sorted({text.picture_set(row["set"], row["revision"]) for row in rows}))
    about = text.SAMPLES + (f" Set: {escape(sets)}." if sets else "")
    return markup.section("samples", "Dataset samples", parts, about, text.SAMPLES_WARNING)


def sample(key: Key, row: Row, size: int | None) -> str:
    """A natural picture, its activation, and where in the picture it is."""
    alt = f"{row['bucket']} sample {row['rank']}, picture {row['picture']}"
    shown = (
        markup.picture(links.image("dataset_samples", key.model, row["image"]), alt, 96)
        if row["image"]
        else f'<span class="nothing">picture {row["picture"]}</span>'
    )
    sides = [row[side] for side in ("left", "top", "right", "bottom")]
    return markup.figure(shown + plots.crop(sides, size), markup.number(row["activation"]))


def _tuning(key: Key, rows: Sequence[Row]) -> str:
    parts = ""
    for row in rows:
        facts = f"peak {markup.number(row['peak'])}, without a stimulus {markup.number(row['blank'])}"
        facts += f", width {markup.number(row['width'])}" if row["width"] is not None else ""
        stimulus = (
            markup.picture(
                links.image("synthetic_tuning", key.model, row["image"]), f"The {row['family']} at the peak", 112
            )
            if row["image"]
            else ""
        )
        parts += (
            f'<div class="family"><h3>{escape(row["family"].capitalize())}</h3><p class="about">{facts}</p>'
            f"<div>{plots.heat(row)}{stimulus}</div>{markup.flagged(row['flag'])}</div>"
        )
    content = (
        f'<div class="families">{parts}</div>'
        if rows
        else markup.absent(text.not_rendered("synthetic_tuning", str(key)))
    )
    return markup.section("tuning", "Synthetic tuning", content, text.TUNING, text.TUNING_WARNING)


def _connections(atlas: Atlas, key: Key, rows: Sequence[Row]) -> str:
    parts = ""
    largest = max((abs(weight) for row in rows for line in row["kernel"] for weight in line), default=1.0) or 1.0
    for (towards, other), of in groupby(rows, key=lambda row: (row["towards"], row["other_layer"])):
        own = list(of)
        names, there = atlas.thumbnails(key.model, other), other in atlas.layers(key.model)
        named = f'<a href="{links.href(key.model, other)}">{escape(other)}</a>' if there else escape(other)
        named += "" if there else " <small>not in this atlas</small>"
        where = "Before" if towards == "input" else "After"
        parts += f"<h3>{where}: {named}</h3>"
        parts += "".join(markup.flagged(flag) for flag in sorted({row["flag"] for row in own if row["flag"]}))
        for sign, words in (
            (1, "excites" if towards == "output" else "excited by"),
            (-1, "inhibits" if towards == "output" else "inhibited by"),
        ):
            tiles = "".join(
                f"<li>{markup.thumbnail(key.model, other, row['other_unit'], names.get(row['other_unit']), there)}"
                f"{plots.kernel(row, largest)}</li>"
                for row in own
                if row["sign"] == sign
            )
            if tiles:
                parts += f'<div class="wires"><h4>{words}</h4><ul class="tiles">{tiles}</ul></div>'
    if not rows:
        beside = text.BESIDE_THE_WAY if key.layer and atlas.dictionary(key.model, key.layer) else ""
        parts = markup.absent(beside or text.not_rendered("connections", str(key)))
    return markup.section("connections", "Connections", parts, text.CONNECTIONS, text.CONNECTIONS_WARNING)


def _texts(rows: Sequence[Row]) -> str:
    """Nothing where there are none: few networks know texts."""
    if not rows:
        return ""
    exact, flag = rows[0]["num_pictures"] is None, rows[0]["flag"]
    listed = "".join(
        f"<li>{escape(row['text'])} <small>{markup.number(row['score'])}</small></li>" for row in rows if row["text"]
    )
    lists = sorted({f"{row['words']}, revision {row['words_revision'][:12]}" for row in rows})
    about = f"{text.TEXTS_EXACT if exact else text.TEXTS} Word list: {escape('; '.join(lists))}."
    warning = text.TEXTS_EXACT_WARNING if exact else text.TEXTS_WARNING
    body = markup.flagged(flag) + (f"<ol>{listed}</ol>" if listed else "")
    return markup.section("texts", "Texts", body, about, warning)


def _nearest(atlas: Atlas, key: Key, about: Row | None) -> str:
    parts = ""
    for column, words in (("nearest", "In this network"), ("nearest_elsewhere", "In other networks")):
        tiles = "".join(
            f"<li>{_linked(atlas, near)}<small>{escape(near['layer'])}<br>{near['correlation']:.2f}</small></li>"
            for near in (about[column] if about else [])
        )
        if tiles:
            parts += f'<h3>{words}</h3><ul class="tiles">{tiles}</ul>'
    if not parts:
        parts = markup.absent("This atlas knows no units that respond alike.")
    return markup.section("nearest", "Nearest units", parts, text.NEAREST)


def _linked(atlas: Atlas, near: Row) -> str:
    model, layer, unit = near["model"], near["layer"], near["unit"]
    there = model in atlas.models and layer in atlas.layers(model)
    name = atlas.thumbnails(model, layer).get(unit) if there else None
    return markup.thumbnail(model, layer, unit, name, there)


def _statistics(key: Key, rows: Sequence[Row]) -> str:
    if not rows:
        return markup.section("statistics", "Statistics", markup.absent(text.not_rendered("responses", str(key))))
    row = rows[0]
    pairs = [(name, markup.number(row[name])) for name in ("mean", "maximum")]
    pairs.append(("at or below zero", f"{row['sparsity']:.0%} of positions" if row["sparsity"] is not None else "–"))
    pairs += (
        zip(
            ("lowest", "median", "0.9 quantile", "0.99 quantile"),
            (markup.number(row["quantiles"][at]) for at in (0, 4, 6, 7)),
            strict=True,
        )
        if row["quantiles"]
        else []
    )
    pairs.append(("flag", escape(row["flag"] or "none")))
    body = f'<div class="statistics">{plots.histogram(row["responses"])}{markup.facts(pairs)}</div>'
    return markup.section("statistics", "Statistics", body + markup.flagged(row["flag"]), text.STATISTICS)


def _made(atlas: Atlas, rows: Mapping[str, Sequence[Row]]) -> str:
    """Recipe, weights, software and device of the rows, table by table."""
    parts = ""
    for table, own in rows.items():
        recipes = list(dict.fromkeys(row["recipe"] for row in own))
        for at, recipe in enumerate(recipes):
            row = next(row for row in own if row["recipe"] == recipe)
            seeds = ", ".join(str(each["seed"]) for each in own if each["recipe"] == recipe and "seed" in each)
            told = [("software", row["software"]), ("device", row["device"]), ("weights", row["weights_sha256"])]
            which = f", recipe {at + 1} of {len(recipes)}" if len(recipes) > 1 else ""
            told += [("seeds", seeds)] if seeds else []
            settings = escape(json.dumps(json.loads(recipe), indent=1))
            parts += (
                f"<details><summary>{escape(atlas.manifest.table(table).title)}{which}</summary>"
                f"{markup.facts((name, escape(value)) for name, value in told)}"
                f'<pre tabindex="0">{settings}</pre></details>'
            )
    return markup.section("made", "How it was made", parts or markup.absent("There are no rows."))


def _use(atlas: Atlas, key: Key, rows: Mapping[str, Sequence[Row]]) -> str:
    """Link, citation, code and image, to take away."""
    there = any(rows.values())
    link = space_url(atlas.release.space, key, atlas.pin) if atlas.release and atlas.release.space else ""
    pinned = links.href(key.model, key.layer, key.unit, revision=atlas.pin)
    image = main_image(rows["feature_visualization"])
    download = (
        f'<a class="button" download="{escape(image["image"])}" '
        f'href="{links.image("feature_visualization", key.model, image["image"])}">Download image</a>'
        if image
        else ""
    )
    taken = {
        "Cite": citation(atlas.storage.name, atlas.manifest, atlas.release, atlas.commit, key) if there else "",
        "Code that loads these rows": code(atlas, key) if there else "",
        "Embed": f'<iframe src="SPACE/embed/{key}" width="320" height="420" title="{key}"></iframe>',
    }
    blocks = "".join(
        f'<details><summary>{name}</summary><button type="button" data-copy>Copy</button>'
        f'<pre tabindex="0">{escape(content)}</pre></details>'
        for name, content in taken.items()
        if content
    )
    copied = f'<a class="button" data-link href="{escape(link) or pinned}">Copy link</a>'
    return markup.section("use", "Share, cite, load", f'<p class="buttons">{copied}{download}</p>{blocks}')


def code(atlas: Atlas, key: Key) -> str:
    """Python that loads a unit's rows of feature_visualization."""
    table = "feature_visualization"
    name = atlas.release.repo if atlas.release else atlas.storage.name.partition("@")[0]
    pinned = f"\n    revision={atlas.release.tag if atlas.release else atlas.commit!r}," if atlas.commit else ""
    if atlas.release and atlas.commit:
        pinned = f'\n    revision="{atlas.release.tag}",  # of {dataset_url(name)}'
    return (
        "from datasets import load_dataset\n\n"
        f'rows = load_dataset(\n    "{name}",\n    "{table}",{pinned}\n'
        f'    data_files={{"rows": "{table}/{schema.split(key.model)}/{key.layer}.*.parquet"}},\n    split="rows",\n'
        f'    filters=[("layer", "==", "{key.layer}"), ("unit", "==", {key.unit})],\n)\nrows[0]["image"].show()'
    )
