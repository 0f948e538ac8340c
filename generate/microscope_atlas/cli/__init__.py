"""The command line: parse and call, nothing else. A command imports what it needs when it is called, so that `--help`,
and whatever only reads, load no PyTorch.
"""

import os
import re
import sys
from collections.abc import Sequence

from microscope_atlas.cli import (  # noqa: F401 - each adds its commands
    browse,
    forget,
    label,
    map,
    models,
    plan,
    publish,
    read,
    render,
    weights,
)
from microscope_atlas.cli.app import app, err
from microscope_atlas.errors import AtlasError, UnknownName

__all__ = ["app", "main"]


def _refuse_empty(arguments: Sequence[str]) -> None:
    """UnknownName for empty values, as a shell makes them of variables that are not set: they mean all, or here."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if not argument.strip() or re.fullmatch(r"--[\w-]+=\s*", argument):
            after = argument.rstrip("= ") or (f"{before} {argument!r}" if before.startswith("-") else repr(argument))
            raise UnknownName(f"{after} is empty; leave it out, or give a value")


def main() -> None:
    """The console script: our own errors are printed as they are, all others are bugs and keep their traceback."""
    try:
        _refuse_empty(sys.argv[1:])
        app()
    except BrokenPipeError:  # whoever reads our output has enough: `microscope-atlas models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except AtlasError as error:
        err.print(f"microscope-atlas: {error}", soft_wrap=True)
        sys.exit(error.exit_status)
    except OSError as error:
        err.print(f"microscope-atlas: {error}", soft_wrap=True)
        sys.exit(1)
