"""`microscope-atlas forget`: take back what was planned and not made."""

from dataclasses import asdict
from typing import Annotated

import typer

from microscope_atlas.cli.app import app, out

LEFT = {  # column -> what it says
    "model": "",
    "layer": "",
    "lens": "",
    "of": "what is counted: units, or the layer as a whole",
    "planned": "that were asked for",
    "present": "that are there, and stay",
}


@app.command()
def forget(
    atlas: Annotated[
        str, typer.Argument(help="Folder of the atlas, or a URL such as s3://bucket/atlas.", show_default=False)
    ],
    lens_names: Annotated[list[str] | None, typer.Option("--lens", help="Again for several. Default: all.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Again for several. Default: all.")] = None,
    layer: Annotated[list[str] | None, typer.Option(help="Again for several. Default: all.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this it is only told.")] = False,
) -> None:
    """Take back what was planned and not made. Rows that are there stay."""
    from microscope_atlas.atlas.locate import storage_at
    from microscope_atlas.atlas.manifest import read_manifest
    from microscope_atlas.console import print_table
    from microscope_atlas.errors import unknown
    from microscope_atlas.run import run
    from microscope_atlas.run.wishes import forget as take_back
    from microscope_atlas.run.wishes import told, unmade

    storage = storage_at(atlas)
    manifest = read_manifest(storage)
    for kind, names, known in (
        ("lens", lens_names, manifest.lenses),
        ("model", model, manifest.models),
        ("layer", layer, dict.fromkeys(each.layer for each in manifest.planned)),
    ):
        for name in names or []:
            if name not in known:
                raise unknown(kind, name, f"what {atlas} plans", known)
    asked = (lens_names or (), model or (), layer or ())
    wishes = unmade(storage, manifest, *asked)
    if not wishes:
        out.print(f"{atlas}: all of that is made; there is nothing to forget.", soft_wrap=True)
        return
    print_table([{name: asdict(each)[name] for name in LEFT} for each in told(manifest, wishes)], LEFT)
    if not yes:
        out.print("Nothing is forgotten yet: the same command with --yes does it.", soft_wrap=True)
        return
    with storage.lock():
        manifest = read_manifest(storage)
        take_back(manifest, unmade(storage, manifest, *asked))
        run.save(storage, manifest)
    out.print("Forgotten. What is there stays.", soft_wrap=True)
