"""A network's page: its layers from input to logits, each by what excites all of it, or keeps of a picture."""

from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from typing import Any

import numpy as np

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.dictionaries import stated
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import unknown
from microscope_atlas.keys import Key
from microscope_atlas.pictures import sources
from microscope_atlas.pictures.decoder import fitted
from microscope_atlas.pictures.sources import SOURCES
from microscope_space.html import graph, links, markup, text
from microscope_space.pages import frame as page

INPUT = "(input)"  # no layer's name
SHOWN = 128  # px on a side
Row = Mapping[str, Any]

NOISE = "noise"  # the deepdream that starts from nothing


def model(atlas: Atlas, name: str, lens: str = "deepdream", source: str | None = None) -> str:
    """The layers of a network through a lens; UnknownName where one of them is not there."""
    layers, known = atlas.layers(name), atlas.organism(name)
    if lens not in ("deepdream", "caricature"):
        raise unknown("lens", lens, "this page", ["deepdream", "caricature"])
    column = "start" if lens == "deepdream" else "source"
    told = f"{escape(schema.table(lens).about.capitalize())}. {text.GRAPH if known else text.NO_GRAPH}"
    shown = {layer: {row[column]: row for row in atlas.rows(lens, name, layer)} for layer in layers}
    sources = sorted({each for rows in shown.values() for each in rows})
    if source is not None and source not in sources:
        raise unknown("picture", source, f"the {lens}s of {name}", sources)
    source = source or (NOISE if NOISE in sources else sources[0] if sources else None)
    title = known.title if known else name
    body = (
        f'<h1 tabindex="-1">{escape(title)}</h1>{_about(atlas, name)}'
        + markup.switch(
            "Lens",
            (
                (links.href(name, lens=each), schema.table(each).title, each == lens)
                for each in ("deepdream", "caricature")
            ),
        )
        + (
            markup.switch(
                "Picture", ((links.href(name, lens=lens, source=each), each, each == source) for each in sources)
            )
            if len(sources) > 1 or lens == "caricature"
            else ""
        )
        + f'<p class="about">{told}</p>'
        + ("" if sources else markup.absent(text.not_rendered(lens, name)))
        + _graph(atlas, name, lens, {layer: rows.get(source) for layer, rows in shown.items()}, source)
    )
    return page.frame(atlas, title, body, Key(name))


def _about(atlas: Atlas, name: str) -> str:
    known, made = atlas.organism(name), atlas.manifest.models[name]
    layers = atlas.layers(name)
    pairs = [("Key", f"<code>{escape(name)}</code>")]
    if known:
        pairs += [("Trained on", escape(known.dataset)), ("Year", str(known.year or "–"))]
        if known.paper:
            pairs.append(
                ("Paper", f'<a href="{escape(known.paper)}">{escape(known.paper.removeprefix("https://"))}</a>')
            )
    pairs += [
        ("Layers", f"{len(layers):,}"),
        ("Units", f"{sum(layers.values()):,}"),
        ("Weights", escape(f"{made['provenance']['license']}; sha256 {made['weights_sha256'][:12]}")),
    ]
    pairs += [(layer, escape(one.sentence)) for layer, one in sorted(stated(made).items())]
    return markup.facts(pairs)


def _graph(atlas: Atlas, name: str, lens: str, rows: Mapping[str, Row | None], source: str | None) -> str:
    """The layers as links, with their pictures, and how they are wired."""
    edges = _edges(atlas, name)
    wired = bool(edges)
    ranks = graph.ranked(edges, [INPUT, *rows]) if wired else [[layer] for layer in rows]
    lane = graph.lanes(ranks, edges)
    reads: dict[str, list[str]] = {}
    for start, end in edges:
        reads.setdefault(end, []).append(start)
    size, drawings = "", ""
    style = dict.fromkeys(lane, "")
    for form in graph.FORMS:
        at, height = graph.placed(ranks, lane, form)
        size += f"--{form.name}:{height}px;"
        drawings += graph.drawn(edges, at, form, height)
        for node, place in at.items():
            style[node] += f"--{form.name}-x:{place.x}px;--{form.name}-y:{place.y}px;"
    nodes = "".join(
        f'<li style="{style[node]}">'
        + (
            _input(atlas, name, source)
            if node == INPUT
            else _node(atlas, name, node, lens, rows[node], reads.get(node))
        )
        + "</li>"
        for rank in ranks
        for node in rank
    )
    return f'<div class="graph" style="{size}">{drawings}<ol aria-label="Layers, from the input on">{nodes}</ol></div>'


def _input(atlas: Atlas, name: str, source: str | None) -> str:
    """What the network is shown: the picture that is caricatured, where it is one of the package's."""
    known = atlas.organism(name)
    px = f"{known.input_size} × {known.input_size} px" if known else ""
    seen = _picture(source) if source in SOURCES else '<span class="nothing blank"></span>'
    return f"<div>{seen}<b>input</b><small>{px}</small></div>"


@cache
def _picture(source: str) -> str:
    """One of the package's pictures."""
    return markup.pixels(np.asarray(fitted(sources.source(source), SHOWN * 3 // 2)), SOURCES[source].title, SHOWN)


def _node(atlas: Atlas, name: str, layer: str, lens: str, row: Row | None, reads: Sequence[str] | None) -> str:
    """A layer as a link, with its picture where there is one."""
    seen = (
        markup.picture(links.image(lens, name, str(row["image"])), "", SHOWN)
        if row and row["image"]
        else '<span class="nothing" title="not rendered"></span>'
    )
    before = (
        f'<span class="unseen">, reads {escape(", ".join(reads)).replace(INPUT, "the input")}</span>' if reads else ""
    )
    return (
        f'<a href="{links.href(name, layer)}">{seen}<b>{markup.breakable(layer)}</b>'
        f"<small>{atlas.layers(name)[layer]:,} units</small>{before}</a>"
    )


def _edges(atlas: Atlas, name: str) -> list[tuple[str, str]]:
    """Which layer of the atlas leads to which, from `INPUT` on; none where the network is not known."""
    known, layers = atlas.organism(name), atlas.layers(name)
    if known is None:
        return []
    behind: dict[str, dict[str, None]] = {}  # layer -> those of the atlas that it is reached from
    for start, end in known.edges:
        behind.setdefault(end, {}).update({start: None} if start in layers else behind.get(start, {INPUT: None}))
    return [(start, end) for end in layers for start in behind.get(end, {INPUT: None})]
