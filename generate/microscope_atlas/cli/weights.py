"""`microscope-atlas weights`: trained weights, fetched or taken, verified and cached."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microscope_atlas.cli.app import app, err, out, stopping

if TYPE_CHECKING:
    from microscope_atlas.models.organism import Organism


@app.command()
@stopping("Nothing was kept of what was not whole; the same command begins again.")
def weights(
    names: Annotated[list[str], typer.Argument(metavar="MODEL...", show_default=False)],
    from_file: Annotated[Path | None, typer.Option("--from", help="Take this file instead of fetching one.")] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Take a file that lacks layers, too, and leave these out.")
    ] = False,
    classes: Annotated[
        Path | None,
        typer.Option("--classes", metavar="FILE", help="Names of its classes, a line each, as its logits are."),
    ] = None,
    mirror_repo: Annotated[
        str | None, typer.Option("--mirror", metavar="REPO", help="Of the Hub: fetch from there, if it can be had.")
    ] = None,
    publish_repo: Annotated[
        str | None, typer.Option("--publish", metavar="REPO", help="Of the Hub: put them there for others.")
    ] = None,
) -> None:
    """Fetch or take trained weights, verify, convert and cache them; say where they came from."""
    from microscope_atlas import console
    from microscope_atlas.errors import UnknownName
    from microscope_atlas.models import at_hand, mirror
    from microscope_atlas.models import weights as trained
    from microscope_atlas.models.catalog import CATALOG, organism
    from microscope_atlas.models.texts import kept

    organisms = [organism(name) for name in names]
    for option, asked in (("--from", from_file), ("--classes", classes)):
        if asked and len(organisms) != 1:
            raise UnknownName(f"{option} takes one file of one model; {len(organisms)} models are named")
    if partial and not from_file:
        raise UnknownName("--partial says how to take a file; expected --from FILE beside it")
    if from_file and mirror_repo:
        raise UnknownName("--from takes a file instead of fetching one; --mirror says where to fetch it")
    loaded = {}
    for known in organisms:
        if from_file:
            given = trained.take(CATALOG.get(known.name, known), from_file, partial=partial)
        else:
            with console.transferring(err, known.name) as listen:
                given = trained.load(known, repo=mirror_repo, listen=listen)
        if classes:
            at_hand.take_names(CATALOG.get(known.name, known), at_hand.names_in(classes), str(classes))
        loaded[known.name] = given
        origin = given.provenance
        out.print(f"{known.name}: {len(given.tensors)} tensors from {origin.source}", soft_wrap=True)
        if not origin.official:
            out.print("  not proven to be the published file, though its tensors fit", soft_wrap=True)
        if given.lacking:
            out.print(f"  without the layers {', '.join(given.lacking)}, which it does not have", soft_wrap=True)
        if told := _classes(organism(known.name)):
            out.print(f"  {told}", soft_wrap=True)
        if origin.ignored:
            out.print(f"  ignored, of no use to the network: {', '.join(origin.ignored)}", soft_wrap=True)
        out.print(f"  license {origin.license}; sha256 {given.sha256}", soft_wrap=True)
        if (path := at_hand.cached_file(known)).exists():
            out.print(f"  in {path}", soft_wrap=True)
        if known.texts and (path := kept.kept_file(known, given.sha256)).exists():
            out.print(f"  the text tower in {path}", soft_wrap=True)
    if publish_repo:
        out.print(mirror.publish(publish_repo, loaded), soft_wrap=True)


def _classes(known: "Organism") -> str | None:
    """What there is to say of the names of classes, of a network that was published with some that may not ship."""
    if known.classes_in is None:
        return None
    if known.classes is None:
        return f"the names of its classes are not known here; they are in {known.classes_in}: --classes FILE takes them"
    return f"{len(known.classes)} names of classes, from {known.classes[0]!r} on"
