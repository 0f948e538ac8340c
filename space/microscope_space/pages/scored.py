"""The section of a unit's page that says what its samples have in common, in numbers, each with what it means."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from microscope_atlas.keys import Key
from microscope_space.html import links, markup, text
from microscope_space.html.escaped import NOTHING, html, joined


def scored(key: Key, row: Mapping[str, Any] | None) -> Markup:
    """From a unit's row of `scores`; nothing where there is none."""
    if row is None:
        return NOTHING
    sizes = " + ".join(map(str, row["clusters"]))
    many = len(row["clusters"])
    told: list[tuple[str, Markup | str]] = [
        ("clarity", _said(row["clarity"], text.CLARITY)),
        (
            "likeness",
            _said(row["likeness"], text.LIKENESS.format(random=markup.number(row["random_likeness"]))),
        ),
        (
            "polysemanticity",
            _said(row["polysemanticity"], text.POLYSEMANTICITY + (f"; {many} stand out: {sizes}" if many > 1 else "")),
        ),
        ("redundancy", _twin(key, row["redundancy"], row["twin"], text.REDUNDANCY)),
        ("correlation", _twin(key, row["correlation"], row["answers_like"], text.CORRELATION)),
    ]
    about = text.SCORES.format(num=row["num_samples"], embedding=row["embedding"], layer=row["embedding_layer"])
    body = markup.flagged(row["flag"]) + joined(
        html("<p><b>{}</b> {}</p>", name.capitalize(), said) for name, said in told if said
    )
    return markup.section("scores", "Scores", body, about, text.SCORES_WARNING)


def _said(value: float | None, meaning: str) -> Markup:
    return NOTHING if value is None else html("{} <small>{}</small>", markup.number(value), meaning)


def _twin(key: Key, value: float | None, unit: int | None, meaning: str) -> Markup:
    """A number, and the unit that it is about, as a link."""
    if value is None or unit is None:
        return NOTHING
    to = html('<a href="{}">{}</a>', links.href(key.model, key.layer, unit), unit)
    return html("{} <small>{} unit {}</small>", markup.number(value), meaning, to)
