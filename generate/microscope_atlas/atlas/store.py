"""The atlas on disk: shards written whole or not at all, the manifest that vouches for them, and reading both back.

An atlas is a folder, or storage with a URL. `atlas.json`, the manifest, holds the settings, what was planned, and of
every finished shard its place, content id and sha256. A shard counts once the manifest names it.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.bucket import Bucket
from microscope_atlas.atlas.organisms import organisms
from microscope_atlas.atlas.tables import Table
from microscope_atlas.atlas.units import Input, UnitRange, content_id, inputs, union
from microscope_atlas.errors import AtlasBusy, AtlasDamaged, AtlasUnwritable
from microscope_atlas.keys import LAYER, MODEL

ROWS_PER_GROUP = 1000
OWN_METADATA = b"microscope-atlas"  # key in a shard's footer
UNFINISHED = ".part"  # suffix of a file that is being written; the next run removes what a killed one left

FULL = {errno.ENOSPC, errno.EDQUOT}
# Refusals that whatever is written next would meet too
REFUSALS = FULL | {errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}

Root = Path | Bucket  # where an atlas is

T = TypeVar("T", UnitRange, "Shard", "Index")


@dataclass(frozen=True)
class Shard:
    """A finished shard, as the manifest has it."""

    units: UnitRange
    id: str  # of its content, from the plan
    sha256: str  # of the file
    bytes: int
    rows: int

    @property
    def path(self) -> str:
        return self.units.path


@dataclass(frozen=True)
class Index:
    """The index of a model's images, as the manifest has it."""

    sha256: str  # of the file
    bytes: int
    rows: int
    of: str  # names the shards that it is of


@dataclass
class Manifest:
    """What an atlas holds and how it was made."""

    schema: str = schema.SCHEMA_VERSION
    software: str = ""  # of the last run that wrote to it
    models: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> weights' sha256 and provenance
    lenses: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> recipe
    planned: list[UnitRange] = field(default_factory=list)
    shards: dict[str, Shard] = field(default_factory=dict)  # by path
    indexes: dict[str, Index] = field(default_factory=dict)  # by model
    cover: str | None = None  # sha256 of the card's picture

    def expects(self, shard: Shard) -> bool:
        """Whether a shard's content is what these settings make."""
        recipe, model = self.lenses.get(shard.units.lens), self.models.get(shard.units.model)
        if recipe is None or model is None:
            return False
        return shard.id == content_id(shard.units, recipe, model["weights_sha256"], self.inputs(shard.units))

    def inputs(self, units: UnitRange) -> tuple[Input, ...]:
        """The shards that rows about `units` are made from; none where their lens looks at the network."""
        return inputs(units, (Input(shard.units, shard.id) for shard in self.shards.values()))

    def depth(self, model: str, layer: str) -> int:
        """Where a layer stands in its network, 0 next to the picture; behind all others where nobody says."""
        known = organisms().get(model)
        layers: list[str] = self.models.get(model, {}).get("layers") or (list(known.layers) if known else [])
        return layers.index(layer) if layer in layers else len(layers)

    def to_json(self) -> str:
        plain = {
            **{name: getattr(self, name) for name in ("schema", "software", "models", "lenses")},
            "planned": [asdict(run) for run in union(self.planned)],
            "shards": [asdict(self.shards[path]) for path in sorted(self.shards)],
            "cover": self.cover,
            "indexes": {model: asdict(index) for model, index in self.indexes.items()},
        }
        return json.dumps(plain, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        plain = json.loads(text)
        json.dumps(plain, ensure_ascii=False).encode()  # a ValueError for half characters, which nobody could print
        if plain["schema"] != schema.SCHEMA_VERSION:
            raise AtlasDamaged(
                f"has schema {plain['schema']!r}, this version reads {schema.SCHEMA_VERSION!r}; "
                "use the version of microscope-atlas that its rows name"
            )
        for name, model in plain["models"].items():
            origin = model["provenance"]
            if not all(isinstance(of, str) for of in (model["weights_sha256"], origin["source"], origin["license"])):
                raise ValueError(f"{name} lacks its provenance")
            if not all(isinstance(layer, str) for layer in model.get("layers", ())):
                raise ValueError(f"the layers of {name} have no names")
        for name in (*plain["models"], *plain["indexes"]):
            if not MODEL.fullmatch(name):  # it becomes part of paths
                raise ValueError(f"{name!r} is no model's name")
        for name, recipe in plain["lenses"].items():
            if not (LAYER.fullmatch(name) and isinstance(recipe, dict)):
                raise ValueError(f"{name!r} has no recipe")
        if not isinstance(plain["software"], str) or not isinstance(plain["cover"], str | None):
            raise TypeError("software and cover are to be text")
        shards = [_typed(Shard, {**shard, "units": _typed(UnitRange, shard["units"])}) for shard in plain["shards"]]
        return cls(
            **{name: plain[name] for name in ("schema", "software", "models", "lenses")},
            planned=[_typed(UnitRange, run) for run in plain["planned"]],
            shards={shard.path: shard for shard in shards},
            cover=plain["cover"],
            indexes={model: _typed(Index, index) for model, index in plain["indexes"].items()},
        )


def manifest_or_new(root: Root) -> Manifest:
    """The manifest of the atlas at `root`, or that of an empty one where there is nothing yet.

    AtlasDamaged where there are shards without a manifest: nobody could say which settings they were made with.
    """
    if size(root, schema.MANIFEST) is not None:
        return read_manifest(root)
    if shard_files(root):
        raise AtlasDamaged(f"{root} holds shards but no {schema.MANIFEST}; put it back, or render into another folder")
    return Manifest()


def read_manifest(root: Root) -> Manifest:
    """The manifest of the atlas at `root`; AtlasDamaged where there is none or it cannot be read."""
    path = f"{root}/{schema.MANIFEST}"
    try:
        with holding(root, schema.MANIFEST) as folder:
            return Manifest.from_json((folder / schema.MANIFEST).read_text())
    except FileNotFoundError as error:
        raise AtlasDamaged(f"{root} holds no atlas (no {path}); microscope-atlas render {root} makes one") from error
    except AtlasDamaged as error:
        raise AtlasDamaged(f"{path} {error}") from error
    # RecursionError: lists in lists in lists
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AtlasDamaged(
            f"{path} is not a manifest: {error!r}; put it back, or render into another folder"
        ) from error


def write_manifest(root: Root, manifest: Manifest) -> None:
    write_text(root, schema.MANIFEST, manifest.to_json())


@contextmanager
def writing(root: Root) -> Iterator[None]:
    """Hold the atlas for writing; AtlasBusy where another run does. Removes what a killed run left unfinished."""
    if isinstance(root, Bucket):
        with root.writing():
            yield
        return
    try:
        with _refusals(root):
            root.mkdir(parents=True, exist_ok=True)
            held = FileLock(root / ".lock").acquire(timeout=0)
    except Timeout as error:
        raise AtlasBusy(f"another run is writing {root}; wait for it, or render into another folder") from error
    with held:
        remove_unfinished(root)
        yield


def remove_unfinished(root: Root) -> None:
    """Remove what was not finished, by a run or a worker that was killed; only for who holds the atlas."""
    if isinstance(root, Bucket):
        return  # where nothing is there before it is finished
    with _refusals(root):
        for left in root.rglob(f"*{UNFINISHED}"):
            left.unlink(missing_ok=True)


def write_shard(root: Root, units: UnitRange, id: str, rows: Sequence[dict[str, Any]]) -> Shard:
    """Write rows as a shard: beside its place, verified, synced to disk, then renamed.

    The same rows give the same bytes.
    """
    table = schema.table(units.lens)
    stated = json.dumps({"units": asdict(units), "id": id}, sort_keys=True)
    sha256, size = _write(root, units.path, table, rows, {OWN_METADATA: stated.encode()})
    return Shard(units, id, sha256, size, len(rows))


def write_index(root: Root, model: str, rows: Sequence[dict[str, Any]], of: str) -> Index:
    """Write where a model's images lie, as a shard is written."""
    sha256, size = _write(root, schema.index_path(model), schema.INDEX, rows, {})
    return Index(sha256, size, len(rows), of)


def _write(
    root: Root, path: str, table: Table, rows: Sequence[dict[str, Any]], stated: Mapping[bytes, bytes]
) -> tuple[str, int]:
    """Write rows as a Parquet file that states something of itself: its sha256 and length."""
    arrow = table.arrow.with_metadata({**(table.arrow.metadata or {}), **stated})
    content = pa.Table.from_pylist(sorted(rows, key=table.sort_key), schema=arrow)
    pixels = {f"{name}.bytes" for name in table.images}
    with placing(root, path) as beside:
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
        if not (back.equals(content) and back.schema.metadata == content.schema.metadata):
            raise AtlasDamaged(f"{beside} does not read back as it was written")
        return file_sha256(beside), beside.stat().st_size


def unnoted(root: Root, manifest: Manifest) -> Iterator[Shard]:
    """Whole shards in their place that the manifest does not name: a run was killed before it could note them."""
    for path in shard_files(root):
        if path in manifest.shards:
            continue
        with holding(root, path) as folder:
            file = folder / path
            try:
                content = read_shard(file)
                stated = json.loads(content.schema.metadata[OWN_METADATA])
                units = _typed(UnitRange, stated["units"])
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


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """AtlasDamaged where a Parquet file is not what was written."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: columns whose names are no text
        raise AtlasDamaged(f"{path} cannot be read: {error}; delete it and run render again") from error


def write_text(root: Root, path: str, text: str) -> None:
    """Write a small file whole or not at all."""
    write_bytes(root, path, text.encode())


def write_bytes(root: Root, path: str, content: bytes) -> None:
    """Write a small file whole or not at all."""
    with placing(root, path) as beside:
        beside.write_bytes(content)


def placing(root: Root, path: str) -> AbstractContextManager[Path]:
    """A name to write a file of the atlas under; when the context ends without an error it is in its place, whole."""
    return root.placing(path) if isinstance(root, Bucket) else _into_place(root / path)


def holding(root: Root, path: str) -> AbstractContextManager[Path]:
    """A folder that holds a file of the atlas at its path, within the context; the atlas itself where that is one."""
    return root.holding(path) if isinstance(root, Bucket) else nullcontext(root)


def size(root: Root, path: str) -> int | None:
    """Bytes of a file of the atlas; None where it is not there."""
    if isinstance(root, Bucket):
        return root.size(path)
    file = root / path
    return file.stat().st_size if file.is_file() else None


def sizes(root: Root) -> Mapping[str, int]:
    """Bytes of every Parquet file in the atlas, noted or not, by its path."""
    if isinstance(root, Bucket):
        return {path: size for path, size in root.files().items() if path.endswith(".parquet")}
    return {file.relative_to(root).as_posix(): file.stat().st_size for file in root.rglob("*.parquet")}


def remove(root: Root, path: str) -> None:
    """Remove a file of the atlas, if it is there."""
    if isinstance(root, Bucket):
        root.remove(path)
    else:
        (root / path).unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shard_files(root: Root) -> Iterable[str]:
    """Paths of all Parquet files in the atlas, noted or not, sorted."""
    return sorted(sizes(root))


def _typed(what: type[T], plain: Mapping[str, Any]) -> T:
    """The dataclass from what JSON held; TypeError where a field is missing or of another type."""
    made = what(**plain)
    for known in fields(made):
        if type(getattr(made, known.name)) is not known.type:
            raise TypeError(f"{known.name} is {getattr(made, known.name)!r}")
    return made


@contextmanager
def _into_place(path: Path) -> Iterator[Path]:
    """A name beside `path` to write a file under; then it is synced to disk and renamed: the moment it exists.

    Where that fails nothing is left of it, so that a full disk has room for the manifest.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    with _refusals(path):
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield beside
            with beside.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """AtlasUnwritable where the disk refuses what is done here, and would refuse the next shard, too."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        room = ""
        if error.errno in FULL:
            disk = shutil.disk_usage(next(folder for folder in path.parents if folder.is_dir()))
            room = f" ({disk.free:,} of {disk.total:,} bytes are free)"
        raise AtlasUnwritable(f"{path} cannot be written: {os.strerror(error.errno)}{room}") from error
