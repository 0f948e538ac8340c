"""The atlas as MCP's tools: brief answers with links, and pictures as pictures. Needs the extra `mcp`.

One server for all, without sessions: a question is a request, and nothing is remembered.
"""

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import anyio
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError, UnknownName
from microscope_atlas.keys import Key, parse_key
from microscope_space import documents, records, routes
from microscope_space.brief import brief_layer, brief_unit, picture_of
from microscope_space.html import links, text
from microscope_space.records import Record
from microscope_space.search.given import exists

FOUND = 20  # results of a search
TOLD = "Explore an atlas of vision networks: what each unit of a layer is excited by, with links to pages and pictures."
ASKED = {
    "model": {"type": "string", "description": "a network, for example inceptionv1"},
    "layer": {"type": "string", "description": "a layer of it, for example mixed4c"},
    "unit": {"type": "integer", "minimum": 0, "description": "a channel or neuron, from 0"},
    "words": {"type": "string", "description": "a key, names in any order, a class, or a link"},
    "key": {"type": "string", "description": "a unit, layer or network: inceptionv1/mixed4c/447"},
}
Content = list[types.TextContent | types.ImageContent]


def search(atlas: Atlas, words: str) -> Record:
    """Networks, layers and units that some words may mean, the likeliest first."""
    found = records.of_words(atlas, words)
    return {
        **found,
        "found": [{name: each[name] for name in ("key", "what", "page")} for each in found["found"][:FOUND]],
    }


def unit(atlas: Atlas, model: str, layer: str, unit: int) -> Record:
    """A unit of a vision network in brief: what excites it, its statistics, connections and nearest units."""
    return brief_unit(atlas, _there(atlas, f"{model}/{layer}/{unit}"))


def layer(atlas: Atlas, model: str, layer: str) -> Record:
    """A layer of a vision network in brief: how many units it has, and which of them are excited most."""
    return brief_layer(atlas, _there(atlas, f"{model}/{layer}"))


TELLING: dict[str, tuple[Callable[..., Record], tuple[str, ...]]] = {
    "search": (search, ("words",)),
    "unit": (unit, ("model", "layer", "unit")),
    "layer": (layer, ("model", "layer")),
}
PICTURE = "The picture of a unit, a layer or a network, to look at."


def served(atlas: Atlas) -> tuple[Route, Callable[[Any], AbstractAsyncContextManager[None]]]:
    """The route `/mcp`, and what runs as long as the server does."""
    server: Server[Any, Any] = Server(text.TITLE, instructions=TOLD)

    @server.list_tools()
    async def listed() -> list[types.Tool]:
        asking: dict[str, tuple[str | None, tuple[str, ...], dict[str, str] | None]]
        asking = {name: (tell.__doc__, asked, {"type": "object"}) for name, (tell, asked) in TELLING.items()}
        asking["picture"] = (PICTURE, ("key",), None)
        return [
            types.Tool(
                name=name,
                description=about,
                inputSchema=_asks(*asked),
                outputSchema=answer,
                annotations=types.ToolAnnotations(readOnlyHint=True),
            )
            for name, (about, asked, answer) in asking.items()
        ]

    @server.call_tool()
    async def called(name: str, arguments: dict[str, Any]) -> Record | Content:
        address = documents.address(server.request_context.request)
        return await anyio.to_thread.run_sync(partial(answered, atlas.latest(), address, name, arguments))

    manager = StreamableHTTPSessionManager(server, json_response=True, stateless=True)

    class Handler:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await manager.handle_request(scope, receive, send)

    @asynccontextmanager
    async def running(_: Any) -> AsyncIterator[None]:
        async with manager.run():
            yield

    return Route("/mcp", Handler()), running


def answered(atlas: Atlas, address: str, name: str, arguments: dict[str, Any]) -> Record | Content:
    """What a tool answers; ValueError, in words for whoever asked, where it cannot."""
    try:
        with links.based(address, atlas.version):
            if name == "picture":
                return _picture(atlas, arguments["key"])
            tell, _ = TELLING[name]
            return tell(atlas, **arguments)
    except KeyError as error:
        raise ValueError(f"there is no tool {name!r}; there are {', '.join([*TELLING, 'picture'])}") from error
    except AtlasError as error:
        raise ValueError(routes.public(error)) from error


def _picture(atlas: Atlas, asked: str) -> Content:
    key = _there(atlas, asked)
    content, kind = picture_of(atlas, key)
    about = records.brief(atlas, key)
    return [
        types.ImageContent(type="image", data=base64.b64encode(content).decode(), mimeType=kind),
        types.TextContent(type="text", text=f"{key}: {about['page']}"),
    ]


def _there(atlas: Atlas, asked: str) -> Key:
    """A key that is in the atlas."""
    key = parse_key(asked)
    if not exists(atlas, key):
        parts = {"model": key.model, "layer": key.layer, "unit": key.unit}
        near = routes.nearest(atlas, {name: str(part) for name, part in parts.items() if part is not None})
        raise UnknownName(f"{key} is not in this atlas; nearest: {', '.join(map(str, near))}")
    return key


def _asks(*names: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: ASKED[name] for name in names}, "required": list(names)}
