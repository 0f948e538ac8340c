"""Whatever is changed in an atlas behind its back, check says so."""

import copy
import json
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import Manifest, read_manifest, write_manifest
from microscope_atlas.publish.check import check
from tests import atlases
from tests.atlases import content

FLIPS = 300


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where single values stand in JSON, and empty lists and objects."""
    if not value or not isinstance(value, dict | list):
        yield path
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(inner, (*path, key))


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return "y" if value == "x" else "x" if len(value) < 2 else value[:-1] + ("y" if value[-1] == "x" else "x")
    return "x" if value is None else ["x"] if value == [] else {"x": "y"}


def test_every_field_of_the_manifest_is_held(atlas: Path, subtests: pytest.Subtests) -> None:
    file = atlas / schema.MANIFEST
    plain = json.loads(file.read_text())
    assert list(check(Folder(atlas))) == []
    places = list(leaves(plain))
    assert len(places) > 50
    for *above, last in places:
        changed = copy.deepcopy(plain)
        holder = changed
        for key in above:
            holder = holder[key]
        holder[last] = other(holder[last])
        file.write_text(json.dumps(changed, indent=1, sort_keys=True) + "\n")
        with subtests.test(field=".".join(map(str, [*above, last]))):
            assert list(check(Folder(atlas)))


def filled(kind: pa.DataType) -> Any:
    """A value of a type, for a cell that is empty."""
    if pa.types.is_struct(kind):
        return {field.name: filled(field.type) for field in kind}
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return [filled(kind.value_type)] * max(1, getattr(kind, "list_size", 1))
    if pa.types.is_map(kind):
        return []
    return pa.scalar(1).cast(kind).as_py() if not pa.types.is_binary(kind) else b"x"


def another(value: Any, kind: pa.DataType) -> Iterator[tuple[str, Any]]:
    """Of a cell each that differs from it in one value: of lists in the first, of structs in each field."""
    if value is None:
        yield "", filled(kind)
    elif pa.types.is_struct(kind):
        for field in kind:
            for inside, changed in another(value[field.name], field.type):
                yield f".{field.name}{inside}", {**value, field.name: changed}
    elif isinstance(value, list):
        inner = kind.value_type
        if not value:
            yield "[]", [filled(inner)]
        else:
            for inside, changed in another(value[0], inner):
                yield f"[0]{inside}", [changed, *value[1:]]
    elif isinstance(value, bytes):
        yield "", value[:-1] + bytes([value[-1] ^ 1])
    elif isinstance(value, float):
        yield "", 1.0 if math.isnan(value) else math.nan
        yield "", -1e30
    elif pa.types.is_integer(kind):
        yield "", value - 1 if value > 0 else value + 1
    else:
        yield "", other(value)


@pytest.mark.long
def test_every_column_is_held(tmp_path: Path, subtests: pytest.Subtests) -> None:
    root = tmp_path / "atlas"
    atlases.render_every(root, {"stem": range(2), "blocks_0": range(2)})
    assert list(check(Folder(root))) == []
    held = 0
    for folder in sorted(each for each in root.iterdir() if each.is_dir()):
        file = min(folder.rglob("*.parquet"))
        plain = file.read_bytes()
        table = pq.read_table(file, partitioning=None)
        first = table.slice(0, 1).to_pylist()[0]
        for name, kind in zip(table.column_names, table.schema.types, strict=True):
            for inside, changed in another(first[name], kind):
                column = pa.array([changed, *table[name].to_pylist()[1:]], kind)
                pq.write_table(table.set_column(table.column_names.index(name), table.field(name), column), file)
                with subtests.test(column=f"{folder.name}.{name}{inside}"):
                    assert list(check(Folder(root)))
                held += 1
        file.write_bytes(plain)
    assert held > 150
    assert list(check(Folder(root))) == []


@pytest.mark.long
def test_bytes_that_are_flipped_are_found(atlas: Path) -> None:
    whole, drawn = content(atlas), random.Random(0)
    paths, sizes = list(whole), [len(file) for file in whole.values()]
    meaningless = 0
    for _ in range(FLIPS):
        (path,) = drawn.choices(paths, sizes)
        flipped = bytearray(whole[path])
        flipped[drawn.randrange(len(flipped))] ^= 1 << drawn.randrange(8)
        (atlas / path).write_bytes(flipped)
        if not list(check(Folder(atlas))):
            assert path == schema.MANIFEST  # white space between its values
            assert json.loads(flipped) == json.loads(whole[path])
            meaningless += 1
        (atlas / path).write_bytes(whole[path])
    assert meaningless < FLIPS / 10
    assert list(check(Folder(atlas))) == []


def test_what_lies_outside_the_plan_is_named(atlas: Path) -> None:
    manifest = read_manifest(Folder(atlas))
    (planned,) = manifest.planned
    for plan in ([], [replace(planned, start=planned.start + 1)]):
        manifest.planned = plan
        write_manifest(Folder(atlas), manifest)
        assert any("is there, and nobody planned it" in problem for problem in check(Folder(atlas)))


def test_shards_keep_what_made_them_where_another_version_goes_on(atlas: Path) -> None:
    manifest = read_manifest(Folder(atlas))
    first = manifest.software
    manifest.goes_on_with(first)
    assert {shard.software for shard in manifest.shards.values()} == {""}
    assert '"software": ""' not in manifest.to_json()
    manifest.goes_on_with("microscope-atlas 9.0.0")
    path, shard = next(iter(manifest.shards.items()))
    manifest.shards[path] = replace(shard, software="")
    again = Manifest.from_json(manifest.to_json())
    assert again.every_software == (first, "microscope-atlas 9.0.0")
    again.goes_on_with("microscope-atlas 9.0.1")
    assert again.every_software == (first, "microscope-atlas 9.0.0")
