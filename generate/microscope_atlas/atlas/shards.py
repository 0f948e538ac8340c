"""Shards: Parquet files with the rows of a range of units, written whole or not at all, verified, and read back."""

import hashlib
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

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
MOST_LAYOUTS = 64  # that are told apart; an atlas has one a table


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


class _Column:
    """A column, and its values, which are taken out of it once."""

    def __init__(self, stored: pa.ChunkedArray) -> None:
        self.stored = stored

    @cached_property
    def values(self) -> list[Any]:
        values: list[Any] = self.stored.to_pylist()
        return values


@dataclass(frozen=True)
class Parsed:
    """A file's rows as a Parser reads them, with all that it read them of."""

    schema: pa.Schema
    about: pq.FileMetaData  # where they lie
    data: bytes  # all of the file
    columns: Sequence[_Column]

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Row by row, as Arrow's `to_pylist`; what is within may be shared with other files' rows."""
        names = self.schema.names
        each = zip(*(column.values for column in self.columns), strict=True)
        return [dict(zip(names, row, strict=True)) for row in each]


class Parser:
    """Reads the rows of many shards, each of its bytes; a column that is, byte for byte, another's is decoded once.

    Most columns say how rows were made, and say the same in shard after shard.
    """

    def __init__(self) -> None:
        self._layouts: list[_Layout] = []
        self._known: dict[Hashable, _Column] = {}

    def __call__(self, data: bytes, path: Path) -> Parsed:
        """A shard's rows, as `read_shard` reads them of the file at `path`, of which this is all."""
        with reading(path), pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            schema = file.schema_arrow
            names, keys = schema.names, self._keys(file.metadata, schema, data)
            known = {name: self._known[key] for name, key in keys.items() if key in self._known}
            # of a small file threads take longer than what they read
            new = file.read([name for name in names if name not in known] if known else None, use_threads=False)
            new.validate(full=True)  # text that is none, offsets that lead nowhere
            if len(self._known) > MOST_KNOWN:
                self._known.clear()
            if known:
                columns = [known[name] if name in known else _Column(new[name]) for name in names]
            else:
                columns = [*map(_Column, new.columns)]
            named = dict(zip(names, columns, strict=True))
            self._known |= {key: named[name] for name, key in keys.items() if name not in known}
            return Parsed(schema, file.metadata, data, columns)

    def _keys(self, about: pq.FileMetaData, columns: pa.Schema, data: bytes) -> Mapping[str, Hashable]:
        """Of each column that is small in a file of one row group: its bytes, and what they are read by."""
        if about.num_row_groups != 1:
            return {}
        layout, stored = self._layout(about.schema, columns), about.row_group(0)
        keys: dict[str, tuple[Hashable, ...]] = {name: (layout.number, name) for name in layout.leaves}
        for name, chunk in zip(layout.leaves, map(stored.column, range(stored.num_columns)), strict=False):
            size = chunk.total_compressed_size
            if size > SMALL:
                keys.pop(name, None)
            elif name in keys:
                start = chunk.dictionary_page_offset or chunk.data_page_offset
                keys[name] = (*keys[name], chunk.compression, chunk.num_values, data[start : start + size])
        return keys

    def _layout(self, stored: pq.ParquetSchema, columns: pa.Schema) -> "_Layout":
        """The layout of a file: that of another one that has just these columns, if there was one."""
        for layout in self._layouts:
            if layout.stored.equals(stored) and layout.columns.equals(columns):
                return layout
        if len(self._layouts) > MOST_LAYOUTS:
            self._layouts.clear()
            self._known.clear()
        names = columns.names
        told_apart = len({*names}) == len(names) and not any("." in name for name in names)
        leaves = [stored.column(leaf).path.partition(".")[0] for leaf in range(len(stored))] if told_apart else []
        self._layouts.append(_Layout(len(self._layouts), stored, columns, tuple(leaves)))
        return self._layouts[-1]


class _Layout(NamedTuple):
    """Which columns a file has, and how they are stored."""

    number: int
    stored: pq.ParquetSchema
    columns: pa.Schema
    leaves: tuple[str, ...]  # the column that each of what is stored is part of; none where names do not tell it


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
