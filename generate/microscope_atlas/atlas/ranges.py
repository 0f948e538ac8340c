"""Parquet read by ranges: of a file in an atlas, the columns that are no images, and no other bytes."""

import mmap
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
    # stands for the file: what of it is not read takes no memory
    whole = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    end = max(0, size - FOOTER)
    footer = _fetch(storage, path, whole, end, size)
    needed = int.from_bytes(footer[-8:-4], "little") + 8
    if needed > size - end:
        _fetch(storage, path, whole, size - needed, size)
    names = list(columns) or [column.name for column in table.columns]
    leaves = tuple(f"{name}.path" if name in table.images else name for name in names)
    # a reader of its own, and one thread: a pq.ParquetFile that threads share brings the process down
    with pq.ParquetFile(pa.py_buffer(whole)) as file:
        about = file.metadata
        wanted = [
            (chunk.dictionary_page_offset or chunk.data_page_offset, chunk.total_compressed_size)
            for group in range(about.num_row_groups)
            for chunk in map(about.row_group(group).column, range(about.num_columns))
            if chunk.path_in_schema in leaves or chunk.path_in_schema.startswith(tuple(f"{leaf}." for leaf in leaves))
        ]
        for start, stop in _joined([(start, start + length) for start, length in wanted]):
            _fetch(storage, path, whole, start, stop)
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


def _fetch(storage: Storage, path: str, whole: mmap.mmap, start: int, stop: int) -> bytes:
    """Read some bytes of the file to their place in what stands for it; OSError where there is no such place."""
    if not 0 <= start <= stop <= len(whole):
        raise OSError(f"it has no bytes {start} to {stop}")
    content = storage.slice(path, start, stop - start)
    whole[start : start + len(content)] = content
    return content
