"""A network's page: its layers from input to logits, each by what excites all of it, or keeps of a picture."""

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from markupsafe import Markup

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.dictionaries import stated
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError, unknown
from microscope_atlas.keys import Key
from microscope_atlas.pictures import sources
from microscope_atlas.pictures.decoder import fitted
from microscope_atlas.pictures.sources import SOURCES
from microscope_space.html import graph, links, markup, text
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.pages import network_map
from microscope_space.pages.frame import Page
from microscope_space.pages.home import count

log = logging.getLogger(__name__)

INPUT = "(input)"  # no layer's name
SHOWN = 128  # px on a side
Row = Mapping[str, Any]

NOISE = "noise"  # the deepdream that starts from nothing


def model(atlas: Atlas, name: str, lens: str = "deepdream", source: str | None = None) -> Page:
    """The layers of a network through a lens; UnknownName where one of them is not there."""
    layers, known = atlas.layers(name), atlas.organism(name)
    if lens not in ("deepdream", "caricature"):
        raise unknown("lens", lens, "this page", ["deepdream", "caricature"])
    column = "start" if lens == "deepdream" else "source"
    told = f"{schema.table(lens).about.capitalize()}. {text.GRAPH if known else text.NO_GRAPH}"
    shown, lost = {}, 0
    for layer in layers:
        rows = _rows(atlas, name, layer, lens, (column, "image"))
        shown[layer] = {row[column]: row for row in rows or () if isinstance(row[column], str)}
        lost += rows is None
    sources = sorted({each for rows in shown.values() for each in rows})
    if source is not None and source not in sources:
        raise unknown("picture", source, f"the {lens}s of {name}", sources)
    asked = {"lens": lens} if lens != "deepdream" else {}
    asked |= {"source": source} if source else {}
    source = source or (NOISE if NOISE in sources else sources[0] if sources else None)
    title = known.title if known else name
    body = html(
        '<h1 tabindex="-1">{}</h1>{}{}{}<p class="about">{}</p>{}{}{}',
        title,
        _about(atlas, name),
        markup.switch(
            "Lens",
            (
                (links.href(name, lens=each), schema.table(each).title, each == lens)
                for each in ("deepdream", "caricature")
            ),
        ),
        markup.switch("Picture", ((links.href(name, lens=lens, source=each), each, each == source) for each in sources))
        if len(sources) > 1 or lens == "caricature"
        else NOTHING,
        told,
        network_map.link_to(atlas, name),
        NOTHING if sources else markup.absent(text.LOST if lost else text.not_rendered(lens, name)),
        _graph(atlas, name, lens, {layer: rows.get(source) for layer, rows in shown.items()}, source),
    )
    units = count(sum(layers.values()), "unit")
    about = f"{title}: {count(len(layers), 'layer')}, {units}, from the input to the logits, and what excites each."
    return Page(title, body, about, Key(name), asked=asked)


def _rows(atlas: Atlas, name: str, layer: str, lens: str, columns: tuple[str, ...]) -> list[dict[str, Any]] | None:
    """Rows of a layer; None where they cannot be read."""
    try:
        rows: list[dict[str, Any]] = atlas.some(lens, name, layer, columns).to_pylist()
    except AtlasError as error:  # the page does without
        log.warning("%s of %s/%s: %s", lens, name, layer, error)
        return None
    return rows


def _about(atlas: Atlas, name: str) -> Markup:
    known, made = atlas.organism(name), atlas.manifest.models[name]
    layers = atlas.layers(name)
    pairs: list[tuple[str, Markup | str]] = [("Key", html("<code>{}</code>", name))]
    if known:
        pairs += [("Trained on", known.dataset), ("Year", str(known.year or "–"))]
        if known.paper:
            pairs.append(("Paper", markup.linked(known.paper, known.paper.removeprefix("https://"))))
    pairs += [
        ("Layers", f"{len(layers):,}"),
        ("Units", f"{sum(layers.values()):,}"),
        ("Weights", f"{made['provenance']['license']}; sha256 {made['weights_sha256'][:12]}"),
    ]
    pairs += [(layer, one.sentence) for layer, one in sorted(stated(made).items())]
    return markup.facts(pairs)


def _graph(atlas: Atlas, name: str, lens: str, rows: Mapping[str, Row | None], source: str | None) -> Markup:
    """The layers as links, with their pictures, and how they are wired."""
    edges = _edges(atlas, name)
    wired = bool(edges)
    ranks = graph.ranked(edges, [INPUT, *rows]) if wired else [[layer] for layer in rows]
    lane = graph.lanes(ranks, edges)
    reads: dict[str, list[str]] = {}
    for start, end in edges:
        reads.setdefault(end, []).append(start)
    size, drawings = "", NOTHING
    style = dict.fromkeys(lane, "")
    for form in graph.FORMS:
        at, height = graph.placed(ranks, lane, form)
        size += f"--{form.name}:{height}px;"
        drawings += graph.drawn(edges, at, form, height)
        for node, place in at.items():
            style[node] += f"--{form.name}-x:{place.x}px;--{form.name}-y:{place.y}px;"
    nodes = joined(
        html(
            '<li style="{}">{}</li>',
            style[node],
            _input(atlas, name, source)
            if node == INPUT
            else _node(atlas, name, node, lens, rows[node], reads.get(node)),
        )
        for rank in ranks
        for node in rank
    )
    return html(
        '<div class="graph" style="{}">{}<ol aria-label="Layers, from the input on">{}</ol></div>',
        size,
        drawings,
        nodes,
    )


def _input(atlas: Atlas, name: str, source: str | None) -> Markup:
    """What the network is shown: the picture that is caricatured, where it is one of the package's."""
    known = atlas.organism(name)
    px = f"{known.input_size} × {known.input_size} px" if known else ""
    seen = _picture(source) if source in SOURCES else html('<span class="nothing blank"></span>')
    return html("<div>{}<b>input</b><small>{}</small></div>", seen, px)


@cache
def _picture(source: str) -> Markup:
    """One of the package's pictures."""
    return markup.pixels(np.asarray(fitted(sources.source(source), SHOWN * 3 // 2)), SOURCES[source].title, SHOWN)


def _node(atlas: Atlas, name: str, layer: str, lens: str, row: Row | None, reads: Sequence[str] | None) -> Markup:
    """A layer as a link, with its picture where there is one."""
    seen = (
        markup.picture(links.image(lens, name, str(row["image"])), "", SHOWN)
        if row and row["image"]
        else html('<span class="nothing" title="not rendered"></span>')
    )
    before = ", ".join("the input" if each == INPUT else each for each in reads or ())
    return html(
        '<a href="{}">{}<b>{}</b><small>{} units</small>{}</a>',
        links.href(name, layer),
        seen,
        markup.breakable(layer),
        f"{atlas.layers(name)[layer]:,}",
        html('<span class="unseen">, reads {}</span>', before) if before else NOTHING,
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
