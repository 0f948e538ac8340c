"""What was found, as a page."""

from markupsafe import Markup

from microscope_atlas.atlas.reader import Atlas
from microscope_space.html import links, markup, text
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.pages.frame import Page
from microscope_space.search.find import LONGEST, Found, Results, find

ABOUT = html(
    "Networks, layers, units such as <code>mixed4c 447</code>, names of classes, texts, and whatever of these is spelt "
    "nearly so. Keys and links, to OpenAI Microscope too, are opened at once."
)


def results(atlas: Atlas, words: str) -> Page:
    """What the words may mean, each with a thumbnail."""
    found = find(atlas, words)
    asked = words.strip()[:LONGEST]
    shown = f"“{asked}”"
    missing = html('<p class="notice" role="status">Not looked through: {}.</p>', "; ".join(found.missing))
    body = html(
        '<h1 tabindex="-1">Search <span>{}</span></h1><p class="lead" role="status">{}</p>{}'
        '<ul class="found pictured">{}</ul><p class="about">{}</p>',
        shown,
        _said(found),
        missing if found.missing else NOTHING,
        joined(map(_item, found.found)),
        ABOUT,
    )
    return Page(f"Search {shown}", body, f"What {text.TITLE} has of {shown}.", view="search", asked={"q": asked})


def _said(found: Results) -> Markup | str:
    if found.nearest:
        return "Nothing in this atlas is called so. Nearest:" if found.found else "Nothing in this atlas is called so."
    count = f"{len(found.found)} of {found.total:,}" if found.total > len(found.found) else f"{found.total:,} found"
    return html("Nothing is called so. {} for <b>{}</b>:", count, found.spelt) if found.spelt else f"{count}."


def _item(found: Found) -> Markup:
    key = found.key
    return html(
        '<li><a href="{}">{}<span>{}<small>{}</small></span></a></li>',
        links.href(key.model, key.layer, key.unit),
        markup.picture(links.thumbnail(key), "", 64),
        markup.breakable(str(key)),
        found.what,
    )
