"""Parquet read by ranges: of a file in an atlas, the columns that are no images, and no other bytes."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from microscope_atlas.atlas.storage import Storage
from microscope_atlas.atlas.tables import Table
from microscope_atlas.errors import AtlasDamaged


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
    names = list(columns) or [column.name for column in table.columns]
    leaves = [f"{name}.path" if name in table.images else name for name in names]
    # a reader of its own, and one thread: a pq.ParquetFile that threads share brings the process down, and so does
    # asking the footer of a damaged file where its columns lie (pyarrow 26); reading them raises an error
    far = not storage.near  # where ranges that lie close together are asked for as one
    with _opened(storage, path, size) as source, pq.ParquetFile(source, pre_buffer=far) as file:
        rows = file.read(leaves, use_threads=False)
    for name in set(table.images) & set(names):
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, name, pc.struct_field(rows[name], "path"))
    return rows.select(names)


@contextmanager
def _opened(storage: Storage, path: str, size: int) -> Iterator[pa.NativeFile]:
    """The file, whose bytes are read as they are asked for; OSError where it has another length."""
    if not storage.near:
        yield pa.PythonFile(_Ranges(storage, path, size), mode="r")
        return
    with storage.local_copy(path) as near, pa.OSFile(str(near)) as file:  # no memory map, see Folder.slice
        if file.size() != size:
            raise OSError(f"it has {file.size():,} bytes, not {size:,}")
        yield file


class _Ranges(io.RawIOBase):
    """A file of `size` bytes far away, of which each range is fetched that is not within one that was."""

    def __init__(self, storage: Storage, path: str, size: int):
        self._storage, self._path, self._size, self._at = storage, path, size, 0
        self._held: dict[int, bytes] = {}

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
        start = self._at
        stop = self._size if size is None or size < 0 else min(start + size, self._size)
        for first, content in self._held.items():
            if first <= start and stop <= first + len(content):
                break
        else:
            first, content = start, self._storage.slice(self._path, start, stop - start)
            if len(content) != stop - start:
                raise OSError(f"of its bytes {start} to {stop} came {len(content)}")
            self._held[first] = content
        self._at = stop
        return content[start - first : stop - first]
