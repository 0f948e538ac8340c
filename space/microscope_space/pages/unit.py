"""A unit's page: everything that the atlas knows of it."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from itertools import groupby
from typing import Any

from markupsafe import Markup

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import UnknownName
from microscope_atlas.keys import Key
from microscope_atlas.pictures.sources import SOURCES
from microscope_atlas.publish.cite import citation, dataset_url, space_url
from microscope_space import whole
from microscope_space.html import links, markup, plots, text
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.pages.answered import answered
from microscope_space.pages.frame import Page
from microscope_space.pages.labelled import labelled
from microscope_space.pages.scored import scored
from microscope_space.pages.table import Rows, sections, shown

Row = Mapping[str, Any]
KINDS = {"conv": "channel", "dense": "neuron", "tokens": "feature"}  # of a layer -> what its units are
PER_UNIT = (
    "feature_visualization",
    "dataset_samples",
    "synthetic_tuning",
    "connections",
    "texts",
    "labels",
    "scores",
    "responses",
    "units",
)
SECTIONS = {
    "labels": "Labels",
    "visualizations": "Visualizations",
    "samples": "Samples",
    "tuning": "Tuning",
    "connections": "Connections",
    "texts": "Texts",
    "scores": "Scores",
    "classes": "Classes",
    "nearest": "Nearest",
    "statistics": "Statistics",
}
LAST = {"made": "How it was made", "use": "Share, cite, load"}
SIDES = ("left", "top", "right", "bottom")  # of a crop
NUM_QUANTILES = 9  # in a row
QUANTILES = {0: "lowest", 4: "median", 6: "0.9 quantile", 7: "0.99 quantile"}  # of these, that are shown


def unit(atlas: Atlas, model: str, layer: str, number: int) -> Page:
    """All lenses on a unit; UnknownName where it does not exist."""
    total = atlas.num_units(model, layer)
    if number >= total:
        raise UnknownName(f"unit {number} is not in {model}/{layer}; it has 0 to {total - 1}, nearest: {total - 1}")
    key = Key(model, layer, number)
    rows = Rows(atlas, key, per_unit(atlas))
    about = next(iter(rows["units"]), None)
    kind = _kind(atlas, model, layer, about)
    dictionary = atlas.dictionary(model, layer)
    what = "direction" if dictionary else KINDS.get(kind or "", "unit")
    parts = joined(
        shown(name, schema.table(table), rows[table], draw)
        for name, table, draw in (
            ("labels", "labels", partial(labelled, rows["labels"])),
            ("visualizations", "feature_visualization", partial(_visualizations, key, rows, about, kind)),
            ("samples", "dataset_samples", partial(_samples, atlas, key, rows)),
            ("tuning", "synthetic_tuning", partial(_tuning, key, rows)),
            ("connections", "connections", partial(_connections, atlas, key, rows)),
            ("texts", "texts", partial(_texts, rows["texts"])),
            ("scores", "scores", partial(scored, key, next(iter(rows["scores"]), None))),
            ("classes", "responses", partial(answered, next(iter(rows["responses"]), None))),
            ("nearest", "units", partial(_nearest, atlas, about, "units" in rows.lost)),
            ("statistics", "responses", partial(_statistics, key, rows)),
        )
    )
    body = html(
        "{}{}{}{}{}{}{}",
        _heading(key, about, total, what, _lacks_name(atlas, key)),
        markup.dictionary(dictionary),
        _row(atlas, rows),
        parts,
        sections(atlas, key),
        _made(atlas, rows),
        _use(atlas, key, rows),
    )
    return Page(str(key), body, described(key, what, total, about, rows["feature_visualization"]), key)


def described(key: Key, what: str, total: int, about: Row | None, made: Sequence[Row]) -> str:
    """A unit in a sentence, for those who have its link alone."""
    named = f", {about['class_name']}" if about and about["class_name"] else ""
    sentences = [f"{what.capitalize()} {key.unit} of {total:,} in {key.layer} of {key.model}{named}."]
    if best := main_image(made):
        sentences.append(f"A picture made to excite it reaches {markup.number(best['score'])}.")
    if about and about["maximum"] is not None:
        sentences.append(f"Natural pictures reach at most {markup.number(about['maximum'])}.")
    return " ".join(sentences)


def per_unit(atlas: Atlas) -> list[str]:
    """The tables that are about units, ours and those from outside."""
    return [*PER_UNIT, *(name for name, table in atlas.outside.items() if table.level == "unit")]


def main_image(rows: Sequence[Row]) -> Row | None:
    """The row whose picture stands for a unit: the channel, maximised, alone."""
    alike = [row for row in rows if row["image"] and (row["direction"] or 0) > 0 and not row["variant"]]
    return min(alike, key=lambda row: (row["method"] != "fourier", row["objective"] != "channel"), default=None)


def _kind(atlas: Atlas, model: str, layer: str, about: Row | None) -> str | None:
    """A layer's kind, by its row of `units`, else by what is known of the network; None: nobody says."""
    if about:
        return str(about["kind"])
    known = atlas.organism(model)
    return known.layers[layer].kind if known and layer in known.layers else None


def _lacks_name(atlas: Atlas, key: Key) -> bool:
    """Whether a unit is of those that stand for classes whose names did not come with this package."""
    known = atlas.organism(key.model)
    return known is not None and key.layer is not None and key.layer in known.layers and known.lacks_name(key.layer)


def _heading(key: Key, about: Row | None, total: int, named_after: str, lacks_name: bool = False) -> Markup:
    assert key.unit is not None
    said = f"{named_after} {key.unit} of {total:,}"
    if about and about["branch"]:
        said += f", branch {about['branch']}"
    if about and about["class_name"] is None and lacks_name:
        said += ", a class whose name is not known"
    near = _first(about)
    link = links.href(view="compare", a=str(key), b=near)
    elsewhere = [html('<a href="{}">{}</a>', link, f"Compare with {near}" if near else "Compare with another")]
    if about and about["legacy_url"]:
        elsewhere.append(markup.linked(about["legacy_url"], "in OpenAI Microscope"))
    steps = joined(
        html('<a rel="{}" href="{}">{}</a>', rel, links.href(key.model, key.layer, at), words)
        if 0 <= at < total
        else html("<span></span>")
        for rel, at, words in (("prev", key.unit - 1, f"← {key.unit - 1}"), ("next", key.unit + 1, f"{key.unit + 1} →"))
    )
    return html(
        '<h1 tabindex="-1"><span>{}</span> {}{}</h1><p class="about">{}. {}</p><p class="steps">{}</p>{}',
        markup.breakable(f"{key.model}/{key.layer}"),
        key.unit,
        html(" <em>{}</em>", about["class_name"]) if about and about["class_name"] else NOTHING,
        said,
        joined(elsewhere, " · "),
        steps,
        markup.flagged(about["flag"] if about else None),
    )


def _row(atlas: Atlas, rows: Rows) -> Markup:
    """Links to the sections, which stay in sight."""
    outside = {f"table-{name}": table.title for name, table in atlas.outside.items() if table.level == "unit"}
    classes = any(row.get("classes") is not None for row in rows["responses"])
    own = (("labels", rows["labels"]), ("texts", rows["texts"]), ("scores", rows["scores"]), ("classes", classes))
    left_out = {name: "" for name, there in own if not there}
    named = {**SECTIONS, **left_out, **outside, **LAST}
    listed = joined(html('<a href="#{}">{}</a>', name, words) for name, words in named.items() if words)
    return html('<nav class="sections" aria-label="Sections">{}</nav>', listed)


def _first(about: Row | None) -> str | None:
    """The key of the unit that responds most alike, where one is known."""
    near = [each for column in ("nearest", "nearest_elsewhere") for each in (about[column] if about else ()) or ()]
    return "{model}/{layer}/{unit}".format_map(near[0]) if near else None


def _visualizations(key: Key, rows: Rows, about: Row | None, kind: str | None) -> Markup:
    made = rows["feature_visualization"]
    times = {_which(row): row["natural"] for row in about["visualizations"] or ()} if about else {}

    def figure(row: Row, size: int) -> Markup:
        # a dense unit's one position is the channel and the neuron
        named = "neuron" if kind == "dense" else text.OBJECTIVES.get(row["objective"], row["objective"])
        what = f"{named}, {text.direction(row['direction'])}"
        what += f", variant {row['variant']}" if row["variant"] else ""
        natural = times.get(_which(row))
        note = f"score {markup.number(row['score'])}" + (
            f", {markup.number(natural)} × natural" if natural is not None else ""
        )
        if not row["image"]:
            return markup.figure(html('<span class="nothing">{}</span>', row["flag"] or "no picture"), what, note)
        # what the opacity leaves out is noise, which is not to be seen
        mask = {"mask": row["opacity"]} if row["opacity"] else {}
        src = links.image("feature_visualization", key.model, row["image"], **mask)
        seen = markup.picture(src, f"{key}: {what}", size, eager=size > 176)
        return markup.figure(markup.large(src, seen), what, note) + markup.flagged(row["flag"])

    parts = NOTHING
    order = list(text.METHODS_LONG)
    known = sorted(made, key=lambda row: (order.index(row["method"]) if row["method"] in order else 9, row["method"]))
    for method, of in groupby(known, key=lambda row: row["method"]):
        own = sorted(of, key=lambda row: (row["variant"], -row["direction"], row["objective"]))
        alone, variants = [row for row in own if not row["variant"]], [row for row in own if row["variant"]]
        parts += html(
            '<p class="about">{}</p><div class="figures large">{}</div>',
            text.METHODS_LONG.get(method, method),
            joined(figure(row, 224) for row in alone),
        )
        if variants:
            parts += html(
                '<h3>Variants, made to differ</h3><div class="figures">{}</div>',
                joined(figure(row, 144) for row in variants),
            )
    return markup.section(
        "visualizations",
        "Feature visualization",
        parts or rows.none("feature_visualization", str(key)),
        text.FEATURE_VISUALIZATION,
        _warned(rows, "feature_visualization", text.FEATURE_VISUALIZATION_WARNING),
    )


def _warned(rows: Rows, table: str, warning: Markup | str) -> Markup | str:
    """What to beware of, where there is anything to be read so."""
    return warning if rows[table] else ""


def _which(row: Row) -> tuple[str, str, int, int]:
    return row["method"], row["objective"], row["direction"], row["variant"]


def _samples(atlas: Atlas, key: Key, rows: Rows) -> Markup:
    known, samples = atlas.organism(key.model), rows["dataset_samples"]
    size = known.input_size if known else None
    parts = NOTHING
    for bucket in dict.fromkeys((*text.BUCKETS, *(row["bucket"] for row in samples))):
        own = sorted((row for row in samples if row["bucket"] == bucket), key=lambda row: row["rank"])
        if own:
            parts += html(
                '<div class="bucket"><h3>{}</h3><div class="figures small">{}</div></div>',
                text.BUCKETS.get(bucket, bucket),
                joined(sample(key, row, size) for row in own),
            )
    content = rows.none("dataset_samples", str(key))
    if samples:
        content = markup.flagged(samples[0]["flag"]) + html('<div class="buckets">{}</div>', parts)
    sets = ", ".join(sorted({text.picture_set(row["set"], row["revision"]) for row in samples}))
    about = text.SAMPLES + (f" Set: {sets}." if sets else "")
    return markup.section(
        "samples", "Dataset samples", content, about, _warned(rows, "dataset_samples", text.SAMPLES_WARNING)
    )


def sample(key: Key, row: Row, size: int | None) -> Markup:
    """A natural picture, its activation, and where in the picture it is."""
    told = f"{row['bucket']} sample {row['rank']}, picture {row['picture']}"
    seen = html('<span class="nothing">picture {}</span>', row["picture"])
    if row["image"]:
        src = links.image("dataset_samples", key.model, row["image"])
        seen = markup.large(src, markup.picture(src, told, 96), _whole(row, size))
    sides = [row[side] for side in SIDES]
    return markup.figure(seen + plots.crop(sides, size), markup.number(row["activation"]))


def _whole(row: Row, size: int | None) -> Markup:
    """The photo that a sample is from, and where in it; nothing where it may not be shown."""
    part = whole.part(row["set"], row["revision"], row["picture"])
    if part is None or size is None or any(row[side] is None for side in SIDES):
        return NOTHING
    known = SOURCES[part.photo]
    left, top, right, bottom = (row[side] / size for side in SIDES)
    return html(
        ' data-whole="{}" data-square="{}" data-crop="{}" data-credit="{}"',
        links.photo(part.photo, known.sha256[:12]),
        _percent(part.square),
        _percent(part.within((left, top, right, bottom))),
        known.credit,
    )


def _percent(box: whole.Box) -> str:
    return " ".join(f"{side:.2f}" for side in box)


def _tuning(key: Key, rows: Rows) -> Markup:
    parts = NOTHING
    for row in rows["synthetic_tuning"]:
        facts = f"peak {markup.number(row['peak'])}, without a stimulus {markup.number(row['blank'])}"
        facts += f", width {markup.number(row['width'])}" if row["width"] is not None else ""
        stimulus = NOTHING
        if row["image"]:
            src = links.image("synthetic_tuning", key.model, row["image"])
            stimulus = markup.picture(src, f"The {row['family']} at the peak", 112)
        parts += html(
            '<div class="family"><h3>{}</h3><p class="about">{}</p><div>{}{}</div>{}{}</div>',
            row["family"].capitalize(),
            facts,
            plots.heat(row),
            stimulus,
            plots.curve(row),
            markup.flagged(row["flag"]),
        )
    content = html('<div class="families">{}</div>', parts) if parts else rows.none("synthetic_tuning", str(key))
    return markup.section(
        "tuning", "Synthetic tuning", content, text.TUNING, _warned(rows, "synthetic_tuning", text.TUNING_WARNING)
    )


def _connections(atlas: Atlas, key: Key, rows: Rows) -> Markup:
    parts, wires = NOTHING, rows["connections"]
    largest = max((abs(weight) for row in wires for line in row["kernel"] for weight in line), default=1.0) or 1.0
    for (towards, other), of in groupby(wires, key=lambda row: (row["towards"], row["other_layer"])):
        own = list(of)
        there = other in atlas.layers(key.model)
        names = atlas.thumbnails(key.model, other) if there else {}
        where = "Before" if towards == "input" else "After"
        wired = joined(markup.flagged(flag) for flag in sorted({row["flag"] for row in own if row["flag"]}))
        for sign, words in (
            (1, "excites" if towards == "output" else "excited by"),
            (-1, "inhibits" if towards == "output" else "inhibited by"),
        ):
            tiles = joined(
                html("<li>{}</li>", markup.thumbnail(key.model, other, *known, there, plots.kernel(row, largest)))
                for row in own
                for known in [(row["other_unit"], names.get(row["other_unit"]))]
                if row["sign"] == sign
            )
            if tiles:
                wired += html('<div class="wires"><h4>{}</h4>{}</div>', words, markup.tiles(tiles))
        if there:
            parts += html('<h3>{}: <a href="{}">{}</a></h3>{}', where, links.href(key.model, other), other, wired)
        else:  # kernels without a picture beside them say little
            told = html("{}: {} <small>not in this atlas</small>", where, other)
            parts += html("<details><summary><h3>{}</h3></summary>{}</details>", told, wired)
    if not wires:
        parts = rows.none("connections", str(key))
    return markup.section(
        "connections", "Connections", parts, text.CONNECTIONS, _warned(rows, "connections", text.CONNECTIONS_WARNING)
    )


def _texts(rows: Sequence[Row]) -> Markup:
    """Nothing where there are none: few networks know texts."""
    if not rows:
        return NOTHING
    exact, flag = rows[0]["num_pictures"] is None, rows[0]["flag"]
    listed = joined(
        html("<li>{} <small>{}</small></li>", row["text"], markup.number(row["score"])) for row in rows if row["text"]
    )
    lists = "; ".join(sorted({f"{row['words']}, revision {row['words_revision'][:12]}" for row in rows}))
    about = f"{text.TEXTS_EXACT if exact else text.TEXTS} Word list: {lists}."
    warning = text.TEXTS_EXACT_WARNING if exact else text.TEXTS_WARNING
    body = markup.flagged(flag) + (html("<ol>{}</ol>", listed) if listed else NOTHING)
    return markup.section("texts", "Texts", body, about, warning)


def _nearest(atlas: Atlas, about: Row | None, lost: bool = False) -> Markup:
    parts = NOTHING
    for column, words in (("nearest", "In this network"), ("nearest_elsewhere", "In other networks")):
        tiles = joined(
            html(
                "<li>{}<small>{}<br>{}</small></li>",
                _linked(atlas, near),
                near["layer"],
                f"{near['correlation']:.2f}",
            )
            for near in (about[column] if about else [])
        )
        if tiles:
            parts += html("<h3>{}</h3>{}", words, markup.tiles(tiles))
    if not parts:
        parts = markup.absent(text.LOST if lost else "This atlas knows no units that respond alike.")
    return markup.section("nearest", "Nearest units", parts, text.NEAREST)


def _linked(atlas: Atlas, near: Row) -> Markup:
    model, layer, unit = near["model"], near["layer"], near["unit"]
    there = model in atlas.models and layer in atlas.layers(model)
    name = atlas.thumbnails(model, layer).get(unit) if there else None
    return markup.thumbnail(model, layer, unit, name, there)


def share(value: float) -> str:
    """`63%`; of what is neither none nor all as many digits as tell it from these: units of dictionaries are sparse."""
    for digits in range(4):
        said = f"{value:.{digits}%}"
        if value in (0, 1) or float(said.removesuffix("%")) not in (0, 100):
            return said
    return "less than 0.001%" if value < 0.5 else "more than 99.999%"


def _statistics(key: Key, rows: Rows) -> Markup:
    if not rows["responses"]:
        return markup.section("statistics", "Statistics", rows.none("responses", str(key)))
    row = rows["responses"][0]
    pairs = [(name, markup.number(row[name])) for name in ("mean", "maximum")]
    pairs.append(("at or below zero", f"{share(row['sparsity'])} of positions" if row["sparsity"] is not None else "–"))
    known = dict(enumerate(row["quantiles"]))
    pairs += [(words, markup.number(known[at])) for at, words in QUANTILES.items() if len(known) == NUM_QUANTILES]
    pairs.append(("flag", row["flag"] or "none"))
    body = html(
        '<div class="statistics">{}{}</div>{}',
        plots.histogram(row["responses"]),
        markup.facts(pairs),
        markup.flagged(row["flag"]),
    )
    return markup.section("statistics", "Statistics", body, text.STATISTICS)


def _made(atlas: Atlas, rows: Rows) -> Markup:
    """Recipe, weights, software and device of the rows, table by table."""
    parts = NOTHING
    for table, own in rows.items():
        recipes = list(dict.fromkeys(row["recipe"] for row in own))
        for at, recipe in enumerate(recipes):
            row = next(row for row in own if row["recipe"] == recipe)
            seeds = ", ".join(str(each["seed"]) for each in own if each["recipe"] == recipe and "seed" in each)
            told = [("software", row["software"]), ("device", row["device"]), ("weights", row["weights_sha256"])]
            which = f", recipe {at + 1} of {len(recipes)}" if len(recipes) > 1 else ""
            told += [("seeds", seeds)] if seeds else []
            parts += html(
                '<details><summary>{}{}</summary>{}<pre tabindex="0">{}</pre></details>',
                atlas.manifest.table(table).title,
                which,
                markup.facts(told),
                _settings(recipe),
            )
    return markup.section("made", "How it was made", parts or markup.absent("There are no rows."))


@lru_cache(256)  # a network's units share theirs
def _settings(recipe: str) -> str:
    """A recipe, a setting a line; as it is where it is no JSON."""
    try:
        return json.dumps(json.loads(recipe), indent=1)
    except (ValueError, RecursionError):
        return recipe


def _use(atlas: Atlas, key: Key, rows: Rows) -> Markup:
    """Link, citation, code and image, to take away."""
    there = any(rows.values())
    link = space_url(atlas.release.space, key, atlas.pin) if atlas.release and atlas.release.space else ""
    pinned = links.href(key.model, key.layer, key.unit, revision=atlas.pin)
    image = main_image(rows["feature_visualization"])
    download = NOTHING
    if image:
        src = links.image("feature_visualization", key.model, image["image"])
        download = html('<a class="button" download="{}" href="{}">Download image</a>', image["image"], src)
    about = (atlas.called, atlas.manifest, atlas.release, atlas.commit, key)
    taken = {
        "Cite": citation(*about, atlas.identity, atlas.files_about(key)) if there else "",
        "Code that loads these rows": code(atlas, key, table) if (table := _loaded(rows)) else "",
        "Embed": f'<iframe src="{links.address()}embed/{key}" width="320" height="440" title="{key}"></iframe>',
    }
    blocks = joined(
        html(
            '<details><summary>{}</summary><button type="button" data-copy>Copy</button>'
            '<pre tabindex="0">{}</pre></details>',
            name,
            content,
        )
        for name, content in taken.items()
        if content
    )
    return markup.section(
        "use",
        "Share, cite, load",
        html(
            '<p class="buttons"><a class="button" data-link href="{}">Copy link</a>{}</p>{}',
            link or pinned,
            download,
            blocks,
        ),
    )


def _loaded(rows: Rows) -> str | None:
    """The table whose rows the code loads: feature_visualization, or the first that has rows; None where none has."""
    return next((table for table in ("feature_visualization", *rows) if rows[table]), None)


def code(atlas: Atlas, key: Key, table: str = "feature_visualization") -> str:
    """Python that loads a unit's rows of a table, and shows the first: its image where the table has images."""
    name = atlas.release.repo if atlas.release else atlas.called.partition("@")[0]
    first = 'rows[0]["image"].show()' if "image" in atlas.manifest.table(table).images else "print(rows[0])"
    pinned = f"\n    revision={atlas.release.tag if atlas.release else atlas.commit!r}," if atlas.commit else ""
    if atlas.release and atlas.commit:
        pinned = f'\n    revision="{atlas.release.tag}",  # of {dataset_url(name)}'
    return (
        "from datasets import load_dataset\n\n"
        f'rows = load_dataset(\n    "{name}",\n    "{table}",{pinned}\n'
        f'    data_files={{"rows": "{table}/{schema.split(key.model)}/{key.layer}.*.parquet"}},\n    split="rows",\n'
        f'    filters=[("layer", "==", "{key.layer}"), ("unit", "==", {key.unit})],\n)\n{first}'
    )
