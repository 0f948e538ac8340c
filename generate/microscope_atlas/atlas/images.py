"""The index: where in an atlas' files each image's bytes lie.

Image bytes are stored uncompressed and plain, so each is one slice of its Parquet file. Reading it by offset takes
microseconds from a folder and one range request of its own size from the Hub; reading it through Parquet takes a whole
row group. One file a model; made anew when the model's shards have changed.
"""

import hashlib
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from microscope_atlas.atlas import schema, shards
from microscope_atlas.atlas.manifest import Manifest, Shard
from microscope_atlas.atlas.schema import INDEX
from microscope_atlas.atlas.storage import Storage, WritableStorage
from microscope_atlas.atlas.tables import Table
from microscope_atlas.errors import AtlasDamaged, unknown

MAX_BYTES = 1 << 28  # of an image; the largest sheets have 20 MB


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


def slices(path: Path, images: Sequence[str]) -> Iterator[tuple[int, str, int, int]]:
    """Row, column, offset and length of every image in a Parquet file; AtlasDamaged where its bytes lie in no slice."""
    with (
        path.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content,
        pq.ParquetFile(path) as file,
    ):
        first = 0
        for group in range(file.num_row_groups):
            about = file.metadata.row_group(group)
            chunks = {about.column(i).path_in_schema: about.column(i) for i in range(about.num_columns)}
            for name in images:
                at = chunks[f"{name}.bytes"].data_page_offset
                column = file.read_row_group(group, columns=[f"{name}.bytes"])[name].combine_chunks()
                for row, value in enumerate(column.field("bytes")):
                    encoded = value.as_py()
                    if encoded is None:
                        continue
                    # PLAIN: its length in four bytes, then the bytes themselves
                    found = content.find(len(encoded).to_bytes(4, "little") + encoded, at)
                    if found < 0:
                        raise AtlasDamaged(f"{path}: the {name} of row {first + row} is not one slice of the file")
                    at = found + 4 + len(encoded)
                    yield first + row, name, found + 4, len(encoded)
            first += about.num_rows


def _read_rows(storage: Storage, manifest: Manifest, shard: Shard) -> list[dict[str, Any]]:
    with storage.local_copy(shard.path) as file:
        return rows(file, shard, manifest.table(shard.units.lens))


def rows(path: Path, shard: Shard, table: Table) -> list[dict[str, Any]]:
    """What the index says of one shard of a table, row by row."""
    if not table.images:
        return []
    with shards.reading(path):
        return _rows(path, table, shard)


def _rows(path: Path, table: Table, shard: Shard) -> list[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        paths = file.read(columns=[f"{column}.path" for column in table.images])
        names = {column: paths[column].combine_chunks().field("path") for column in table.images}
        has_units = any(column.name == "unit" for column in table.keys)
        units = file.read(columns=["unit"])["unit"].to_pylist() if has_units else [None] * shard.rows
    return [
        {
            "model": shard.units.model,
            "layer": shard.units.layer,
            "table": table.name,
            "file": shard.path,
            "row": row,
            "column": column,
            "unit": units[row],
            "name": names[column][row].as_py(),
            "offset": offset,
            "length": length,
            "file_sha256": shard.sha256,
        }
        for row, column, offset, length in slices(path, table.images)
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
    """The images of a model, each read alone: by one read of its own bytes, or one range request."""

    def __init__(self, storage: Storage, model: str):
        """AtlasDamaged where the atlas has no index of this model."""
        path = schema.index_path(model)
        if storage.size(path) is None:
            raise AtlasDamaged(f"{storage.name} has no index of {model} ({path}); running render again makes it")
        with storage.local_copy(path) as file:
            table = shards.read_shard(file)
        if not table.schema.equals(INDEX.arrow):
            raise AtlasDamaged(f"{storage.name}: {path} has other columns than an index; running render again makes it")
        names = zip(*(table[name].to_pylist() for name in ("table", "column", "name")), strict=True)
        places = zip(*(table[name].to_pylist() for name in ("file", "offset", "length")), strict=True)
        self._storage = storage
        self._slices = {name: Slice(*place) for name, place in zip(names, places, strict=True)}
        files = shards.parquet_files(storage)
        for place in self._slices.values():  # whoever made the index: it leads to the atlas' own files alone
            if place.file not in files or place.offset < 0 or not 0 <= place.length <= MAX_BYTES:
                raise AtlasDamaged(f"{storage.name}: {path} leads to {place}, which is no image of this atlas")

    def read(self, table: str, name: str, column: str = "image") -> bytes:
        """The encoded image of a row, by its file name; UnknownName with the nearest where there is none."""
        place = self._slices.get((table, column, name))
        if place is None:
            near = (there for kind, _, there in self._slices if kind == table)
            raise unknown("image", name, f"{table} of {self._storage.name}", near)
        return self._storage.slice(place.file, place.offset, place.length)
