"""The atlas for programs: endpoints of the Space, and its pictures and cards as plain routes."""

from collections.abc import Mapping
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
from microscope_atlas.keys import Key, parse_key
from microscope_atlas.pictures.sources import SOURCES
from microscope_space import documents, masked, routes, whole
from microscope_space.answers import AGAIN, FOREVER, answer
from microscope_space.html import links, text
from microscope_space.html.escaped import html
from microscope_space.pages import card
from microscope_space.pages.choice import Choice
from microscope_space.pages.glance import glance
from microscope_space.pages.unit import per_unit
from microscope_space.search.find import find as found_by
from microscope_space.search.given import exists
from microscope_space.thumbnail import STRIPES, thumbnail

SHEET = ("method", "objective", "direction")  # of which a tile is a part
UNKNOWN = "application/octet-stream"
LOCKED = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # a card loads nothing and runs nothing


def endpoints(atlas: Atlas) -> None:
    """Register the endpoints of the Space that stands around."""

    def unit(model: str, layer: str, unit: int) -> dict[str, Any]:
        """Everything the atlas knows of a unit of a vision network, but for the images, which are named.

        Args:
            model: the network, for example inceptionv1_caffe
            layer: a layer of it, for example inception_4c
            unit: the channel or neuron, from 0

        """
        with saying():
            return of_unit(atlas.latest(), str(model), str(layer), unit)  # Gradio lets any type through

    def layer(model: str, layer: str) -> dict[str, Any]:
        """The units of a layer of a vision network with their statistics, and its deepdreams and caricatures.

        Args:
            model: the network, for example inceptionv1_caffe
            layer: a layer of it, for example inception_4c

        """
        with saying():
            return of_layer(atlas.latest(), str(model), str(layer))

    def find(words: str) -> list[dict[str, str]]:
        """Up to 48 networks, layers and units that some words may mean, the likeliest first.

        Args:
            words: a key, names in any order, a class, or a link, for example inceptionv1 4c:447, or golden retriever

        """
        with saying():
            return [{"key": str(each.key), "what": each.what} for each in found_by(atlas.latest(), str(words)).found]

    api(unit, api_name="unit")
    api(layer, api_name="layer")
    api(find, api_name="search")


class saying:  # noqa: N801 - it stands behind `with`
    """Tell a program what is wrong with what it asked, instead of that something is."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, AtlasError):
            raise gr.Error(routes.public(error), print_exception=False) from error


def of_unit(atlas: Atlas, model: str, layer: str, unit: int) -> dict[str, Any]:
    """Rows of every table about a unit, the revision, and the link to its page; UnknownName where it does not exist."""
    key = parse_key(f"{model}/{layer}/{unit}")
    if not exists(atlas, key):
        near = ", ".join(
            str(each) for each in routes.nearest(atlas, {"model": model, "layer": layer, "unit": str(unit)})
        )
        raise UnknownName(f"{key} is not in this atlas; nearest: {near}")
    rows = {table: atlas.rows(table, model, layer, key.unit) for table in per_unit(atlas)}
    return {**_about(atlas, key), **rows}


def of_layer(atlas: Atlas, model: str, layer: str) -> dict[str, Any]:
    """Rows of `units`, `deepdream` and `caricature` of a layer; UnknownName where it does not exist."""
    key = parse_key(f"{model}/{layer}")
    total = atlas.num_units(model, layer)
    dropped = {"nearest", "nearest_elsewhere", "recipe", "weights_sha256", "software", "device"}
    units = [
        {name: value for name, value in row.items() if name not in dropped} for row in atlas.rows("units", model, layer)
    ]
    outside = [name for name, table in atlas.outside.items() if table.level == "layer"]
    whole = {table: atlas.rows(table, model, layer) for table in ("deepdream", "caricature", *outside)}
    return {**_about(atlas, key), "num_units": total, "units": units, **whole}


def _about(atlas: Atlas, key: Key) -> dict[str, Any]:
    page = links.query(key.model, key.layer, key.unit, revision=atlas.pin)
    return {"key": str(key), "revision": atlas.revision, "page": page}


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

    def embed(request: Request) -> Response:
        now = atlas.latest()
        with links.based(documents.root(request), now.version):
            content, status = shown(now, request.path_params)
        headers = {"Content-Security-Policy": f"{LOCKED}; frame-ancestors *"}
        return answer(request, content.encode(), "text/html", status, more=headers)

    return [
        Route("/picture", picture),
        Route("/photo/{name}", photo),
        Route("/thumbnail/{key:path}", small),
        Route("/glance/{model}/{layer}/{unit}", at_a_glance),
        Route("/embed/{model}/{layer}/{unit}", embed),
    ]


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


def kind(content: bytes) -> str:
    """The media type of an encoded image."""
    kinds = {b"\xff\xd8": "image/jpeg", b"\x89P": "image/png", b"RI": "image/webp", b"GI": "image/gif"}
    return kinds.get(content[:2], UNKNOWN)
