"""The index: where in an atlas' files each image's bytes lie.

Image bytes are stored uncompressed and plain, so each is one slice of its Parquet file. Reading it by offset takes
microseconds from a folder and one range request of its own size from the Hub; reading it through Parquet takes a whole
row group. One file a model; made anew when the model's shards have changed.
"""

import hashlib
import mmap
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO
from weakref import finalize

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from microscope_atlas.atlas import schema, shards
from microscope_atlas.atlas.manifest import Manifest, Shard
from microscope_atlas.atlas.schema import INDEX
from microscope_atlas.atlas.shards import Parsed
from microscope_atlas.atlas.storage import Storage, WritableStorage
from microscope_atlas.atlas.tables import Table
from microscope_atlas.errors import AtlasDamaged, AtlasUnwritable, unknown

MAX_BYTES = 1 << 28  # of an image; the largest sheets have 20 MB
NEAR = 1000  # names that the nearest is looked for in
BATCH = 1 << 13  # images that are read of an index at once
READ = ("table", "file", "column", "name", "offset", "length")  # of an index
# where an image lies, by the hash of its table, column and name
PLACE = np.dtype([("hash", np.int64), ("file", np.int32), ("offset", np.int64), ("length", np.int32)])
Places = npt.NDArray[np.void]
BLOCK = 512  # places that are read together


def update(storage: WritableStorage, manifest: Manifest) -> None:
    """Bring the indexes of an atlas, and the manifest's word of them, to what its shards are now."""
    for model in manifest.models:
        own = shards_of(manifest, model)
        if own and not is_current(storage, manifest, model):
            known = _known(storage, model)
            entries = [row for shard in own for row in known.get(shard.sha256) or _read_rows(storage, manifest, shard)]
            manifest.indexes[model] = shards.write_index(storage, model, entries, fingerprint(own))


def is_current(storage: Storage, manifest: Manifest, model: str) -> bool:
    """Whether the index of a model is there and of the shards that are there."""
    there = manifest.indexes.get(model)
    return (
        there is not None
        and there.of == fingerprint(shards_of(manifest, model))
        and storage.size(schema.index_path(model)) == there.bytes
    )


def shards_of(manifest: Manifest, model: str) -> list[Shard]:
    """Of one model."""
    return [shard for shard in manifest.shards.values() if shard.units.model == model]


def fingerprint(shards: Sequence[Shard]) -> str:
    """A name for exactly these shards."""
    return hashlib.sha256("\n".join(sorted(f"{shard.path} {shard.sha256}" for shard in shards)).encode()).hexdigest()


def _slices(
    path: Path,
    images: Mapping[str, Iterable[Mapping[str, Any] | None]],
    whole: bytes | mmap.mmap,
    about: pq.FileMetaData,
) -> Iterator[tuple[int, str, str, int, int]]:
    """Row, column, name, offset and length of every image in a Parquet file; AtlasDamaged where one is no slice.

    `images` are the values of its columns that hold some, `whole` are all its bytes.
    """
    first = 0
    leaves = {name: next(i for i in count() if about.schema.column(i).path == f"{name}.bytes") for name in images}
    left = {column: iter(values) for column, values in images.items()}
    for group in map(about.row_group, range(about.num_row_groups)):
        for column, values in left.items():
            # of columns that were read: of damaged ones pyarrow 26 ends the process when it is asked where they lie
            at = group.column(leaves[column]).data_page_offset
            for row, image in enumerate(islice(values, group.num_rows), first):
                if image is None or (encoded := image["bytes"]) is None:
                    continue
                # PLAIN: its length in four bytes, then the bytes themselves
                found = whole.find(len(encoded).to_bytes(4, "little") + encoded, at)
                if found < 0:
                    raise AtlasDamaged(f"{path}: the {column} of row {row} is not one slice of the file")
                at = found + 4 + len(encoded)
                yield row, column, image["path"], found + 4, len(encoded)
        first += group.num_rows


def _read_rows(storage: Storage, manifest: Manifest, shard: Shard) -> list[dict[str, Any]]:
    with storage.local_copy(shard.path) as file:
        return rows(file, shard, manifest.table(shard.units.lens))


def rows(path: Path, shard: Shard, table: Table, parsed: Parsed | None = None) -> list[dict[str, Any]]:
    """What the index says of one shard of a table, row by row; `parsed` is what was read of it already."""
    if not table.images:
        return []
    keys = ["unit"] if any(column.name == "unit" for column in table.keys) else []
    with shards.reading(path):
        if parsed:
            images = {column: [row[column] for row in parsed.rows] for column in table.images}
            units = [row["unit"] if keys else None for row in parsed.rows]
            return _rows(table, shard, units, _slices(path, images, parsed.data, parsed.about))
        content = pq.read_table(path, columns=[*table.images, *keys], partitioning=None)
        with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            one_by_one = {column: (value.as_py() for value in content[column]) for column in table.images}
            units = content["unit"].to_pylist() if keys else [None] * content.num_rows
            return _rows(table, shard, units, _slices(path, one_by_one, whole, pq.read_metadata(path)))


def _rows(
    table: Table, shard: Shard, units: Sequence[int | None], slices: Iterable[tuple[int, str, str, int, int]]
) -> list[dict[str, Any]]:
    of = {"model": shard.units.model, "layer": shard.units.layer, "table": table.name, "file": shard.path}
    return [
        {
            **of,
            "row": row,
            "column": column,
            "unit": units[row],
            "name": name,
            "offset": offset,
            "length": length,
            "file_sha256": shard.sha256,
        }
        for row, column, name, offset, length in slices
    ]


def _known(storage: Storage, model: str) -> dict[str, list[dict[str, Any]]]:
    """What the index of a model says of each file it knows, by the file's sha256."""
    known: dict[str, list[dict[str, Any]]] = {}
    try:
        with storage.local_copy(schema.index_path(model)) as path:
            rows = pq.read_table(path, schema=INDEX.arrow).to_pylist()
    except (pa.ArrowException, OSError):
        return {}  # not there, or damaged: every shard is looked at again
    for row in rows:
        known.setdefault(row["file_sha256"], []).append(row)
    return known


@dataclass(frozen=True)
class Slice:
    """Where an image lies."""

    file: str  # within the atlas
    offset: int  # bytes
    length: int  # bytes


class Images:
    """The images of a model, each read alone: by one read of its own bytes, or one range request.

    Where each lies is in a temporary file, sorted by a hash of its name: in memory is one hash of `BLOCK`.
    """

    def __init__(self, storage: Storage, model: str, shards: Collection[str] = ()):
        """AtlasDamaged where the atlas has no index of this model, AtlasUnwritable where no temporary file can be had.

        The index may lead to the Parquet files that are there, and to `shards`, of which each may be lost: that costs
        its own images alone.
        """
        path = schema.index_path(model)
        if storage.size(path) is None:
            raise AtlasDamaged(f"{storage.name} has no index of {model} ({path}); running render again makes it")
        self._storage, self._path = storage, path
        places = self._read()
        self._refuse_elsewhere(places, shards)
        order = np.argsort(places["hash"], kind="stable")
        self._firsts, self._number = places["hash"][order[::BLOCK]], len(places)
        self._sorted = _written(places[order[first : first + BATCH]] for first in range(0, len(order), BATCH))
        finalize(self, self._sorted.close)

    def _read(self) -> Places:
        """Where each image lies, in the order of the index."""
        numbers: dict[str, int] = {}
        with _written(_places(batch, numbers) for batch in self._batches()) as unsorted:
            self._files = list(numbers)
            unsorted.seek(0)
            return np.fromfile(unsorted, PLACE)

    def __len__(self) -> int:
        return self._number

    def place(self, table: str, name: str, column: str = "image") -> Slice:
        """Where an image lies; UnknownName with the nearest where there is none."""
        wanted = hash((table, column, name))
        block = max(int(np.searchsorted(self._firsts, wanted)) - 1, 0)
        near = os.pread(self._sorted.fileno(), (BLOCK + 1) * PLACE.itemsize, block * BLOCK * PLACE.itemsize)
        places = np.frombuffer(near, PLACE)  # the first of the next block, too
        at = int(np.searchsorted(places["hash"], wanted))
        if at == len(places) or places["hash"][at] != wanted:
            raise unknown("image", name, f"this atlas' {table}", islice(self._names(table), NEAR))
        _, file, offset, length = places[at].item()
        return Slice(self._files[file], offset, length)

    def read(self, table: str, name: str, column: str = "image") -> bytes:
        """The encoded image of a row, by its file name; UnknownName with the nearest where there is none.

        AtlasDamaged where its file is not there, or ends before it.
        """
        place = self.place(table, name, column)
        try:
            content = self._storage.slice(place.file, place.offset, place.length)
        except OSError as error:
            raise AtlasDamaged(f"{place.file} cannot be read: {error.strerror or error}") from error
        if len(content) != place.length:
            raise AtlasDamaged(f"{place.file} is shorter than it was when its images were noted")
        return content

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            with (
                self._storage.local_copy(self._path) as file,
                shards.reading(file),
                pq.ParquetFile(file, page_checksum_verification=True) as parquet,
            ):
                if not parquet.schema_arrow.equals(INDEX.arrow):
                    raise AtlasDamaged(
                        f"{self._storage.name}: {self._path} has other columns than an index; "
                        "running render again makes it"
                    )
                for batch in parquet.iter_batches(BATCH, columns=list(READ)):
                    batch.validate(full=True)
                    yield batch
        except OSError as error:  # it is gone since
            raise AtlasDamaged(f"{self._storage.name}: {self._path} cannot be read: {error}") from error

    def _names(self, table: str) -> Iterator[str]:
        """Of the images of a table, to name the nearest: read again, as few are asked for that are not there."""
        for batch in self._batches():
            rows = zip(batch["table"].to_pylist(), batch["name"].to_pylist(), strict=True)
            yield from (name for kind, name in rows if kind == table)

    def _refuse_elsewhere(self, places: Places, noted: Collection[str]) -> None:
        """AtlasDamaged where the index, whoever made it, leads to anything but images of the atlas' own files."""
        there = shards.parquet_files(self._storage)
        own = np.array([file in there or file in noted for file in self._files], bool)
        offset, length = places["offset"], places["length"]
        wrong = ~own[places["file"]] | (offset < 0) | (length < 0) | (length > MAX_BYTES)
        if wrong.any():
            _, file, offset, length = places[int(wrong.argmax())].item()
            raise AtlasDamaged(
                f"{self._storage.name}: {self._path} leads to {Slice(self._files[file], offset, length)}, which is no "
                "image of this atlas"
            )


def _places(batch: pa.RecordBatch, numbers: dict[str, int]) -> Places:
    """Where the images of a part of an index lie; files that are new get the next `numbers`."""
    columns = {name: batch[name].to_pylist() for name in ("table", "column", "name", "file")}
    places = np.empty(batch.num_rows, PLACE)
    places["hash"] = [*map(hash, zip(columns["table"], columns["column"], columns["name"], strict=True))]
    places["file"] = [numbers.setdefault(file, len(numbers)) for file in columns["file"]]
    places["offset"], places["length"] = (batch[name].to_numpy() for name in ("offset", "length"))
    return places


def _written(parts: Iterable[Places]) -> BinaryIO:
    """A temporary file with these parts; AtlasUnwritable where none can be had. It has no name, so nobody cuts it."""
    try:
        file = TemporaryFile()  # noqa: SIM115 (whoever asked for it closes it)
        try:
            for part in parts:
                file.write(part.tobytes())
            file.flush()
        except BaseException:
            file.close()
            raise
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)  # no folder of this machine's
        raise AtlasUnwritable(f"where an atlas' images lie cannot be noted in a temporary file: {why}") from error
    return file
