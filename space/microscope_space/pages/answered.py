"""The section of a unit's page that says which classes of pictures it answers."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from microscope_space.html import markup, text
from microscope_space.html.escaped import NOTHING, html, joined

HEADS = ("Class", "Mean response", "Pictures", "Of the strongest samples")


def answered(about: Mapping[str, Any] | None) -> Markup:
    """From a unit's row of `responses`; nothing where its pictures have no classes."""
    if about is None or about.get("classes") is None:
        return NOTHING
    rows = joined(
        html(
            '<tr><th scope="row">{}</th><td>{}</td><td>{}</td><td>{}</td></tr>',
            each["name"],
            markup.number(each["mean"]),
            f"{each['num_pictures']:,}",
            f"{each['top_share']:.0%}",
        )
        for each in about["classes"]
    )
    if not rows:
        return markup.section("classes", "Classes", markup.absent("No class of its pictures excites it."))
    body = html(
        '<p>Selectivity: <b>{}</b></p><div class="rows" role="region" aria-label="Classes" tabindex="0">'
        "<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>",
        markup.number(about["class_selectivity"]),
        joined(html('<th scope="col">{}</th>', words) for words in HEADS),
        rows,
    )
    return markup.section("classes", "Classes", body, text.CLASSES, text.CLASSES_WARNING)
