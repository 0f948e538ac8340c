"""`microscope-atlas browse`: the Space, on this machine."""

from contextlib import suppress
from threading import Event
from typing import Annotated

import typer

from microscope_atlas.cli.app import AnyAtlas, app, out


@app.command()
def browse(
    atlas: AnyAtlas,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: the first free one from 7860.")] = None,
) -> None:
    """Serve the Space on this machine, until Ctrl-C."""
    from microscope_atlas.atlas.locate import open_atlas
    from microscope_atlas.errors import ExtraMissing

    try:
        from microscope_space.app import serve
    except ModuleNotFoundError as error:
        raise ExtraMissing(
            f"the Space cannot be served ({error}); pip install 'microscope-atlas[space]', or make space"
        ) from error
    _, address = serve(open_atlas(atlas), server_port=port, prevent_thread_lock=True, quiet=True)
    out.print(f"{atlas} is at {address} until Ctrl-C.", soft_wrap=True)
    with suppress(KeyboardInterrupt):
        Event().wait()
