"""A server of HTTP on this machine, for as long as a test needs one."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread


class Quiet(BaseHTTPRequestHandler):
    """A handler that says nothing on the terminal."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the tests' output is for the tests."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server on 127.0.0.1 that answers as `handler` does."""
    with HTTPServer(("127.0.0.1", 0), handler) as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()
