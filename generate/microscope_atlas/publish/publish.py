"""Publish an atlas as a version of a dataset on the Hub: one commit with all of it, and a tag that stays.

A version is there once its tag is. What is sent before that is seen by nobody, or at main alone, and is not sent again
when the same command is run again.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

from microscope_atlas.atlas import lists, releases, schema, shards
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import Manifest, read_manifest
from microscope_atlas.atlas.provenance import is_untrained
from microscope_atlas.atlas.releases import Release
from microscope_atlas.atlas.revision import Revision
from microscope_atlas.errors import PublishFailed, VersionTaken
from microscope_atlas.hub.changes import KEPT, Changes, File, changes
from microscope_atlas.hub.repo import Listen, Repo
from microscope_atlas.publish.card import is_edited, own_text, render_card, written
from microscope_atlas.publish.check import check
from microscope_atlas.publish.credits import shown_sets


@dataclass(frozen=True)
class Plan:
    """What publishing an atlas as a version will do."""

    repo: Repo
    release: Release
    files: Mapping[str, File]  # what the repository is going to hold
    changes: Changes  # from what it holds at `head`
    head: str | None  # None: it is yet to be made
    published: str | None  # the version's commit, where it is there already and holds this atlas
    tables: frozenset[str] = frozenset()  # whose files are ours to remove; all others in the repository stay


@contextmanager
def held(atlas: Folder) -> Iterator[None]:
    """Nobody else writes to the atlas meanwhile: a version is of one moment. AtlasBusy where a run is writing it.

    A folder that we may not write to is not held.
    """
    with atlas.lock() if os.access(atlas.root, os.W_OK) else nullcontext():
        yield


def plan(atlas: Folder, name: str, version: str, space: str | None = None) -> Plan:
    """What publishing an atlas in the repository `name` as `version` will do; sends nothing.

    Raises InvalidKey for what is no version or no repository's name; PublishFailed for an atlas with problems, with
    random weights, or for a repository of something else; VersionTaken where the version holds another atlas, or later
    ones are published; HubFailed where the Hub refuses.
    """
    releases.order(version)
    repo = Repo(name, "dataset")
    if space is not None:
        Repo(space, "space")
    _refuse_unfit(atlas)
    manifest = read_manifest(atlas)
    head = repo.head()
    tree = repo.tree(head) if head else {}
    if head and tree.keys() - {*KEPT, schema.CARD} and schema.MANIFEST not in tree:
        raise PublishFailed(f"{repo.url} holds something else than an atlas (no {schema.MANIFEST}); name another one")
    tags = repo.tags() if head else {}
    known = releases.read(Revision(repo, "main", head)) if head else []
    before = [release for release in known if release.tag in tags and release.version != version]
    if f"v{version}" in tags:
        return _published(atlas, repo, version, tags[f"v{version}"], manifest)
    if before and releases.order(version) < releases.order(before[-1].version):
        raise VersionTaken(
            f"{repo.url} has version {before[-1].version}, and {version} comes before it; name a later one"
        )
    last = Revision(repo, before[-1].tag, tags[before[-1].tag]) if before else None
    was = read_manifest(last) if last else Manifest()
    lists_then = lists.files(last) if last else {}
    brought = (*releases.differences(was, manifest), *lists.differences(lists_then, lists.files(atlas)))
    release = Release(name, version, releases.identity(manifest), brought, space)
    own = {
        schema.RELEASES: releases.to_json([*before, release]),
        schema.CARD: render_card(manifest, [*before, release], _own_text(atlas, repo, head, tree)),
    }
    files = {**_rows(atlas, manifest), **{path: File(text.encode()) for path, text in own.items()}}
    tables = frozenset({*manifest.every_table, *was.every_table})
    return Plan(repo, release, files, changes(files, tree, partial(schema.is_ours, tables=tables)), head, None, tables)


def publish(plan: Plan, private: bool = False, listen: Listen = lambda *_: None) -> str:
    """Do what was planned and verify it; returns the version's commit.

    Raises HubFailed where the Hub refuses or does not answer, somebody else has committed meanwhile, or what it holds
    in the end is not what was sent. Running it again goes on from there.
    """
    commit = plan.published
    if commit is None:
        head = plan.head or plan.repo.create(private)
        message = f"Version {plan.release.version}"
        commit = plan.repo.commit(plan.changes, head, message, listen) if plan.changes else head
    plan.repo.verify(plan.files, commit, partial(schema.is_ours, tables=plan.tables))
    if plan.published is None:  # a tag stays, so it names only what was verified
        plan.repo.tag(plan.release.tag, commit)
    _read_back(plan, commit)
    return commit


def _refuse_unfit(atlas: Folder) -> None:
    problems = list(check(atlas))
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems[:10])
        raise PublishFailed(f"{atlas} has {len(problems)} problems, and is not published before they are gone:{listed}")
    manifest = read_manifest(atlas)
    if not manifest.shards:
        raise PublishFailed(f"{atlas} holds no rows; microscope-atlas render {atlas} makes some")
    untrained = [name for name, model in manifest.models.items() if is_untrained(model["provenance"])]
    if untrained:
        raise PublishFailed(f"{', '.join(untrained)} in {atlas} has random weights, which are for tests and benchmarks")
    unstated = [f"{each.name} at revision {each.revision}" for each in shown_sets(manifest) if each.terms is None]
    if unstated:
        raise PublishFailed(
            f"rows in {atlas} hold crops of {' and of '.join(unstated)}, and nobody has stated the license of these "
            "pictures: render again with --pictures-license TEXT, or put a file LICENSE beside them and render again; "
            "rows that only point at pictures need none, render --pointers into another folder"
        )


def _own_text(atlas: Folder, repo: Repo, head: str | None, tree: Mapping[str, object]) -> str:
    """What the owner has added to the card, here or on the Hub; PublishFailed where something of it would be lost."""
    here = written(atlas)
    if head is None or schema.CARD not in tree or schema.MANIFEST not in tree:
        return here
    card = repo.download(schema.CARD, head).read_text(errors="replace")
    there = own_text(card)
    if is_edited(card):
        raise PublishFailed(
            f"{schema.CARD} of {repo.url} was edited above the line that says what is kept, and would be overwritten; "
            "move what is yours below it"
        )
    if here and there and here != there:
        raise PublishFailed(
            f"{schema.CARD} has text of its own in {atlas} and another in {repo.url}; make them one: what stands below "
            "the line that says so is kept"
        )
    return here or there


def _published(atlas: Folder, repo: Repo, version: str, commit: str, manifest: Manifest) -> Plan:
    """Nothing to do, where the version at `commit` holds this atlas."""
    there = Revision(repo, f"v{version}", commit)
    release = releases.current(releases.read(there), manifest)
    other_lists = lists.differences(lists.files(there), lists.files(atlas))
    if release is None or other_lists:
        new = "; ".join((*releases.differences(read_manifest(there), manifest), *other_lists))
        raise VersionTaken(
            f"{repo.url} has a version {version} of another atlas, and published versions never change. "
            f"In this one: {new}. Publish it as a later version"
        )
    # a later version of this package may word the card in another way: it stays as it was published
    own = {path: File(repo.download(path, commit)) for path in (schema.RELEASES, schema.CARD)}
    files = {**_rows(atlas, manifest), **own}
    return Plan(repo, release, files, Changes({}, num_same=len(files)), commit, commit)


def _rows(atlas: Folder, manifest: Manifest) -> dict[str, File]:
    """The files that are in a repository as they are in a folder."""
    beside = [*map(schema.index_path, manifest.indexes), *([schema.COVER] if manifest.cover else []), schema.MANIFEST]
    return {path: File(atlas.root / path) for path in (*sorted(manifest.shards), *beside, *lists.files(atlas))}


def _read_back(plan: Plan, commit: str) -> None:
    """Read the smallest shard as a reader of the version will."""
    there = Revision(plan.repo, plan.release.tag, commit)
    shard = min(read_manifest(there).shards.values(), key=lambda shard: shard.bytes)
    with there.local_copy(shard.path) as file:
        rows = shards.read_shard(file).num_rows
    if rows != shard.rows:
        raise PublishFailed(f"{there.name}: {shard.path} has {rows} rows, expected {shard.rows}")
