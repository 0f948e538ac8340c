"""HTTP answers: asked for again only where they have changed, and compressed."""

import gzip
import hashlib
from collections.abc import Awaitable, Callable, Mapping

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

Endpoint = Callable[[Request], Awaitable[Response]]

FOREVER = "public, max-age=31536000, immutable"  # of links that lead to the same bytes always
AGAIN = "no-cache"  # kept, and asked for again before it is used
UNKNOWN = "application/octet-stream"
WORTHWHILE = 1000  # bytes; what is shorter is not compressed
EFFORT = 6  # of 9: a page of 440 KB takes 5 ms; 9 takes twice that for 2% less


class Content:
    """What is answered, with its ETag; text compressed, once."""

    def __init__(self, content: bytes, kind: str):
        """Bytes of a media type."""
        self.kind = kind
        self.etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        self.is_text = kind.startswith(("text/", "image/svg", "application/json"))
        self.is_compressed = self.is_text and len(content) >= WORTHWHILE
        self.held = gzip.compress(content, EFFORT, mtime=0) if self.is_compressed else content

    @property
    def plain(self) -> bytes:
        """As it was given, for the few who cannot decompress it."""
        return gzip.decompress(self.held) if self.is_compressed else self.held


def answer(
    request: Request,
    content: bytes | Content,
    kind: str = UNKNOWN,
    status: int = 200,
    kept: str = AGAIN,
    more: Mapping[str, str] | None = None,
) -> Response:
    """`content`, bytes of a media type; 304 without it where the browser says that it has it already."""
    given = content if isinstance(content, Content) else Content(content, kind)
    headers = {"Cache-Control": kept, "ETag": given.etag, "X-Content-Type-Options": "nosniff", **(more or {})}
    if status == 200 and _has(request.headers.get("if-none-match", ""), given.etag):
        return Response(status_code=304, headers=headers)
    if given.is_text:
        headers["Vary"] = "Accept-Encoding"
    if given.is_compressed and "gzip" in request.headers.get("accept-encoding", ""):
        headers |= {"Content-Encoding": "gzip", "ETag": f"W/{given.etag}"}  # weak: the same page in other bytes
        return Response(given.held, status, headers, given.kind)
    return Response(given.plain, status, headers, given.kind)


def soon(is_quick: Callable[[Request], bool], endpoint: Callable[[Request], Response]) -> Endpoint:
    """An endpoint that is asked where requests are read, if that is quick, and else on a thread, while others are read.

    Handing a request to a thread and back costs as much as a picture: half of a busy server's time.
    """

    async def asked(request: Request) -> Response:
        return endpoint(request) if is_quick(request) else await run_in_threadpool(endpoint, request)

    return asked


def _has(known: str, etag: str) -> bool:
    """Whether `If-None-Match` names it, strongly or weakly."""
    return known.strip() == "*" or etag in (each.strip().removeprefix("W/") for each in known.split(","))


def kind(content: bytes) -> str:
    """The media type of an encoded image; UNKNOWN where it is none."""
    kinds = {b"\xff\xd8": "image/jpeg", b"\x89P": "image/png", b"RI": "image/webp", b"GI": "image/gif"}
    return kinds.get(content[:2], UNKNOWN)
