"""The section of a unit's page that says what it is said to be for, and by whom."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from microscope_space.html import markup, text
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.search.said import who

HEADS = ("Label", "Method", "Score", "Source", "License")
MOST = 12  # labels that are shown at once


def labelled(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """From a unit's rows of labels; nothing where it has none."""
    if not rows:
        return NOTHING
    body = _listed(rows[:MOST])
    if len(rows) > MOST:
        body += html("<details><summary>{} more</summary>{}</details>", len(rows) - MOST, _listed(rows[MOST:]))
    measures = dict.fromkeys(f"{row['method']}: {row['measure']}" for row in rows if row["measure"])
    about = " ".join([text.LABELS, *(f"Score of {each}." for each in measures)])
    return markup.section("labels", "Labels", body, about, text.LABELS_WARNING)


def captions(rows: Mapping[int, Mapping[str, Any]]) -> Markup:
    """Who says the labels that stand below pictures; nothing where there are none."""
    if not rows:
        return NOTHING
    told = dict.fromkeys(who(row["method"], row["source"]) for row in rows.values())
    return html('<p class="about">{}{}.</p>', text.LABELS_SHOWN, "; ".join(told))


def _listed(rows: Sequence[Mapping[str, Any]]) -> Markup:
    body = joined(
        html(
            '<tr><th scope="row">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>',
            row["label"],
            row["method"],
            markup.number(row["score"]),
            row["source"],
            row["license"],
        )
        for row in rows
    )
    return html(
        '<div class="rows" role="region" aria-label="Labels" tabindex="0">'
        "<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>",
        joined(html('<th scope="col">{}</th>', words) for words in HEADS),
        body,
    )
