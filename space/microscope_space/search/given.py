"""What needs no search: a key, a link to this Space or another of its kind, a link to OpenAI Microscope."""

import re
from urllib.parse import parse_qsl, unquote

from microscope_atlas.atlas import links as legacy
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError
from microscope_atlas.keys import Key, parse_key

URL = re.compile(r"https?://[^\s\"'<>]+")
ASKED = ("model", "view", "units", "list", "url", "q")  # parameters of which one makes a link one to a page
AROUND = ".,;:!)]}"  # what text puts behind a link


def straight(atlas: Atlas, words: str) -> dict[str, str] | None:
    """The parameters of the link that somebody typed or pasted; None: it is something to be searched for.

    What a link leads to need not be there: its page says so, and what is near. A key does.
    """
    link = words.strip()
    if found := URL.search(link):
        link = found[0].rstrip(AROUND)
    before, _, after = link.partition("?")
    host, path = _parts(before.partition("#")[0])
    if host == legacy.HOST or path.startswith(legacy.HOST):
        return {"url": link}
    asked = dict(parse_qsl(after.partition("#")[0]))
    if any(name in asked for name in ASKED):
        return asked
    if path.startswith(("/models/", "models/")):
        return {"url": f"/{path.lstrip('/')}"}
    key = _within(atlas, path) if host or path.startswith("/") else key_of(atlas, path.strip())
    return query(key) if key else None


def _parts(link: str) -> tuple[str, str]:
    """Host and path of a link, without what it asks for."""
    _, scheme, rest = link.partition("://")
    host, slash, path = rest.partition("/")
    return (host, unquote(f"{slash}{path}")) if scheme else ("", unquote(link))


def _within(atlas: Atlas, path: str) -> Key | None:
    """The key at the end of a path: the Space may stand behind a prefix, and a card's link begins with `embed`."""
    parts = [part for part in path.split("/") if part]
    keys = (key_of(atlas, "/".join(parts[first:])) for first in range(max(0, len(parts) - 3), len(parts)))
    return next(filter(None, keys), None)


def key_of(atlas: Atlas, text: str) -> Key | None:
    """The key that a text is, its layer named as now or as OpenAI Microscope did; None where the atlas has none."""
    for read in (parse_key, lambda text: legacy.resolve(f"/models/{text}")):
        try:
            key = read(text.rstrip("/"))
        except AtlasError:
            continue  # it is something else
        if exists(atlas, key):
            return key
    return None


def named(atlas: Atlas, words: str) -> Key | None:
    """The key that the words are, or that a link among them leads to; None where it is not in the atlas."""
    asked = straight(atlas, words) or {}
    parts = [asked[name] for name in ("model", "layer", "unit") if name in asked]
    try:
        key = legacy.resolve(asked["url"]) if "url" in asked else parse_key("/".join(parts))
    except AtlasError:
        return None
    return key if exists(atlas, key) else None


def exists(atlas: Atlas, key: Key) -> bool:
    """Whether the atlas has such a model, layer or unit."""
    if key.model not in atlas.models or key.layer is None:
        return key.model in atlas.models
    units = atlas.layers(key.model).get(key.layer)
    return units is not None and (key.unit is None or key.unit < units)


def query(key: Key) -> dict[str, str]:
    """The parameters of the link to a key's page."""
    named = {"model": key.model, "layer": key.layer, "unit": None if key.unit is None else str(key.unit)}
    return {name: value for name, value in named.items() if value is not None}
