"""What the commands share: the application, its two streams, and arguments that several take."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    import torch

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A microscope for vision networks.",
)
# what is printed holds names that others chose: brackets are no markup, `own:x:` is no emoji
out = Console(markup=False, emoji=False, highlight=False)
err = Console(stderr=True, markup=False, emoji=False, highlight=False)

Atlas = Annotated[Path, typer.Argument(help="Folder of the atlas.", show_default=False)]
AnyAtlas = Annotated[
    str,
    typer.Argument(metavar="ATLAS", help="A folder, a URL, or owner/name@revision on the Hub.", show_default=False),
]


def _version(asked: bool) -> None:
    if asked:
        from microscope_atlas.atlas.provenance import package

        print(package())
        raise typer.Exit


@app.callback()
def _all(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version and exit.")
    ] = False,
) -> None: ...


@contextmanager
def stopping(how_to_go_on: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM end a command with a word instead of a traceback, and with the exit status of shells."""
    from microscope_atlas.stopping import Stopped, stoppable

    try:
        with stoppable():
            yield
    except Stopped as stopped:
        err.print(f"\nStopped by {stopped}. {how_to_go_on}", soft_wrap=True)
        raise typer.Exit(stopped.exit_status) from None


def device_called(name: str | None) -> "torch.device":
    """The device `name`, or the best there is; see models.device."""
    from microscope_atlas.models.device import chosen

    return chosen(name)
