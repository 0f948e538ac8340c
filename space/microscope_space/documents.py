"""Pages as documents: whole HTML from plain routes ahead of Gradio's, which is left the live views and the API."""

import hashlib
import logging
import re
from collections.abc import Callable, Hashable
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError, InvalidKey, UnknownName
from microscope_atlas.keys import parse_key
from microscope_space import figure, mapped_atlas, preview, routes
from microscope_space.answers import AGAIN, FOREVER, Content, answer, kind, soon
from microscope_space.finished import Finished
from microscope_space.html import links, text
from microscope_space.html.escaped import NOTHING, html
from microscope_space.pages import frame as framing
from microscope_space.pages import lists
from microscope_space.pages.frame import LIVE, Page
from microscope_space.search.given import exists

HERE = Path(__file__).parent / "html"
FILES = {"style.css": "text/css", "script.js": "text/javascript", "icon.svg": "image/svg+xml"}
HOST = re.compile(r"[\w.-]+(:\d+)?|\[[\da-fA-F:]+\](:\d+)?")  # that may stand in a link
THEMES = ("dark", "light")  # that a frame around the Space asks for; else the browser says which

log = logging.getLogger(__name__)


def documents(atlas: Atlas) -> list[Route]:
    """The routes of all pages that are read, and of what they need."""
    previews, maps, finished = preview.Previews(), mapped_atlas.Maps(), Finished()

    def page(request: Request) -> Response:
        now = atlas.latest()
        if known := finished.find(_asked(now, request)):
            return answer(request, known)
        with links.based(root(request), now.version, origin(request)):
            shown, notice = _answer(now, request)
            whole = document(now, shown, notice, origin(request), request.query_params.get("__theme", ""))
        content = Content(whole.encode(), "text/html")
        if shown.status == 200 and shown.key:  # lists are no part of an atlas' version
            finished.keep(_asked(now, request), content)
        return answer(request, content, status=shown.status)

    def is_finished(request: Request) -> bool:
        now = atlas.seen()
        return now is not None and finished.find(_asked(now, request)) is not None

    def file(request: Request) -> Response:
        name, digest, kind = request.path_params["name"], request.path_params["digest"], request.path_params["kind"]
        if (known := f"{name}.{kind}") not in FILES:
            return answer(request, b"There is no such file.", "text/plain", 404)
        content, now = _file(known)
        return answer(request, content, kept=FOREVER if digest == now else AGAIN)

    def seen(request: Request) -> Response:
        def preview_of(now: Atlas) -> bytes:
            path = request.path_params["key"]
            key = parse_key(path) if path else None
            if key and not exists(now, key):
                raise UnknownName("This is not in the atlas.")
            return previews.of(now, key)

        return _picture(request, atlas.latest(), preview_of)

    def mapped(request: Request) -> Response:
        def map_of(now: Atlas) -> bytes:
            asked = request.query_params
            return maps.of(now, parse_key(request.path_params["key"]), asked.get("zoom", ""), asked.get("part", ""))

        return _picture(request, atlas.latest(), map_of, invalid=404)

    def drawn(request: Request) -> Response:
        def figure_of(now: Atlas) -> bytes:
            try:
                units = lists.asked_for(now, routes.given(now, dict(request.query_params), ""))
            except routes.Misled as misled:
                raise InvalidKey(routes.public(misled.error)) from misled
            if units is None:
                raise InvalidKey("This link names no list, and no units.")
            if not any(lists.unit_of(now, entry) for entry in units.units):
                raise UnknownName("No unit of this list is in the atlas.")
            return figure.figure(now, units)

        return _picture(request, atlas.latest(), figure_of)

    return [
        Route("/files/{name}.{digest}.{kind}", soon(lambda _: True, file)),
        Route("/preview/{key:path}", seen),
        Route("/map/{key:path}", mapped),
        Route("/figure", drawn),
        Document("/{path:path}", soon(is_finished, page)),
    ]


def _picture(request: Request, now: Atlas, draw: Callable[[Atlas], bytes], invalid: int = 400) -> Response:
    """A picture that is drawn of the atlas as it is now; in words, with a status, where it cannot be."""
    try:
        content = draw(now)
    except AtlasError as error:
        status = invalid if isinstance(error, InvalidKey) else 404 if isinstance(error, UnknownName) else 503
        return answer(request, routes.public(error).encode(), "text/plain", status)
    kept = FOREVER if request.query_params.get("v") == now.version else AGAIN
    return answer(request, content, kind(content), kept=kept)


class Document(Route):
    """Everything but what is Gradio's: the live views, and its own files and endpoints."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is not Match.NONE and _is_gradios(child["path_params"]["path"], Request(scope)):
            return Match.NONE, {}
        return match, child


def _is_gradios(path: str, request: Request) -> bool:
    first = path.strip("/").partition("/")[0]
    if not first:
        return request.query_params.get("view") in LIVE
    return first in links.TAKEN and first != "models"


def _asked(atlas: Atlas, request: Request) -> Hashable:
    """All that a page depends on."""
    return atlas.version, root(request), origin(request), request.path_params["path"], request.url.query


def _answer(atlas: Atlas, request: Request) -> tuple[Page, Markup]:
    try:
        return routes.answer(atlas, dict(request.query_params), request.path_params["path"])
    except Exception:  # nobody is shown a trace, whatever an atlas holds
        log.exception("no page for %s", request.url)
        return routes.unreadable(500), NOTHING


def document(atlas: Atlas, page: Page, notice: Markup = NOTHING, origin: str = "", theme: str = "") -> Markup:
    """A page as a document of its own, for the Space at `origin`, `https://name.hf.space`, and links' base."""
    where = f"{origin}{links.root()}"
    picture = f"{where}{preview.path(page.key)}?v={atlas.version}"
    return html(
        '<!doctype html><html lang="en" class="{}" data-query="{}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>{}</title>'
        '<meta name="description" content="{}">{}'
        '<meta property="og:site_name" content="{}"><meta property="og:type" content="website">'
        '<meta property="og:title" content="{}"><meta property="og:description" content="{}">'
        '<meta property="og:url" content="{}"><meta property="og:image" content="{}">'
        '<meta property="og:image:width" content="{}"><meta property="og:image:height" content="{}">'
        '<meta property="og:image:alt" content="{}"><meta name="twitter:card" content="summary_large_image">'
        '<link rel="icon" href="{}" type="image/svg+xml"><link rel="stylesheet" href="{}">'
        '<script src="{}" defer></script></head><body>{}</body></html>',
        f"page {theme}" if theme in THEMES else "page",
        page.query.removeprefix("?"),
        page.shown,
        page.about,
        html(
            '<link rel="canonical" href="{}"><link rel="alternate" type="application/json" href="{}json/{}">',
            where + page.path,
            where,
            page.path,
        )
        if page.status == 200
        else html('<meta name="robots" content="noindex">'),
        text.TITLE,
        page.title or text.TITLE,
        page.about,
        where + page.path,
        picture,
        preview.WIDTH,
        preview.HEIGHT,
        f"What {page.key or text.TITLE} looks like",
        address_of("icon.svg"),
        address_of("style.css"),
        address_of("script.js"),
        framing.frame(atlas, page, notice),
    )


def address_of(name: str) -> str:
    """The link to one of the Space's own files, which changes when the file does."""
    stem, _, kind = name.partition(".")
    return f"{links.root()}files/{stem}.{_file(name)[1]}.{kind}"


@cache
def _file(name: str) -> tuple[Content, str]:
    """A file's content and its hash."""
    content = (HERE / name).read_bytes()
    return Content(content, FILES[name]), hashlib.sha256(content).hexdigest()[:12]


def root(request: Request) -> str:
    """The path of the Space behind whatever stands before it: `/`, or `/atlas/`."""
    given = urlsplit(request.scope.get("root_path", ""))
    return f"{given.path.rstrip('/')}/"


def origin(request: Request) -> str:
    """`https://name.hf.space`, as its visitors see it; empty where the request does not say it soundly."""
    given = urlsplit(request.scope.get("root_path", ""))
    if given.netloc:
        return f"{given.scheme}://{given.netloc}"
    host = _first(request, "x-forwarded-host") or request.headers.get("host", "")
    scheme = _first(request, "x-forwarded-proto") or request.url.scheme
    return f"{scheme}://{host}" if HOST.fullmatch(host) and scheme in ("http", "https") else ""


def address(request: Request) -> str:
    """The whole link to the Space, with the slash behind; its path alone where the request does not say it soundly."""
    return f"{origin(request)}{root(request)}"


def _first(request: Request, header: str) -> str:
    """What the proxy next to the visitor said."""
    return request.headers.get(header, "").partition(",")[0].strip()
