"""Gradio, imported without the type stubs that it writes of its own components each time."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def without_stubs() -> Iterator[None]:
    """While Gradio is imported, which takes a third to a half less processor time.

    `findings/gradio-parses-its-components-at-each-import.sh` measures it.

    Of each component's class it parses the source for the sake of editors (`gradio/component_meta.py`, 6.31); where a
    class is in no file, it does without.
    """
    known = inspect.getfile

    def getfile(object: Any) -> str:
        if isinstance(object, type) and object.__module__.partition(".")[0] == "gradio":
            raise OSError(f"{object.__name__} needs no stub")
        return known(object)

    inspect.getfile = getfile
    try:
        yield
    finally:
        inspect.getfile = known
