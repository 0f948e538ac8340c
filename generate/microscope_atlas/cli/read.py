"""Commands that look at an atlas: status, check, reproduce, cite."""

from dataclasses import asdict
from typing import Annotated

import typer

from microscope_atlas.cli.app import AnyAtlas, app, device_called, err, out

COVERAGE = {  # column -> what it says
    "model": "",
    "layer": "",
    "lens": "",
    "of": "what is counted: units, or the layer as a whole",
    "planned": "that were asked for",
    "present": "that are there",
    "seconds_left": "for the others, at the rate of the last files; empty: all is there, or nothing to go by",
}


@app.command()
def status(atlas: AnyAtlas, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Coverage: of what was planned, how much is there, lens by lens, and the seconds left. Also beside a run."""
    import json

    from microscope_atlas.atlas.coverage import coverage
    from microscope_atlas.atlas.locate import open_atlas
    from microscope_atlas.console import print_table

    rows = [asdict(layer) for layer in coverage(open_atlas(atlas))]
    if as_json:
        print(json.dumps({"coverage": rows}, indent=1))
    else:
        print_table(rows, COVERAGE)


@app.command()
def check(
    atlas: AnyAtlas,
    sample: Annotated[int | None, typer.Option(min=1, help="Files to read. Default: all.")] = None,
) -> None:
    """Verify every promise on the bytes; exit 1 and a list where one fails."""
    from microscope_atlas.atlas.locate import open_atlas
    from microscope_atlas.atlas.manifest import read_manifest
    from microscope_atlas.publish.check import check as problems

    storage = open_atlas(atlas)
    found = list(problems(storage, sample))
    for problem in found:
        out.print(problem, soft_wrap=True)
    if found:
        err.print(f"{atlas}: {len(found)} problem{'s' * (len(found) != 1)}.", soft_wrap=True)
        raise typer.Exit(1)
    shards = read_manifest(storage).shards.values()
    read = f"; {sample} of {len(shards)} files were read" if sample and sample < len(shards) else ""
    out.print(f"{atlas}: {sum(shard.rows for shard in shards)} rows, all in order{read}.", soft_wrap=True)


@app.command()
def reproduce(
    atlas: AnyAtlas,
    key: Annotated[str, typer.Argument(help="A unit, or a layer: inceptionv1/mixed4c/447.", show_default=False)],
    lens_name: Annotated[
        str | None, typer.Option("--lens", help="Default: feature_visualization of a unit, deepdream of a layer.")
    ] = None,
    pictures: Annotated[
        str | None, typer.Option(metavar="SET", help="Where the natural pictures are. Default: where they were.")
    ] = None,
    dictionary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER[:NAME]=PATH", help="Where a dictionary is, again for several. Default: where it was."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps. Default: the best there is.")] = None,
) -> None:
    """Make the rows of a unit or a layer again; exit 1 where one does not come close."""
    from microscope_atlas.atlas.locate import open_atlas
    from microscope_atlas.keys import parse_key
    from microscope_atlas.run.reproduce import reproduce as again

    if pictures:
        from microscope_atlas.pictures.sets import note_place

        note_place(pictures)
    if dictionary:
        from microscope_atlas.models.dictionaries.attached import take

        for words in dictionary:
            take(words)
    asked = parse_key(key)
    name = lens_name or ("deepdream" if asked.unit is None else "feature_visualization")
    notes, remade = again(open_atlas(atlas), asked, name, device_called(device))
    for note in notes:
        out.print(note, soft_wrap=True)
    far = 0
    for row in remade:
        far += not row.close
        out.print(str(row), soft_wrap=True)
    if far:
        err.print(f"{key}: {far} row{'s' * (far != 1)} of {name} did not come close.", soft_wrap=True)
        raise typer.Exit(1)


@app.command()
def cite(
    atlas: AnyAtlas,
    key: Annotated[
        str | None,
        typer.Argument(help="A model, layer or unit, inceptionv1/mixed4c/447; or lists/NAME.", show_default=False),
    ] = None,
) -> None:
    """BibTeX and links that last, and whose weights they are."""
    from microscope_atlas.atlas.locate import open_atlas
    from microscope_atlas.atlas.schema import list_name
    from microscope_atlas.keys import parse_key
    from microscope_atlas.publish.cite import cite as citation

    if key and (name := list_name(f"{key.removesuffix('.json')}.json")):
        print(citation(open_atlas(atlas), of=name))
    else:
        print(citation(open_atlas(atlas), parse_key(key) if key else None))
