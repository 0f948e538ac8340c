"""Links between the pages, to pictures, and to elsewhere.

A page has one path, `/inceptionv1/mixed4c/447`; the query of version 0.1, `?model=inceptionv1&layer=mixed4c&unit=447`,
leads to the same page for good.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, quote_plus, urlencode

from microscope_atlas.keys import Key

# first parts of paths that are not networks': ours and Gradio's. A network of such a name has links with a query alone
TAKEN = frozenset(
    (
        "picture", "thumbnail", "photo", "preview", "glance", "map", "figure", "json", "mcp", "files", "embed",
        "models",
        "gradio_api", "assets", "config", "favicon.ico", "login", "logout", "manifest.json", "monitoring",
        "openapi.json", "pwa_icon", "robots.txt", "static", "svelte", "theme.css",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Base:
    """What links are made for."""

    root: str = "./"  # the Space's own path, `/`; as it is here, relative to Gradio's page, which stands there
    version: str = ""  # a hash of the atlas: a picture's link with it always leads to the same picture
    origin: str = ""  # `https://name.hf.space`, before the root; empty where nobody knows


_base: ContextVar[Base] = ContextVar("base", default=Base())  # noqa: B039 - it is frozen


@contextmanager
def based(root: str, version: str, origin: str = "") -> Iterator[None]:
    """Make links for pages that stand below `root` and show this version of the atlas."""
    token = _base.set(Base(root, version, origin))
    try:
        yield
    finally:
        _base.reset(token)


def root() -> str:
    """The path of the Space: of its first page."""
    return _base.get().root


def address() -> str:
    """The whole link to the Space, with the slash behind, for what is copied; SPACE/ where nobody knows it."""
    base = _base.get()
    return f"{base.origin}{base.root}" if base.origin else "SPACE/"


def version() -> str:
    """The hash of the atlas that links are made for; empty where nobody said."""
    return _base.get().version


def href(model: str | None = None, layer: str | None = None, unit: int | None = None, **more: str | None) -> str:
    """The page of a key, `/inceptionv1/mixed4c/447`, or without one the first; what is None is left out."""
    return root() + path(model, layer, unit, **more)


def path(model: str | None = None, layer: str | None = None, unit: int | None = None, **more: str | None) -> str:
    """The same without the root: `inceptionv1/mixed4c/447?revision=v2026.11.0`."""
    if model in TAKEN:
        return query(model, layer, unit, **more)
    parts = [_part(name) for name in (model, layer) if name is not None]
    if unit is not None:
        parts.append(str(unit))
    return "/".join(parts) + _query(more)


def query(model: str | None = None, layer: str | None = None, unit: int | None = None, **more: str | None) -> str:
    """`?model=inceptionv1&layer=mixed4c&unit=447`, which leads to the same page; empty where nothing is asked."""
    return _query({"model": model, "layer": layer, "unit": unit, **more})


def image(table: str, model: str, name: str, column: str = "image", **more: str) -> str:
    """Where a page finds an image of the atlas."""
    asked = {"table": table, "model": model, "column": column, "name": name, **more, "v": version()}
    return f"{root()}picture?{'&'.join([f'{name}={_quoted(value)}' for name, value in asked.items() if value])}"


def photo(name: str, version: str) -> str:
    """Where a page finds a photo of the package."""
    return f"{root()}photo/{name}?{urlencode({'v': version})}"


def thumbnail(key: Key) -> str:
    """Where a page finds a small picture of what a key names."""
    said = {"v": version()} if version() else {}
    return f"{root()}thumbnail/{quote(str(key), safe='/:')}{_query(said)}"


def map(key: Key, **asked: str) -> str:
    """Where a page finds a map as one picture: of a layer's activations at a `zoom`, or a `part` of a network's."""
    return f"{root()}map/{quote(str(key), safe='/:')}{_query({**asked, 'v': version() or None})}"


def glance() -> str:
    """Where a page finds what it shows of a unit at a glance: behind it comes the unit's key."""
    return f"{root()}glance/"


def figure(**asked: str | None) -> str:
    """Where a page finds a list of units as one picture; `asked` is what the list's page is asked."""
    return f"{root()}figure{_query({**asked, 'v': version() or None})}"


def asked(**more: str) -> str:
    """The query of a link to what never changes."""
    return _query({**more, **({"v": version()} if version() else {})})


def outside(url: str) -> str | None:
    """A link that an atlas states to elsewhere; None where it is none that a page may lead to."""
    return url if url.startswith("https://") else None


@lru_cache(4096)  # a page says the same few again and again
def _part(name: str) -> str:
    """A name within a path."""
    return quote(name, safe=":")


@lru_cache(4096)
def _quoted(value: str) -> str:
    """A value within a query."""
    return quote_plus(value)


def _query(asked: Mapping[str, str | int | None]) -> str:
    if not asked:
        return ""
    said = urlencode({name: value for name, value in asked.items() if value is not None})
    return f"?{said}" if said else ""
