"""Hostile atlases: damaged files, and files that say whatever they like, vouched for by the manifest beside them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from microscope_atlas.atlas import ranges, releases, schema
from microscope_atlas.atlas.coverage import coverage
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.images import Images
from microscope_atlas.atlas.manifest import read_manifest
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.atlas.units import UnitRange, missing, union
from microscope_atlas.keys import Key
from microscope_atlas.publish.card import render_card
from microscope_atlas.publish.check import check
from microscope_atlas.publish.cite import cite
from tests.atlases import LENS, MODEL, shards
from tests.fuzz import cases as generated
from tests.fuzz.limits import reads
from tests.fuzz.mutation import LENGTHS, mutated, survived


def unsigned(content: bytes) -> bytes:
    """The same Parquet file without checksums of its pages, so that damage reaches what decodes them."""
    table = pq.read_table(pa.BufferReader(content))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=2)
    return bytes(sink.getvalue())


@generated.of("shards")
def test_shards(whole: Path, tmp_path: Path, cases: int) -> None:
    content = shards(whole)[0].read_bytes()
    path = tmp_path / "shard.parquet"

    def read(path: Path) -> object:
        return read_shard(path).to_pylist()

    assert 0 < survived(read, [content, unsigned(content)], path, cases) < cases


def vouched(root: Path, path: str, content: bytes) -> None:
    """Put a file into an atlas, and have its manifest vouch for it."""
    (root / path).write_bytes(content)
    plain = json.loads((root / schema.MANIFEST).read_text())
    for shard in plain["shards"]:
        if UnitRange(**shard["units"]).path == path:
            shard.update(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    (root / schema.MANIFEST).write_text(json.dumps(plain))


@generated.of("shards in check")
def test_shards_that_the_manifest_vouches_for(atlas: Path, cases: int) -> None:
    path = shards(atlas)[0].relative_to(atlas).as_posix()
    files = [(atlas / path).read_bytes()]
    files.append(unsigned(files[0]))
    for number in range(cases):
        vouched(atlas, path, mutated(files, Random(f"vouched {number}")))
        reads(lambda root: list(check(Folder(root))), atlas, f"case {number}, left in {atlas}")


@generated.of("shards in the Space")
def test_shards_read_by_ranges(atlas: Path, cases: int) -> None:
    path = shards(atlas)[0]

    def read(path: Path) -> object:
        name = path.relative_to(atlas).as_posix()
        return ranges.read(Folder(atlas), name, path.stat().st_size, schema.table(LENS)).to_pylist()

    content = path.read_bytes()
    assert 0 < survived(read, [content, unsigned(content)], path, cases) < cases


@generated.of("indexes")
def test_indexes(atlas: Path, cases: int) -> None:
    path = atlas / schema.index_path(MODEL)

    def read(path: Path) -> None:
        images = Images(Folder(atlas), MODEL)
        for batch in images._batches():
            for row in batch.to_pylist():
                images.read(row["table"], row["name"], row["column"])

    content = path.read_bytes()
    assert survived(read, [content, unsigned(content)], path, cases) < cases


def looked_at(root: Path) -> None:
    """What is done with a manifest before anything is trusted."""
    source = Folder(root)
    manifest = read_manifest(source)
    manifest.to_json()
    coverage(source)
    union(manifest.planned)
    missing(manifest.planned, [shard.units for shard in manifest.shards.values()])
    if manifest.shards:
        render_card(manifest, releases.read(source))
    cite(source)
    cite(source, Key(MODEL))


@generated.of("manifests")
def test_damaged_manifests(atlas: Path, cases: int) -> None:
    path = atlas / schema.MANIFEST
    assert survived(lambda _: looked_at(atlas), [path.read_bytes()], path, cases) < cases


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from((*LENGTHS, -1, -(2**63), 0.5, float("nan"), float("inf")))
    | st.sampled_from(
        ("", "../../x", "/etc/passwd", "own:os.abort", "\ud800", "\0", "\x1b[2J", "<script>", "x" * 10_000)
    )
    | st.sampled_from((LENS, MODEL, "source", "license", "weights_sha256", "1")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("", "source", MODEL)), inner, max_size=3)
    ),
    max_leaves=4,
)


def places(plain: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where there is something in what JSON holds."""
    inner = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    return [way, *(place for key, value in inner for place in places(value, (*way, key)))]


def put(plain: Any, place: tuple[Any, ...], value: Any) -> Any:
    """The same with something else at a place."""
    if not place:
        return value
    copy = plain.copy()
    copy[place[0]] = put(plain[place[0]], place[1:], value)
    return copy


def renamed(plain: Any, place: tuple[Any, ...], name: Any) -> Any:
    """The same with something under another name, where it has one."""
    if not place:
        return plain
    copy = plain.copy()
    if len(place) > 1:
        copy[place[0]] = renamed(plain[place[0]], place[1:], name)
    elif isinstance(copy, dict) and isinstance(name, str):
        copy[name] = copy.pop(place[0])
    return copy


def edits(plain: Any) -> st.SearchStrategy[Any]:
    """The same JSON with one or two things in it replaced or renamed."""
    one = st.tuples(st.sampled_from((put, renamed)), st.sampled_from(places(plain)), ODD)

    def edited(changes: list[tuple[Callable[..., Any], tuple[Any, ...], Any]]) -> Any:
        made = plain
        for change, place, value in changes:
            try:
                made = change(made, place, value)
            except (KeyError, TypeError, IndexError, AttributeError):
                continue  # the first one took its place away
        return made

    return st.lists(one, min_size=1, max_size=2).map(edited)


@generated.of("manifests in check")
def test_manifests_that_say_anything(atlas: Path, cases: int) -> None:
    path = atlas / schema.MANIFEST
    plain = json.loads(path.read_text())

    def one(edited: Any) -> None:
        path.write_text(json.dumps(edited))
        reads(looked_at, atlas, f"{edited!r}")
        reads(lambda root: list(check(Folder(root))), atlas, f"check of {edited!r}")

    generated.each(edits(plain), cases, one)


@generated.of("releases")
def test_releases(tmp_path: Path, cases: int) -> None:
    path = tmp_path / schema.RELEASES
    made = [
        releases.Release("a/b", "2026.9.0", "00", ("x", "y")),
        releases.Release("a/b", "2026.10.0", "11", (), "a/s"),
    ]
    plain = json.loads(releases.to_json(made))
    assert (
        survived(lambda _: releases.read(Folder(tmp_path)), [releases.to_json(made).encode()], path, cases // 2) < cases
    )

    def one(edited: Any) -> None:
        path.write_text(json.dumps(edited))
        reads(lambda root: releases.read(Folder(root)), tmp_path, f"{edited!r}")

    generated.each(edits(plain), cases // 2, one)


@pytest.mark.parametrize("name", [schema.MANIFEST, schema.RELEASES])
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 100_000, '"\\ud800"'])
def test_json_without_end(whole: Path, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / schema.MANIFEST).write_text((whole / schema.MANIFEST).read_text())
    (tmp_path / name).write_text(text)
    assert not reads(lambda root: (read_manifest(Folder(root)), releases.read(Folder(root))), tmp_path, name)
