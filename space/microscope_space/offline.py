"""The Space fetches nothing for a visitor.

Gradio would: a picture, or any other input, may come as the URL of a file, and a route of its own passes on what lies
at a URL. It refuses addresses of private networks; but whoever asks would still make requests in this server's name.
"""

from typing import Any, NoReturn

import gradio as gr
import safehttpx

REFUSED = "files are not fetched from links here; send the file itself"


def fetch_nothing() -> None:
    """Have Gradio refuse each URL that it would fetch in this process: all its requests pass through safehttpx."""
    safehttpx.get = safehttpx.async_validate_url = _refuse


async def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise gr.Error(REFUSED, print_exception=False)
