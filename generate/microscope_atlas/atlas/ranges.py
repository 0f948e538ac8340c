"""Parquet read by ranges: of a file in an atlas, the columns that are no images, and no other bytes."""

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from microscope_atlas.atlas.storage import Storage
from microscope_atlas.atlas.tables import Table
from microscope_atlas.errors import AtlasDamaged

FOOTER = 1 << 16  # bytes asked for first, from the end: as many as pyarrow reads there
GAP = 1 << 14  # bytes; ranges closer than this are read as one, since a request costs more


def read(storage: Storage, path: str, size: int, table: Table, columns: Sequence[str] = ()) -> pa.Table:
    """The rows of the file at `path`, `size` bytes long: these columns, or all; for an image its file name.

    AtlasDamaged where the file is not what was written.
    """
    try:
        return _read(storage, path, size, table, columns)
    except KeyError as error:
        raise AtlasDamaged(f"{path} lacks a column that its rows have: {error.args[0]}") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: columns whose names are no text
        raise AtlasDamaged(f"{path} cannot be read: {error}") from error


def _read(storage: Storage, path: str, size: int, table: Table, columns: Sequence[str]) -> pa.Table:
    end = max(0, size - FOOTER)
    held = {end: storage.slice(path, end, size - end)}
    needed = int.from_bytes(held[end][-8:-4], "little") + 8
    if needed > size - end:
        held = {size - needed: storage.slice(path, size - needed, needed)}
    about = pq.read_metadata(_Ranges(size, held))
    names = list(columns) or [column.name for column in table.columns]
    leaves = tuple(f"{name}.path" if name in table.images else name for name in names)
    wanted = [
        (chunk.dictionary_page_offset or chunk.data_page_offset, chunk.total_compressed_size)
        for group in range(about.num_row_groups)
        for chunk in map(about.row_group(group).column, range(about.num_columns))
        if chunk.path_in_schema in leaves or chunk.path_in_schema.startswith(tuple(f"{leaf}." for leaf in leaves))
    ]
    for start, stop in _joined([(start, start + length) for start, length in wanted]):
        held[start] = storage.slice(path, start, stop - start)
    # a reader of its own, and one thread: a pq.ParquetFile that threads share brings the process down
    with pq.ParquetFile(_Ranges(size, held), metadata=about) as file:
        rows = file.read(list(leaves), use_threads=False)
    for name in set(table.images) & set(names):
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, name, pc.struct_field(rows[name], "path"))
    return rows.select(names)


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges, sorted, those joined that lie close together."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if joined and start - joined[-1][1] <= GAP:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


class _Ranges(io.RawIOBase):
    """A file of `size` bytes of which some ranges are held; others are not asked for."""

    def __init__(self, size: int, held: dict[int, bytes]):
        self._size, self._held, self._at = size, held, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._at + size, self._size)
        for start, content in self._held.items():
            if start <= self._at and stop <= start + len(content):
                found = content[self._at - start : stop - start]
                self._at = stop
                return found
        raise OSError(f"bytes {self._at} to {stop} were not fetched")
