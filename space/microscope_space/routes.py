"""From a link's query to a page: which view, of what, and what is said of a wrong link."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from functools import partial
from html import escape

from microscope_atlas.atlas import links as legacy
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError, InvalidKey, UnknownName, unknown
from microscope_atlas.keys import MAX_LENGTH, NUMBER, Key, parse_key
from microscope_space.html import links, text
from microscope_space.pages import about, compare, home, layer, model, search, unit
from microscope_space.pages import frame as page

Query = Mapping[str, str]

log = logging.getLogger(__name__)


def _live(view: str, atlas: Atlas, asked: Query) -> str:
    """What stands above a view of Gradio's components."""
    title = page.VIEWS[view]
    return page.frame(atlas, title, "", view=view)  # the view has the heading


VIEWS: dict[str, Callable[[Atlas, Query], str]] = {
    "compare": lambda atlas, asked: compare.compare(atlas, asked.get("a", ""), asked.get("b", "")),
    "about": lambda atlas, asked: about.about(atlas),
    **{view: partial(_live, view) for view in page.LIVE},
}


def show(atlas: Atlas, asked: Query) -> str:
    """The page at a link with these parameters.

    Of a wrong one, a page that says what is wrong and what is near; of one whose rows cannot be read, one that says so.
    """
    atlas = atlas.latest()
    too_long = next((name for name, value in asked.items() if len(value) > MAX_LENGTH), None)
    asked = {name: value.strip() for name, value in asked.items() if value.strip() and len(value) <= MAX_LENGTH}
    try:
        if too_long is not None:
            raise InvalidKey(f"a parameter of this link is longer than {MAX_LENGTH} characters")
        return _noted(atlas, asked, _page(atlas, asked))
    except (InvalidKey, UnknownName) as error:
        return _wrong(atlas, asked, error)
    except AtlasError as error:  # damaged, or the Hub does not answer
        log.warning("%s: %s", asked, error)
        body = f'<h1 tabindex="-1">{text.UNREADABLE}</h1><p class="error" role="alert">{text.UNREADABLE_WHY}</p>'
        return page.frame(atlas, text.UNREADABLE, body)


def _page(atlas: Atlas, asked: Query) -> str:
    if "q" in asked:
        return search.results(atlas, asked["q"])
    if "view" in asked and asked["view"] not in VIEWS:
        raise unknown("view", asked["view"], "this Space", VIEWS)
    if "view" in asked:
        return VIEWS[asked["view"]](atlas, asked)
    key = key_of(asked)
    if key is None:
        return home.home(atlas)
    if key.layer is None:
        return model.model(atlas, key.model, asked.get("lens", "deepdream"), asked.get("source"))
    if key.unit is None:
        chosen = {field.name: asked[field.name] for field in fields(layer.Choice) if field.name in asked}
        return layer.layer(atlas, key.model, key.layer, layer.Choice(**chosen))
    return unit.unit(atlas, key.model, key.layer, key.unit)


def key_of(asked: Query) -> Key | None:
    """What a link is about; None of all. InvalidKey, UnknownName where it cannot be."""
    if "url" in asked:
        return legacy.resolve(asked["url"])
    parts = [asked[name] for name in ("model", "layer", "unit") if name in asked]
    for name, above in (("layer", "model"), ("unit", "layer")):
        if name in asked and above not in asked:
            raise InvalidKey(f"this link names a {name} and no {above}")
    return parse_key("/".join(parts)) if parts else None


def _noted(atlas: Atlas, asked: Query, shown: str) -> str:
    """The page; where the link is to another revision, it is said first."""
    known = {atlas.pin, atlas.commit, atlas.release.tag if atlas.release else None}
    if asked.get("revision") in (None, *known):
        return shown
    notice = (
        f'<p class="notice" role="status">This link was made at revision <b>{escape(asked["revision"])}</b>. Here is '
        f"revision <b>{escape(atlas.pin)}</b>; what it shows may differ.</p>"
    )
    return shown.replace('<div id="content"', f'{notice}<div id="content"', 1)


def _wrong(atlas: Atlas, asked: Query, error: Exception) -> str:
    listed = "".join(
        f'<li><a href="{links.href(key.model, key.layer, key.unit)}">{escape(str(key))}</a></li>'
        for key in nearest(atlas, asked)
    )
    body = (
        f'<h1 tabindex="-1">{text.WRONG}</h1><p class="error" role="alert">{escape(sentence(str(error)))}</p>'
        + (f'<p>Nearest in this atlas:</p><ul class="found">{listed}</ul>' if listed else "")
        + '<p><a href="?">All networks</a></p>'
    )
    return page.frame(atlas, text.WRONG, body, view="wrong")


def sentence(message: str) -> str:
    """An error's message as a visitor reads it."""
    return f"{message[:1].upper()}{message[1:]}."


def nearest(atlas: Atlas, asked: Query) -> list[Key]:
    """What a wrong link may have meant: up to three keys that the atlas has, as deep as the link goes."""
    try:
        key = legacy.resolve(asked["url"]) if "url" in asked else None
    except AtlasError:
        return []  # no name can be taken from it
    name = key.model if key else asked.get("model", "")
    if name not in atlas.models:
        return [Key(each) for each in _close(name, atlas.models)]
    inner = (key.layer if key else asked.get("layer")) or ""
    layers = atlas.layers(name)
    if inner not in layers:
        return [Key(name, each) for each in _close(inner, layers)] if inner else [Key(name)]
    number = str(key.unit) if key else asked.get("unit", "")
    if not NUMBER.fullmatch(number):
        return [Key(name, inner)]
    return [Key(name, inner, min(int(number), layers[inner] - 1)), Key(name, inner)]


def _close(name: str, names: Mapping[str, int] | list[str]) -> list[str]:
    return get_close_matches(name, list(names), n=3, cutoff=0.3) or list(names)[:3]
