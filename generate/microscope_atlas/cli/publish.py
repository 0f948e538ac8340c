"""`microscope-atlas publish`: an atlas as a version that stays."""

from typing import Annotated

import typer

from microscope_atlas.cli.app import Atlas, app, err, out, stopping


@app.command()
@stopping("The same command goes on from there.")
def publish(
    atlas: Atlas,
    repo: Annotated[str, typer.Argument(help="owner/name of the dataset on the Hub.", show_default=False)],
    version: Annotated[str, typer.Option(help="Year, month and a count: 2026.11.0.", show_default=False)],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent; send nothing.")] = False,
    space: Annotated[str | None, typer.Option(metavar="REPO", help="Put the Space there, too.")] = None,
) -> None:
    """Publish the atlas as a version that stays, and verify what arrived. It can be stopped and run again."""
    from rich import filesize

    from microscope_atlas import console
    from microscope_atlas.atlas.folder import Folder
    from microscope_atlas.hub.repo import Repo
    from microscope_atlas.publish import publish as publishing
    from microscope_atlas.publish import space as spaces

    files = spaces.space_files(f"{repo}@v{version}") if space else None
    with publishing.held(Folder(atlas)):
        plan = publishing.plan(Folder(atlas), repo, version, space)
        changes = plan.changes
        out.print(
            f"{repo} {plan.release.tag}: {len(plan.files):,} files, {len(changes.add):,} to send "
            f"({filesize.decimal(changes.bytes)}), {changes.num_same:,} there already, "
            f"{len(changes.remove):,} to delete",
            soft_wrap=True,
        )
        listed = [f"- {path}" for path in changes.remove]  # that are not of this version; earlier ones keep them
        if dry_run:
            listed = [*(f"+ {path}" for path in sorted(changes.add)), *listed]
        for line in listed:
            out.print(line, soft_wrap=True)
        if dry_run:
            return
        with console.transferring(err, "files") as listen:
            commit = publishing.publish(plan, private, listen)
    done = "was published before; there is nothing to do" if plan.published else "is published"
    out.print(f"{plan.repo.url}/tree/{plan.release.tag} {done}: commit {commit}, verified.", soft_wrap=True)
    if space and files:
        with console.transferring(err, "Space") as listen:
            commit = spaces.deploy(files, space, f"Show {repo} {plan.release.tag}", private, listen)
        out.print(f"{Repo(space, 'space').url}: commit {commit}, verified.", soft_wrap=True)
