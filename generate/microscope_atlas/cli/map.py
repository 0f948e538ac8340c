"""`microscope-atlas map`: an activation atlas as one picture, to be printed and to be zoomed into."""

from pathlib import Path
from typing import Annotated

import typer

from microscope_atlas.cli.app import AnyAtlas, app, out


@app.command()
def map(
    atlas: AnyAtlas,
    key: Annotated[str, typer.Argument(help="A layer: inceptionv1_caffe/inception_4c.", show_default=False)],
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write into.", show_default=False)],
) -> None:
    """Draw the activation atlas of a layer: a JPEG, and Deep Zoom tiles beside it."""
    from microscope_atlas.atlas import maps
    from microscope_atlas.atlas.locate import open_atlas
    from microscope_atlas.atlas.manifest import read_manifest
    from microscope_atlas.errors import WrongLevel
    from microscope_atlas.keys import parse_key

    asked = parse_key(key)
    if asked.layer is None or asked.unit is not None:
        raise WrongLevel(f"{maps.NAME} looks at a layer; {asked} is a {'model' if asked.layer is None else 'unit'}")
    storage = open_atlas(atlas)
    cells = maps.read(storage, read_manifest(storage), asked)
    picture = maps.write(cells, folder, asked.layer)
    px, grids = maps.size(cells), maps.zooms(cells)
    sides = ", ".join(f"{grid} x {grid}" for _, grid in sorted(grids.items()))
    out.print(f"{picture}: {px} x {px} px; {asked.layer}.dzi beside it zooms through {sides} cells.", soft_wrap=True)
