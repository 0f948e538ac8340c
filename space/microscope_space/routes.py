"""From a link to a page: which view, of what, and what is said of a wrong link."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import fields
from difflib import get_close_matches

from markupsafe import Markup

from microscope_atlas.atlas import links as legacy
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import (
    AtlasError,
    ExtraMissing,
    InvalidKey,
    InvalidSetting,
    NotRendered,
    PicturesFailed,
    UnknownName,
    WeightsError,
    WrongLevel,
    unknown,
)
from microscope_atlas.keys import MAX_LENGTH, NUMBER, Key, parse_key
from microscope_space.html import links, markup, text
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.pages import (
    about,
    activation_atlas,
    compare,
    groups,
    home,
    layer,
    lists,
    model,
    network_map,
    search,
    unit,
    unit_map,
)
from microscope_space.pages import frame as framing
from microscope_space.pages.choice import Choice
from microscope_space.pages.frame import Page
from microscope_space.search.given import exists, straight

Query = Mapping[str, str]
LONG = {"units": 4096, "notes": 4096, "about": 1024}  # characters of parameters that hold several keys, or sentences

# errors whose words are for visitors
TOLD = (InvalidKey, InvalidSetting, UnknownName, WrongLevel, PicturesFailed, WeightsError, NotRendered)

log = logging.getLogger(__name__)


VIEWS: dict[str, Callable[[Atlas, Query], Page]] = {
    "compare": lambda atlas, asked: compare.compare(atlas, asked.get("a", ""), asked.get("b", "")),
    "list": lists.lists,
    unit_map.VIEW: lambda atlas, asked: _unit_map(atlas, key_of(asked), asked.get("part")),
    groups.VIEW: lambda atlas, asked: groups.groups(atlas, key_of(asked)),
    "about": lambda atlas, asked: about.about(atlas),
    "activation_atlas": lambda atlas, asked: activation_atlas.activation_atlas(
        atlas, asked.get("model", ""), asked.get("layer", ""), asked.get("zoom"), asked.get("cell")
    ),
    # what stands above a view of Gradio's components, which has the heading
    "caricature": lambda atlas, asked: Page(framing.VIEWS["caricature"], NOTHING, view="caricature"),
    "probe": lambda atlas, asked: Page(framing.VIEWS["probe"], NOTHING, view="probe"),
}


def show(atlas: Atlas, asked: Query) -> Markup:
    """The page at a link with these parameters, in its frame."""
    atlas = atlas.latest()
    return framing.frame(atlas, *answer(atlas, asked))


def answer(atlas: Atlas, asked: Query, path: str = "") -> tuple[Page, Markup]:
    """The page at a link with these parameters, and this path, and what is to be said before it.

    Of a wrong one, a page that says what is wrong and what is near; of one whose rows cannot be read, one that says so.
    """
    try:
        asked = given(atlas, asked, path)
        return _page(atlas, asked), _noted(atlas, asked)
    except Misled as error:
        return _wrong(atlas, error.asked, error.error), NOTHING
    except (InvalidKey, UnknownName, WrongLevel, NotRendered) as error:
        return _wrong(atlas, asked, error), NOTHING
    except ExtraMissing as error:  # a search by meaning, which cannot be made here
        return _wrong(atlas, asked, UnknownName(str(error))), NOTHING
    except AtlasError as error:  # damaged, or the Hub does not answer
        log.warning("%s: %s", asked, error)
        return unreadable(503), NOTHING


class Misled(Exception):
    """A link that asks nothing sound, and as much of it as may be used to say what is near."""

    def __init__(self, asked: Query, error: AtlasError):
        super().__init__(str(error))
        self.asked, self.error = asked, error


def given(atlas: Atlas, asked: Query, path: str) -> dict[str, str]:
    """What a link asks: what is empty or too long is left out, and what leads straight to a page is followed.

    Misled where it has a parameter that is too long, or a path that is none.
    """
    too_long = next((name for name, value in asked.items() if len(value) > _most(name)), None)
    asked = {name: value.strip() for name, value in asked.items() if value.strip() and len(value) <= _most(name)}
    try:
        if too_long is not None:
            raise InvalidKey(f"a parameter of this link is longer than {_most(too_long)} characters")
        asked = {**asked, **asked_by(path)}
        if "q" in asked:  # a key or a link is not searched for, but opened
            return straight(atlas, asked["q"]) or asked
    except (InvalidKey, UnknownName) as error:
        raise Misled(asked, error) from error
    return asked


def unreadable(status: int) -> Page:
    """Where rows cannot be read, whatever the reason."""
    body = html('<h1 tabindex="-1">{}</h1>{}', text.UNREADABLE, markup.error(text.UNREADABLE_WHY))
    return Page(text.UNREADABLE, body, text.UNREADABLE_WHY, view="wrong", status=status)


def public(error: AtlasError) -> str:
    """What strangers are told of an error: what they did wrong, and nothing of this server's folders."""
    if isinstance(error, TOLD):
        return str(error)
    log.warning("%s", error)
    return f"{text.UNREADABLE}. {text.UNREADABLE_WHY}"


def _most(name: str) -> int:
    """How long a parameter may be, in characters."""
    return LONG.get(name, MAX_LENGTH)


def _page(atlas: Atlas, asked: Query) -> Page:
    if "q" in asked:
        return search.results(atlas, asked["q"], asked.get("by", ""))
    if asked.keys() & {"units", "list"}:
        return lists.lists(atlas, asked)
    if "view" in asked and asked["view"] not in VIEWS:
        raise unknown("view", asked["view"], "this Space", VIEWS)
    if "view" in asked:
        return VIEWS[asked["view"]](atlas, asked)
    if "url" in asked and legacy.page(asked["url"]) == "about":
        return VIEWS["about"](atlas, asked)
    key = key_of(asked)
    if key is None:
        return home.home(atlas)
    if key.layer is None:
        return model.model(atlas, key.model, asked.get("lens", "deepdream"), asked.get("source"))
    if key.unit is None:
        chosen = {field.name: asked[field.name] for field in fields(Choice) if field.name in asked}
        return layer.layer(atlas, key.model, key.layer, Choice(**chosen))
    return unit.unit(atlas, key.model, key.layer, key.unit)


def _unit_map(atlas: Atlas, key: Key | None, part: str | None) -> Page:
    """The map of a network, or of a layer."""
    if key is not None and key.layer is None:
        return network_map.page(atlas, key.model, part)
    return unit_map.unit_map(atlas, key)


def key_of(asked: Query) -> Key | None:
    """What a link is about; None of all. InvalidKey, UnknownName where it cannot be."""
    if "url" in asked:
        return None if legacy.page(asked["url"]) else legacy.resolve(asked["url"])
    parts = [asked[name] for name in ("model", "layer", "unit") if name in asked]
    for name, above in (("layer", "model"), ("unit", "layer")):
        if name in asked and above not in asked:
            raise InvalidKey(f"this link names a {name} and no {above}")
    return parse_key("/".join(parts)) if parts else None


def asked_by(path: str) -> dict[str, str]:
    """What a path asks, as a query does: `inceptionv1/mixed4c/447`, `list`, or a path of OpenAI Microscope.

    InvalidKey where it has more parts than a key.
    """
    path = path.strip("/")
    if path == "list":
        return {"view": "list"}
    if path == "models" or path.startswith("models/"):
        return {"url": f"/{path}"}
    parts = path.split("/") if path else []
    if len(parts) > 3 or not all(parts):
        raise InvalidKey(f"the path /{path} has other parts than model, model/layer or model/layer/unit")
    return dict(zip(("model", "layer", "unit"), parts, strict=False))


def _noted(atlas: Atlas, asked: Query) -> Markup:
    """Where the link is to another revision, that is said first."""
    known = {atlas.pin, atlas.commit, atlas.release.tag if atlas.release else None}
    if asked.get("revision") in (None, *known):
        return NOTHING
    return html(
        '<p class="notice" role="status">This link was made at revision <b>{}</b>. Here is revision <b>{}</b>; what it '
        "shows may differ.</p>",
        asked["revision"],
        atlas.pin,
    )


def _wrong(atlas: Atlas, asked: Query, error: AtlasError) -> Page:
    listed = joined(
        html('<li><a href="{}">{}</a></li>', links.href(key.model, key.layer, key.unit), key)
        for key in nearest(atlas, asked)
    )
    body = html(
        '<h1 tabindex="-1">{}</h1>{}{}<p><a href="{}">All networks</a></p>',
        text.WRONG,
        markup.error(sentence(str(error))),
        html('<p>Nearest in this atlas:</p><ul class="found">{}</ul>', listed) if listed else NOTHING,
        links.root(),
    )
    return Page(text.WRONG, body, sentence(str(error)), view="wrong", status=status(atlas, asked, error))


def status(atlas: Atlas, asked: Query, error: AtlasError) -> int:
    """404 where what the link is about is not there, 400 where it is, and the question about it makes no sense."""
    if isinstance(error, InvalidKey | WrongLevel):
        return 400
    if "list" in asked or isinstance(error, NotRendered):
        return 404
    try:
        key = key_of(asked)
    except AtlasError:
        return 404
    return 400 if key is None or exists(atlas, key) else 404


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
