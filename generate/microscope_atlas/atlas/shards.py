"""Shards: Parquet files with the rows of a range of units, written whole or not at all, verified, and read back."""

import hashlib
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.manifest import Index, Manifest, Shard
from microscope_atlas.atlas.storage import Storage, WritableStorage
from microscope_atlas.atlas.tables import Table
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.errors import AtlasDamaged
from microscope_atlas.structure import structure

ROWS_PER_GROUP = 1000
OWN_METADATA = b"microscope-atlas"  # key in a shard's footer
SMALL, MOST_KNOWN = 4096, 1024  # bytes of a stored column that is decoded once, and how many such are kept


def write_shard(
    storage: WritableStorage, units: UnitRange, id: str, rows: Sequence[dict[str, Any]], table: Table | None = None
) -> Shard:
    """Write rows as a shard: beside its place, verified, synced to disk, then renamed.

    The same rows give the same bytes. The table is that of the units' lens, or `table`, of one from outside.
    """
    table = table or schema.table(units.lens)
    stated = json.dumps({"units": asdict(units), "id": id}, sort_keys=True)
    sha256, size = _write(storage, units.path, table, rows, {OWN_METADATA: stated.encode()})
    return Shard(units, id, sha256, size, len(rows))


def write_index(storage: WritableStorage, model: str, rows: Sequence[dict[str, Any]], of: str) -> Index:
    """Write where a model's images lie, as a shard is written."""
    sha256, size = _write(storage, schema.index_path(model), schema.INDEX, rows, {})
    return Index(sha256, size, len(rows), of)


def _write(
    storage: WritableStorage, path: str, table: Table, rows: Sequence[dict[str, Any]], stated: Mapping[bytes, bytes]
) -> tuple[str, int]:
    """Write rows as a Parquet file that states something of itself: its sha256 and length."""
    arrow = table.arrow.with_metadata({**(table.arrow.metadata or {}), **stated})
    content = pa.Table.from_pylist(sorted(rows, key=table.sort_key), schema=arrow)
    pixels = {f"{name}.bytes" for name in table.images}
    with storage.atomic_write(path) as beside:
        pq.write_table(
            content,
            beside,
            row_group_size=ROWS_PER_GROUP,
            # images are compressed already; left as they are, each is one slice of the file
            compression={leaf: "none" if leaf in pixels else "zstd" for leaf in table.leaves},
            use_dictionary=[leaf for leaf in table.leaves if leaf.rpartition(".")[0] not in table.images],
            write_statistics=[column.name for column in table.keys],
            write_page_checksum=True,
            store_schema=True,
        )
        back = read_shard(beside)
        if not (_same(back, content) and back.schema.metadata == content.schema.metadata):
            raise AtlasDamaged(f"{beside} does not read back as it was written")
        return file_sha256(beside), beside.stat().st_size


def _same(a: pa.Table, b: pa.Table) -> bool:
    """Whether two tables hold the same; what is not a number is the same as what is not a number either."""
    if a.schema != b.schema or a.num_rows != b.num_rows:
        return False
    columns = zip(a.columns, b.columns, strict=True)  # in words NaN is like NaN, to Arrow it is not
    return all(one.equals(other) or repr(one.to_pylist()) == repr(other.to_pylist()) for one, other in columns)


def unnoted(storage: Storage, manifest: Manifest) -> Iterator[Shard]:
    """Whole shards in their place that the manifest does not name: a run was killed before it could note them."""
    for path in parquet_files(storage):
        if path in manifest.shards:
            continue
        with storage.local_copy(path) as file:
            try:
                content = read_shard(file)
                stated = json.loads(content.schema.metadata[OWN_METADATA])
                units = structure(UnitRange, stated["units"])
            except (AtlasDamaged, KeyError, TypeError, ValueError, RecursionError):
                continue  # nobody vouches for it: what it should hold is rendered anew
            if units.path == path:
                yield Shard(units, stated["id"], file_sha256(file), file.stat().st_size, content.num_rows)


def read_shard(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A shard's rows, of some columns or of all, its pages' checksums verified.

    AtlasDamaged where the file is not what was written.
    """
    with reading(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        table = file.read(columns)
        table.validate(full=True)  # text that is none, offsets that lead nowhere
        return table


class Parser:
    """Reads the rows of many shards, each of its bytes; a column that is, byte for byte, another's is decoded once.

    Most columns say how rows were made, and say the same in shard after shard.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, pa.ChunkedArray] = {}

    def __call__(self, data: bytes, path: Path) -> tuple[pa.Table, pq.FileMetaData]:
        """A shard's rows and where they lie, as `read_shard` reads them of the file at `path`."""
        with reading(path), pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            schema = file.schema_arrow
            names, keys = schema.names, _stored(file.metadata, schema, data)
            columns = {name: self._known[key] for name, key in keys.items() if key in self._known}
            # of a small file threads take longer than what they read
            new = file.read([name for name in names if name not in columns] if columns else None, use_threads=False)
            new.validate(full=True)  # text that is none, offsets that lead nowhere
            if len(self._known) > MOST_KNOWN:
                self._known.clear()
            self._known |= {key: new[name] for name, key in keys.items() if name not in columns}
            if not columns:
                return new, file.metadata
            whole = [columns[name] if name in columns else new[name] for name in names]
            return pa.Table.from_arrays(whole, schema=schema), file.metadata


def _stored(about: pq.FileMetaData, columns: pa.Schema, data: bytes) -> dict[str, Hashable]:
    """What a file has of each column that is small: its bytes, and what they are read by."""
    names = columns.names
    if about.num_row_groups != 1 or len({*names}) < len(names) or any("." in name for name in names):
        return {}
    group = about.row_group(0)
    stored: dict[str, tuple[Hashable, ...]] = {}
    large = set()
    for chunk in map(group.column, range(group.num_columns)):
        name, size = chunk.path_in_schema.partition(".")[0], chunk.total_compressed_size
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        how = chunk.path_in_schema, chunk.physical_type, chunk.compression, chunk.num_values
        stored[name] = (*stored.get(name, ()), *how, data[start : start + size])
        if size > SMALL:
            large.add(name)
    return {name: (columns.field(name).type, *each) for name, each in stored.items() if name not in large}


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """AtlasDamaged where a Parquet file is not what was written."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: columns whose names are no text
        raise AtlasDamaged(f"{path} cannot be read: {error}; delete it and run render again") from error


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parquet_files(storage: Storage) -> dict[str, int]:
    """Bytes of every Parquet file in the atlas, noted or not, by path, sorted."""
    return {path: size for path, size in sorted(storage.files().items()) if path.endswith(".parquet")}
