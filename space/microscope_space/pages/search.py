"""What was found, as a page."""

from markupsafe import Markup

from microscope_atlas.atlas.reader import Atlas
from microscope_space.html import links, markup, text
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.pages.frame import Page
from microscope_space.search import meaning
from microscope_space.search.find import LONGEST, Found, Results, find
from microscope_space.search.said import who

ABOUT = html(
    "Networks, layers, units such as <code>mixed4c 447</code>, names of classes, labels, texts, and whatever of these "
    "is spelt nearly so. Keys and links, to OpenAI Microscope too, are opened at once."
)


def results(atlas: Atlas, words: str, by: str = "") -> Page:
    """What the words may mean, each with a thumbnail; `by` meaning, the units that are nearest to them."""
    found = meaning.meant(atlas, words) if by == meaning.BY else find(atlas, words)
    asked = words.strip()[:LONGEST]
    shown = f"“{asked}”"
    missing = html('<p class="notice" role="status">Not looked through: {}.</p>', "; ".join(found.missing))
    body = html(
        '<h1 tabindex="-1">Search <span>{}</span></h1><p class="lead" role="status">{}</p>{}{}'
        '<ul class="found pictured">{}</ul><p class="about">{}</p>',
        shown,
        text.MEANT if by == meaning.BY else _said(found),
        _otherwise(atlas, asked, by),
        missing if found.missing else NOTHING,
        joined(_item(atlas, each) for each in found.found),
        ABOUT,
    )
    return Page(f"Search {shown}", body, f"What {text.TITLE} has of {shown}.", view="search", asked=_asked(asked, by))


def _asked(words: str, by: str) -> dict[str, str]:
    return {"q": words, "by": by} if by == meaning.BY else {"q": words}


def _otherwise(atlas: Atlas, words: str, by: str) -> Markup:
    """A link to the other way to search, where there are two."""
    if by == meaning.BY:
        return html('<p><a href="{}">{}</a></p>', links.href(q=words), text.BY_NAME)
    if not meaning.at_hand(atlas):
        return NOTHING
    return html('<p><a href="{}">{}</a></p>', links.href(q=words, by=meaning.BY), text.BY_MEANING)


def _said(found: Results) -> Markup | str:
    if found.nearest:
        return "Nothing in this atlas is called so. Nearest:" if found.found else "Nothing in this atlas is called so."
    count = f"{len(found.found)} of {found.total:,}" if found.total > len(found.found) else f"{found.total:,} found"
    return html("Nothing is called so. {} for <b>{}</b>:", count, found.spelt) if found.spelt else f"{count}."


def _item(atlas: Atlas, found: Found) -> Markup:
    key = found.key
    known = atlas.first_labels(key.model, key.layer).get(key.unit) if key.layer and key.unit is not None else None
    labelled = known and known["label"] not in found.what
    return html(
        '<li><a href="{}">{}<span>{}<small>{}</small>{}</span></a></li>',
        links.href(key.model, key.layer, key.unit),
        markup.picture(links.thumbnail(key), "", 64),
        markup.breakable(str(key)),
        found.what,
        html("<small>label: {} ({})</small>", known["label"], who(known["method"], known["source"]))
        if known and labelled
        else NOTHING,
    )
