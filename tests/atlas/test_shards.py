import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microscope_atlas.atlas import schema
from microscope_atlas.atlas import shards as shards_module
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import Manifest, read_manifest, write_manifest
from microscope_atlas.atlas.shards import Parsed, Parser, read_shard, write_shard
from microscope_atlas.errors import AtlasBusy, AtlasDamaged
from microscope_atlas.publish.check import check
from tests.atlases import IMAGES, content, render, rows, shards


def test_same_rows_give_the_same_bytes(atlas: Path, tmp_path: Path) -> None:
    (path, _), (shard, _) = shards(atlas), read_manifest(Folder(atlas)).shards.values()
    given_rows = read_shard(path).to_pylist()
    for order in (given_rows, given_rows[::-1]):
        assert write_shard(Folder(tmp_path / "again"), shard.units, shard.id, order) == shard
        assert (tmp_path / "again" / shard.path).read_bytes() == path.read_bytes()


def test_image_is_one_slice_of_its_file(whole: Path) -> None:
    for path in shards(whole):
        data = path.read_bytes()
        for row in read_shard(path).to_pylist():
            assert data.count(row["image"]["bytes"]) == 1


def test_images_are_stored_plain(whole: Path) -> None:
    group = pq.read_metadata(shards(whole)[0]).row_group(0)
    (chunk,) = (c for i in range(group.num_columns) if (c := group.column(i)).path_in_schema == "image.bytes")
    assert (chunk.compression, chunk.has_dictionary_page) == ("UNCOMPRESSED", False)


def test_statistics_are_on_the_keys_alone(whole: Path) -> None:
    group = pq.read_metadata(shards(whole)[0]).row_group(0)
    chunks = [group.column(i) for i in range(group.num_columns)]
    with_statistics = {chunk.path_in_schema for chunk in chunks if chunk.is_stats_set}
    assert with_statistics == {column.name for column in schema.FEATURE_VISUALIZATION.keys}


def test_truncated_shard_is_damaged(atlas: Path) -> None:
    path = shards(atlas)[0]
    for length in (0, 3, path.stat().st_size // 2, path.stat().st_size - 1):
        data = path.read_bytes()
        path.write_bytes(data[:length])
        with pytest.raises(AtlasDamaged, match=str(path)):
            read_shard(path)
        path.write_bytes(data)


def test_flipped_bit_of_any_page_is_damage(atlas: Path) -> None:
    path = shards(atlas)[0]
    group = pq.read_metadata(path).row_group(0)
    data = path.read_bytes()
    for i in range(group.num_columns):
        chunk = group.column(i)
        start = chunk.data_page_offset if chunk.dictionary_page_offset is None else chunk.dictionary_page_offset
        middle = random.Random(i).randrange(start, start + chunk.total_compressed_size)
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :])
        try:
            assert read_shard(path).to_pylist() == read_shard(_copy(path, data)).to_pylist()
        except AtlasDamaged as error:
            assert str(path) in str(error)


def _copy(path: Path, data: bytes) -> Path:
    right = path.with_suffix(".right")
    right.write_bytes(data)
    return right


def test_manifest_survives_being_written_and_read(whole: Path) -> None:
    manifest = read_manifest(Folder(whole))
    assert len(manifest.shards) == 2
    assert Manifest.from_json(manifest.to_json()) == manifest


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_any_changed_byte_of_the_manifest_is_damage_or_readable(
    whole: Path, tmp_path: Path, place: float, value: int
) -> None:
    data = bytearray((whole / schema.MANIFEST).read_bytes())
    data[int(place * len(data))] = value
    (tmp_path / schema.MANIFEST).write_bytes(data)
    try:
        manifest = read_manifest(Folder(tmp_path))
    except AtlasDamaged as error:
        assert str(tmp_path / schema.MANIFEST) in str(error)
        assert list(check(Folder(tmp_path))) == [str(error)]
    else:
        assert Manifest.from_json(manifest.to_json()) == manifest
        list(check(Folder(tmp_path)))  # whatever it finds, it finds words for


def test_foreign_schema_is_refused(atlas: Path) -> None:
    Folder(atlas).write(schema.MANIFEST, replace(read_manifest(Folder(atlas)), schema="2").to_json())
    with pytest.raises(AtlasDamaged, match=f"{atlas}.* has schema '2', this version reads '1'"):
        read_manifest(Folder(atlas))
    before = content(atlas)
    with pytest.raises(AtlasDamaged):
        render(atlas, range(5))
    assert content(atlas) == before


def test_folder_without_an_atlas_is_no_atlas(tmp_path: Path) -> None:
    with pytest.raises(AtlasDamaged, match="holds no atlas"):
        read_manifest(Folder(tmp_path))


def test_unfinished_files_are_removed_under_the_lock_alone(atlas: Path) -> None:
    left = shards(atlas)[0].with_name("stem.00007-00008.parquet.99.part")
    left.write_bytes(b"half a shard")
    before = content(atlas)
    read_manifest(Folder(atlas)), rows(atlas)
    assert content(atlas) == before
    with Folder(atlas).lock():
        assert not left.exists()


def test_shard_that_does_not_read_back_leaves_nothing(
    atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = next(iter(read_manifest(Folder(atlas)).shards.values()))
    table = read_shard(atlas / shard.path)
    monkeypatch.setattr(shards_module, "read_shard", lambda path: table.slice(1))
    with pytest.raises(AtlasDamaged, match="does not read back"):
        write_shard(Folder(tmp_path / "other"), shard.units, shard.id, table.to_pylist())
    assert content(tmp_path / "other") == {}


def test_second_writer_is_refused_while_the_first_writes(atlas: Path) -> None:
    code = "import sys; from microscope_atlas.atlas.folder import Folder; from pathlib import Path\n"
    code += "with Folder(Path(sys.argv[1])).lock(): print('mine', flush=True); sys.stdin.read()"
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(atlas)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)
    )
    assert first.stdout and first.stdout.readline() == b"mine\n"
    before = content(atlas)
    with pytest.raises(AtlasBusy, match=str(atlas)):
        render(atlas, range(5))
    assert content(atlas) == before
    first.communicate()
    assert render(atlas, range(5)).made == 2 * IMAGES


def test_manifest_that_could_not_be_read_again_is_not_written(atlas: Path) -> None:
    before = (atlas / schema.MANIFEST).read_bytes()
    manifest = read_manifest(Folder(atlas))
    manifest.models[next(iter(manifest.models))]["provenance"]["license"] = None
    with pytest.raises(AtlasDamaged, match=r"is not written, as it could not be read again: .*license"):
        write_manifest(Folder(atlas), manifest)
    assert (atlas / schema.MANIFEST).read_bytes() == before


def table_of(found: Parsed) -> pa.Table:
    return pa.Table.from_arrays([column.stored for column in found.columns], schema=found.schema)


def test_parser_reads_what_is_there(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parse, read = Parser(), [*shards(whole), *shards(whole)]
    for most in (1024, 3):
        monkeypatch.setattr(shards_module, "MOST_KNOWN", most)
        for path in read:
            found = parse(path.read_bytes(), path)
            assert table_of(found).equals(read_shard(path), check_metadata=True)
            assert found.rows == table_of(found).to_pylist()
            assert found.about.num_rows == len(found.rows)


cells = st.fixed_dictionaries(
    {
        "a": st.sampled_from([1, 2]),
        "b": st.none() | st.sampled_from(["x", "y"]),
        "c": st.lists(st.sampled_from([None, 0.5]), max_size=2),
        "d": st.none() | st.fixed_dictionaries({"e": st.none() | st.just(1), "f": st.sampled_from(["", "g"])}),
    }
)
KINDS = pa.schema(
    [
        ("a", pa.int32()),
        ("b", pa.string()),
        ("c", pa.list_(pa.float32())),
        ("d", pa.struct([("e", pa.int8()), ("f", pa.string())])),
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    tables=st.lists(st.lists(cells, max_size=3), max_size=6),
    compressions=st.lists(st.sampled_from(["zstd", "none"]), min_size=6, max_size=6),
    rows_per_group=st.sampled_from([1, 10]),
)
def test_parser_takes_no_column_for_another(tables: Any, compressions: list[str], rows_per_group: int) -> None:
    parse = Parser()
    for made, compression in zip(tables, compressions, strict=False):
        file = pa.BufferOutputStream()
        table = pa.Table.from_pylist(made, schema=KINDS)
        pq.write_table(table, file, row_group_size=rows_per_group, compression=compression, write_page_checksum=True)
        found = parse(file.getvalue().to_pybytes(), Path("one"))
        assert table_of(found).equals(table)
        assert found.rows == table.to_pylist()


def test_parser_takes_no_column_for_one_of_another_type() -> None:
    """Their bytes are the same: physical types are."""
    parse = Parser()
    for _ in range(2):
        for kind in (pa.int32(), pa.date32(), pa.uint32(), pa.int32()):
            table, file = pa.table({"a": pa.array([1, 2], pa.int32()).view(kind)}), pa.BufferOutputStream()
            pq.write_table(table, file)
            found = parse(file.getvalue().to_pybytes(), Path("one"))
            assert table_of(found).equals(table)


def test_parser_forgets_layouts_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "MOST_LAYOUTS", 2)
    parse = Parser()
    for number in [*range(6), *range(6)]:
        table, file = pa.table({f"column {number}": [1, 2], "other": ["x", "y"]}), pa.BufferOutputStream()
        pq.write_table(table, file)
        found = parse(file.getvalue().to_pybytes(), Path("one"))
        assert table_of(found).equals(table)
        assert len(parse._layouts) <= 3


@pytest.mark.parametrize("names", [("a", "a"), ("a.b", "a"), ("a", "a.b"), ("a.b", "a.c"), ("", "a")])
def test_parser_reads_columns_of_odd_names(names: tuple[str, ...]) -> None:
    parse = Parser()
    for values in ([1, 2], [2, 1], [1, 2]):
        file = pa.BufferOutputStream()
        table = pa.Table.from_arrays([pa.array(values), pa.array(["x", "y"])], names=names)
        pq.write_table(table, file)
        found = parse(file.getvalue().to_pybytes(), Path("one"))
        assert table_of(found).equals(table)


def test_damaged_column_is_refused_though_its_like_was_read(whole: Path) -> None:
    parse = Parser()
    path = shards(whole)[0]
    data = path.read_bytes()
    parse(data, path)
    column = pq.read_metadata(path).row_group(0).column(0)
    at = (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size - 3
    with pytest.raises(AtlasDamaged):
        parse(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], path)
