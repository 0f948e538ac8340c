"""`microscope-atlas label` and `find`: words for units, from outside and to look for."""

import json
from pathlib import Path
from typing import Annotated

import typer

from microscope_atlas.cli.app import AnyAtlas, app, out

SHOWN = {
    "key": "",
    "label": "",
    "method": "how somebody came by it",
    "score": "see measure, with --json",
    "source": "who says so",
    "license": "",
}
SHORT = 60  # characters of a source that are shown


@app.command()
def label(
    atlas: Annotated[
        str, typer.Argument(help="Folder of the atlas, or a URL such as s3://bucket/atlas.", show_default=False)
    ],
    file: Annotated[
        Path | None, typer.Option("--from", help="CSV, TSV, JSON, JSON lines or Parquet, a row a label.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Who made them. Default: the column source.")] = None,
    license: Annotated[str | None, typer.Option(help="Of the labels, CC-BY-4.0. Default: the column license.")] = None,
    method: Annotated[str, typer.Option(help="How they were made, where no column says so.")] = "imported",
    measure: Annotated[str | None, typer.Option(help="What the column score measures.")] = None,
    model: Annotated[str | None, typer.Option(help="That all rows are about. Default: the column model.")] = None,
    layer: Annotated[str | None, typer.Option(help="That all rows are about. Default: the column layer.")] = None,
    column: Annotated[
        list[str] | None, typer.Option(metavar="OURS=THEIRS", help="label=family; again for several.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the table, labels_NAME. Default: the file's.")] = None,
    skip_absent: Annotated[
        bool, typer.Option("--skip-absent", help="Leave out rows about units that the atlas does not have.")
    ] = False,
    forget: Annotated[str | None, typer.Option(metavar="NAME", help="Take the labels of a table back.")] = None,
) -> None:
    """Take a table of labels from outside into the atlas, or take it back."""
    from microscope_atlas.atlas.label_files import Stated
    from microscope_atlas.atlas.locate import open_atlas
    from microscope_atlas.errors import InvalidSetting
    from microscope_atlas.publish import labels

    if (file is None) == (forget is None):
        raise InvalidSetting("label takes either --from FILE or --forget NAME")
    if forget is not None:
        gone = labels.take_back(open_atlas(atlas), forget)
        out.print(f"{atlas}: {gone:,} labels taken back.", soft_wrap=True)
        return
    assert file is not None
    columns = {}
    for each in column or []:
        ours, equals, theirs = each.partition("=")
        if not equals:
            raise InvalidSetting(f"--column {each!r}; expected OURS=THEIRS, such as label=family")
        columns[ours.strip()] = theirs.strip()
    stated = Stated(source, license, method, measure, model, layer, columns)
    taken = labels.take(open_atlas(atlas), file, stated, name, skip_absent)
    left = f"; {taken.left_out:,} rows about units that it does not have are left out" if taken.left_out else ""
    out.print(f"{atlas}: {taken.labels:,} labels of {taken.units:,} units as {taken.table}{left}.", soft_wrap=True)


@app.command()
def find(
    atlas: AnyAtlas,
    words: Annotated[str, typer.Argument(help="Such as 'dog snout'.", show_default=False)],
    meaning: Annotated[
        bool, typer.Option("--meaning", help="By meaning, where the atlas has embeddings and the CLIP is here.")
    ] = False,
    most: Annotated[int, typer.Option(min=1, help="Units that are shown.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="All that is said, for programs.")] = False,
) -> None:
    """Units by their labels, or by meaning, and who says so."""
    from microscope_atlas.atlas.find_labels import find as by_label
    from microscope_atlas.atlas.locate import open_atlas
    from microscope_atlas.atlas.reader import Atlas
    from microscope_atlas.console import print_table

    opened = Atlas(open_atlas(atlas))
    if meaning:
        from microscope_atlas.lenses.meaning import meant

        found = meant(opened, words, most)
    else:
        found = by_label(opened, words, most)
    if as_json:
        print(json.dumps({"words": words, "found": [each._asdict() for each in found]}))
        return
    if not found:
        out.print(f"{atlas}: no unit is labelled so.", soft_wrap=True)
        return
    rows = [{name: getattr(each, name) for name in SHOWN} for each in found]
    print_table([{**row, "source": _short(row["source"]), "score": _number(row["score"])} for row in rows], SHOWN)


def _short(text: str) -> str:
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"


def _number(score: float | None) -> str:
    return "" if score is None else f"{score:.3g}"
