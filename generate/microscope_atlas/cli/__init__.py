"""The command line: parse and call, nothing else. A command imports what it needs when it is called, so that `--help`,
and whatever only reads, load no PyTorch.
"""

import os
import sys

from microscope_atlas.cli import (  # noqa: F401 - each adds its commands
    browse,
    forget,
    models,
    plan,
    publish,
    read,
    render,
    weights,
)
from microscope_atlas.cli.app import app, err
from microscope_atlas.errors import AtlasError

__all__ = ["app", "main"]


def main() -> None:
    """The console script: our own errors are printed as they are, all others are bugs and keep their traceback."""
    try:
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
