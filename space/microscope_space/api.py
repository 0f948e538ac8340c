"""The atlas for programs: endpoints of the Space, and its pictures and cards as plain routes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gradio as gr
from gradio.events import api
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.atlas.schema import TABLES
from microscope_atlas.errors import AtlasDamaged, AtlasError, InvalidKey, UnknownName
from microscope_atlas.keys import parse_key
from microscope_atlas.pictures.sources import SOURCES
from microscope_space import documents, masked, openapi, records, routes, whole
from microscope_space.answers import AGAIN, FOREVER, UNKNOWN, answer, kind, soon
from microscope_space.html import links, text
from microscope_space.html.escaped import html
from microscope_space.pages import card
from microscope_space.pages.choice import Choice
from microscope_space.pages.glance import glance
from microscope_space.search.given import exists
from microscope_space.thumbnail import STRIPES, thumbnail

SHEET = ("method", "objective", "direction")  # of which a tile is a part
OPEN = {"Access-Control-Allow-Origin": "*"}  # what is told is for every web page's script
LOCKED = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # a card loads nothing and runs nothing


def endpoints(atlas: Atlas) -> None:
    """Register the endpoints of the Space that stands around."""

    def unit(model: str, layer: str, unit: int, request: gr.Request) -> dict[str, Any]:  # noqa: D417 - the request is Gradio's
        """Everything the atlas knows of a unit of a vision network, with links to its pictures.

        Args:
            model: the network, for example inceptionv1_caffe
            layer: a layer of it, for example inception_4c
            unit: the channel or neuron, from 0

        """
        with asked_by(atlas, request) as now:
            return records.of_unit(now, str(model), str(layer), unit)  # Gradio lets any type through

    def layer(model: str, layer: str, request: gr.Request) -> dict[str, Any]:  # noqa: D417 - the request is Gradio's
        """The units of a layer of a vision network with their statistics, and its deepdreams and caricatures.

        Args:
            model: the network, for example inceptionv1_caffe
            layer: a layer of it, for example inception_4c

        """
        with asked_by(atlas, request) as now:
            return records.of_layer(now, str(model), str(layer))

    def find(words: str, request: gr.Request) -> list[dict[str, str]]:  # noqa: D417
        """Up to 48 networks, layers and units that some words may mean, the likeliest first.

        Args:
            words: a key, names in any order, a class, or a link, for example inceptionv1 4c:447, or golden retriever

        """
        with asked_by(atlas, request) as now:
            found: list[dict[str, str]] = records.of_words(now, str(words))["found"]
            return found

    api(unit, api_name="unit")
    api(layer, api_name="layer")
    api(find, api_name="search")


@contextmanager
def asked_by(atlas: Atlas, request: gr.Request) -> Iterator[Atlas]:
    """The atlas as it is, links to it as the program reaches it, and errors in words."""
    now, http = atlas.latest(), request.request
    try:
        with links.based(documents.address(http) if http else "./", now.version):
            yield now
    except AtlasError as error:
        raise gr.Error(routes.public(error), print_exception=False) from error


def plain(atlas: Atlas) -> list[Route]:
    """What the Space answers beside its pages; everything is looked up in the atlas, nothing is a path."""

    def picture(request: Request) -> Response:
        asked = {name: request.query_params.get(name, "") for name in ("table", "model", "name", "column")}
        now = atlas.latest()
        try:
            if asked["table"] not in TABLES and asked["table"] not in now.outside:
                raise UnknownName(f"there is no table {asked['table']!r}")
            content = now.image(**asked)
            if kind(content) == UNKNOWN:
                raise AtlasDamaged(f"{asked['name']} of {asked['table']} is no picture")
            if opacity := request.query_params.get("mask"):
                content = masked.masked(content, now.image(asked["table"], asked["model"], opacity, "opacity"))
        except UnknownName as error:
            return answer(request, routes.public(error).encode(), "text/plain", 404)
        except AtlasError as error:
            return answer(request, routes.public(error).encode(), "text/plain", 503)
        # in a folder another run may put another in its place, which then has another link
        for_good = now.commit or request.query_params.get("v") == now.version
        return answer(request, content, kind(content), kept=FOREVER if for_good else AGAIN)

    def photo(request: Request) -> Response:
        content = whole.photo(request.path_params["name"])
        if content is None:
            return answer(request, b"There is no such photo.", "text/plain", 404)
        known = SOURCES[request.path_params["name"]].sha256.startswith(request.query_params.get("v") or "none")
        return answer(request, content, "image/jpeg", kept=FOREVER if known else AGAIN)

    def small(request: Request) -> Response:
        now = atlas.latest()
        try:
            content = thumbnail(now, parse_key(request.path_params["key"]))
        except (InvalidKey, UnknownName) as error:
            return answer(request, routes.public(error).encode(), "text/plain", 404)
        except AtlasError as error:
            return answer(request, routes.public(error).encode(), "text/plain", 503)
        kept = FOREVER if now.commit or request.query_params.get("v") == now.version else AGAIN
        if content is None:
            return answer(request, STRIPES.encode(), "image/svg+xml", kept=kept)
        return answer(request, content, kind(content), kept=kept)

    def at_a_glance(request: Request) -> Response:
        now = atlas.latest()
        try:
            key = parse_key("{model}/{layer}/{unit}".format_map(request.path_params))
            if not exists(now, key):
                raise UnknownName(f"{key} is not in this atlas")
            asked = {name: request.query_params[name] for name in SHEET if name in request.query_params}
            with links.based(documents.root(request), now.version):
                content = glance(now, key, Choice(**asked))
        except (InvalidKey, UnknownName) as error:
            return answer(request, routes.public(error).encode(), "text/plain", 404)
        except AtlasError as error:
            return answer(request, routes.public(error).encode(), "text/plain", 503)
        kept = FOREVER if request.query_params.get("v") == now.version else AGAIN
        return answer(request, content.encode(), "text/html", kept=kept)

    def told(request: Request) -> Response:
        now = atlas.latest()
        with links.based(documents.address(request), now.version):
            content, status = records.record(now, dict(request.query_params), request.path_params.get("path", ""))
        return answer(request, records.encoded(content), "application/json", status, more=OPEN)

    def described(request: Request) -> Response:
        now = atlas.latest()
        content = openapi.description(now, documents.address(request))
        return answer(request, records.encoded(content), "application/json", more=OPEN)

    def embed(request: Request) -> Response:
        now = atlas.latest()
        with links.based(documents.root(request), now.version):
            content, status = shown(now, request.path_params)
        headers = {"Content-Security-Policy": f"{LOCKED}; frame-ancestors *"}
        return answer(request, content.encode(), "text/html", status, more=headers)

    return [
        Route("/picture", soon(lambda request: _is_near(atlas, request), picture)),
        Route("/photo/{name}", photo),
        Route("/thumbnail/{key:path}", small),
        Route("/json", told),
        Route("/json/{path:path}", told),
        Route("/openapi.json", described),
        Route("/glance/{model}/{layer}/{unit}", at_a_glance),
        Route("/embed/{model}/{layer}/{unit}", embed),
    ]


def _is_near(atlas: Atlas, request: Request) -> bool:
    """Whether a picture is a few bytes of a file on this machine, and nothing else is to be read or made."""
    now = atlas.seen()
    near = now is not None and now.storage.near and now.is_open(request.query_params.get("model", ""))
    return near and "mask" not in request.query_params


def shown(atlas: Atlas, asked: Mapping[str, str]) -> tuple[Markup, int]:
    """A card, and its HTTP status."""
    try:
        key = parse_key(f"{asked['model']}/{asked['layer']}/{asked['unit']}")
        if not exists(atlas, key):
            raise UnknownName(f"{key} is not in this atlas")
        return card.card(atlas, key), 200
    except (InvalidKey, UnknownName) as error:
        return card.document(text.WRONG, html("<h1>{}</h1><p>{}</p>", text.WRONG, routes.public(error))), 404
    except AtlasError as error:
        return card.document(text.UNREADABLE, html("<p>{}</p>", routes.public(error))), 503
