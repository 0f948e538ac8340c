"""An atlas, as the pages need it: read lazily, a few shards and slices at a time, by many threads at once."""

import logging
import time
from collections.abc import Sequence
from functools import cache, cached_property, lru_cache
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from microscope_atlas.atlas import ranges, releases, schema
from microscope_atlas.atlas.dictionaries import Attached, stated
from microscope_atlas.atlas.images import Images, is_current
from microscope_atlas.atlas.kept import Kept
from microscope_atlas.atlas.manifest import Manifest, Shard, read_manifest
from microscope_atlas.atlas.organisms import Known, organisms
from microscope_atlas.atlas.storage import Storage
from microscope_atlas.atlas.tables import Table
from microscope_atlas.errors import AtlasError, WrongLevel, unknown
from microscope_atlas.keys import Key

TABLE_BYTES = 64 << 20  # of shards that were read and are kept, without their images
LOOK_SECONDS = 1.0  # between two looks whether the manifest has changed
SOME_BYTES = 8 << 20  # of single columns of tables, of a network or of a layer
MODELS = 16  # whose indexes are kept
THUMBNAILS = 64  # layers whose thumbnails' names are kept

log = logging.getLogger(__name__)


class Atlas:
    """What pages are made from."""

    def __init__(self, storage: Storage):
        """AtlasDamaged where there is no atlas."""
        self.storage = storage
        self._stamp = storage.stamp(schema.MANIFEST)  # before it is read, so that no change is missed
        self._newest = _Newest(self)
        self.manifest: Manifest = read_manifest(storage)
        self._kind = cache(self.manifest.table)
        self._shard = Kept(self._read, lambda rows: rows.nbytes, TABLE_BYTES)
        self._some = Kept(self._read_some, lambda rows: rows.nbytes, SOME_BYTES)
        self._thumbnails = lru_cache(THUMBNAILS)(self._read_thumbnails)
        self._first_labels = lru_cache(THUMBNAILS)(self._read_first_labels)

    def latest(self) -> "Atlas":
        """The atlas as it is now: this one, or one that reads all anew where the manifest has changed since.

        While a run goes on, what was there before it is shown: of what it makes there is no index yet.
        """
        return self._newest.look()

    def seen(self) -> "Atlas | None":
        """The same, without a look; None where it is time for one."""
        return self._newest.seen()

    @cached_property
    def release(self) -> releases.Release | None:
        """The version that it was published as."""
        found = releases.read(self.storage)
        return found[-1] if found and found[-1].manifest == self.identity else None

    @cached_property
    def identity(self) -> str:
        """sha256 of the manifest, and so of every shard."""
        return releases.identity(self.manifest)

    @property
    def version(self) -> str:
        """The same in brief, for links to what never changes."""
        return self.identity[:12]

    @cached_property
    def commit(self) -> str | None:
        """On the Hub; None of a folder."""
        return self.storage.commit

    @cached_property
    def revision(self) -> str:
        """What every page says it shows."""
        if self.release:
            commit = f", commit {self.commit[:7]}" if self.commit else ""
            return f"{self.release.repo} {self.release.tag}{commit}"
        if self.commit:
            return f"{self.storage.name}, commit {self.commit[:7]}"
        return f"not published, manifest {self.version}"

    @cached_property
    def called(self) -> str:
        """Its name as strangers may read it: of a folder on this machine the last part, of one on the Hub all of it."""
        return self.storage.name if self.commit else self.storage.name.rstrip("/").rpartition("/")[2]

    @cached_property
    def pin(self) -> str:
        """The revision in a link: the tag, the commit, or a hash of what there is."""
        return self.release.tag if self.release else self.commit or self.version

    @cached_property
    def models(self) -> list[str]:
        """The names of those that have rows, oldest network first."""
        known = organisms()
        return sorted(self._layers, key=lambda name: ((known[name].year or 0) if name in known else 9999, name))

    def organism(self, model: str) -> Known | None:
        """What the catalog knows of a model; None of a library's or a user's own."""
        return organisms().get(model)

    def dictionary(self, model: str, layer: str) -> Attached | None:
        """The dictionary that makes a layer's units; None of a network's own."""
        return stated(self.manifest.models.get(model, {})).get(layer)

    @cached_property
    def outside(self) -> dict[str, Table]:
        """The tables of lenses from outside, by name."""
        return {name: self.manifest.table(name) for name in sorted(self.manifest.tables)}

    @cached_property
    def num_rows(self) -> int:
        """Of all tables."""
        return sum(shard.rows for shard in self.manifest.shards.values())

    @cached_property
    def every_software(self) -> tuple[str, ...]:
        """What made its rows, each once."""
        return self.manifest.every_software

    def layers(self, model: str) -> dict[str, int]:
        """The layers of a model that have rows, from input to logits, and how many units each has."""
        if model not in self._layers:
            raise unknown("model", model, "this atlas", self.models)
        return self._layers[model]

    def files_about(self, key: Key) -> list[str]:
        """The shards that hold rows about a unit, sorted."""
        assert key.layer is not None
        return sorted(
            shard.path for table in self._tables for shard in self._shards(table, key.model, key.layer, key.unit)
        )

    def num_units(self, model: str, layer: str) -> int:
        """Of a layer; UnknownName where the atlas has no such layer."""
        layers = self.layers(model)
        if layer not in layers:
            raise unknown("layer", layer, f"this atlas' {model}", layers)
        return layers[layer]

    def units(self, model: str, columns: tuple[str, ...], layer: str | None = None) -> pa.Table:
        """Some columns of `units` of a model, or of one of its layers."""
        return self._some(schema.UNITS.name, model, layer, columns)

    def some(self, table: str, model: str, layer: str, columns: tuple[str, ...]) -> pa.Table:
        """Some columns of a table of a layer, of which alone bytes are read; no row where it has none.

        A column that came after the rows is null.
        """
        return self._some(table, model, layer, columns)

    def table(self, table: str, model: str, layer: str, unit: int | None = None) -> pa.Table:
        """The rows of a layer, or of one unit, in a table; for an image there stands its file name.

        WrongLevel where the table is about layers and a unit is asked for.
        """
        if unit is not None and self._kind(table).level == "layer":
            raise WrongLevel(f"{table} is about layers; {model}/{layer}/{unit} is a unit, ask for {model}/{layer}")
        found = [self._shard(shard.path) for shard in self._shards(table, model, layer, unit)]
        rows = pa.concat_tables(found) if found else self._kind(table).arrow.empty_table()
        return rows.filter(pc.equal(rows["unit"], unit)) if unit is not None and found else rows

    def rows(self, table: str, model: str, layer: str, unit: int | None = None) -> list[dict[str, Any]]:
        """The same as dictionaries; none where the atlas has no such rows."""
        rows: list[dict[str, Any]] = self.table(table, model, layer, unit).to_pylist()
        return rows

    def shard(self, path: str) -> pa.Table:
        """The rows of a file that the manifest names; for an image there stands its file name."""
        return self._shard(path)

    def thumbnails(self, model: str, layer: str) -> dict[int, str]:
        """File names of the thumbnails of a layer, by unit; of those that have one, and can be read."""
        try:
            return self._thumbnails(model, layer)
        except AtlasError as error:  # a page does without these small pictures
            log.warning("thumbnails of %s/%s: %s", model, layer, error)
            return {}

    def units_there(self, model: str, layer: str) -> list[int]:
        """The units of a layer that some table has rows of, in their order."""
        of_units = [name for name, table in self.manifest.every_table.items() if table.level == "unit"]
        shards = [shard for name in of_units for shard in self._of.get((name, model, layer), ())]
        return sorted({unit for shard in shards for unit in range(shard.units.start, shard.units.stop)})

    def first_labels(self, model: str, layer: str) -> dict[int, dict[str, Any]]:
        """Of the units of a layer that have a label the first, with who says so; none where these cannot be read."""
        try:
            return self._first_labels(model, layer)
        except AtlasError as error:  # a page does without them
            log.warning("labels of %s/%s: %s", model, layer, error)
            return {}

    def image(self, table: str, model: str, name: str, column: str = "image") -> bytes:
        """An encoded image, by its file name; UnknownName where there is none, AtlasDamaged where it cannot be read."""
        index = self.manifest.indexes.get(model)
        if index is None:
            raise unknown("model", model, "this atlas", self.manifest.indexes)
        return self._newest.images(model, index.sha256).read(table, name, column)

    def is_open(self, model: str) -> bool:
        """Whether the index of a model's images was read already, and is still kept."""
        index = self.manifest.indexes.get(model)
        return index is not None and (model, index.sha256) in self._newest.images

    def _shards(self, table: str, model: str, layer: str | None, unit: int | None = None) -> Sequence[Shard]:
        layers = self._layers.get(model, ()) if layer is None else (layer,)
        return [
            shard
            for each in layers
            for name in self._named(table)
            for shard in self._of.get((name, model, each), ())
            if unit is None or shard.units.start <= unit < shard.units.stop
        ]

    def _named(self, table: str) -> Sequence[str]:
        """The tables that a name means: of a config that several are together, all of these."""
        return self.manifest.of_config(table) if table == schema.LABELS.name else (table,)

    @cached_property
    def _of(self) -> dict[tuple[str, str, str], list[Shard]]:
        """The shards of each table, model and layer, in the order of their units."""
        found: dict[tuple[str, str, str], list[Shard]] = {}
        for _, shard in sorted(self.manifest.shards.items()):
            found.setdefault((shard.units.lens, shard.units.model, shard.units.layer), []).append(shard)
        return found

    @cached_property
    def _tables(self) -> set[str]:
        return {table for table, _, _ in self._of}

    @cached_property
    def _layers(self) -> dict[str, dict[str, int]]:
        """Of each model its layers from input to logits, and how many units each has.

        That is what the catalog says, or a dictionary. Of a network that nobody knows, as many as rows are about.
        """
        seen: dict[str, dict[str, int]] = {}
        for _, model, layer in self._of:
            known, dictionary = self.organism(model), self.dictionary(model, layer)
            there = dictionary or (known.layers.get(layer) if known else None)
            seen.setdefault(model, {})[layer] = there.units if there else 0
        for shard in self.manifest.shards.values():
            layers = seen[shard.units.model]
            layers[shard.units.layer] = max(layers[shard.units.layer], shard.units.stop)
        depth = self.manifest.depth
        return {
            model: {name: layers[name] for name in sorted(layers, key=lambda name: (depth(model, name), name))}
            for model, layers in seen.items()
        }

    def _read_thumbnails(self, model: str, layer: str) -> dict[int, str]:
        rows = self.table("units", model, layer).select(["unit", "thumbnail"]).drop_null()
        return dict(zip(rows["unit"].to_pylist(), rows["thumbnail"].to_pylist(), strict=True))

    def _read_first_labels(self, model: str, layer: str) -> dict[int, dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        for row in self.some(schema.LABELS.name, model, layer, ("unit", *schema.LEAST_SAID)).to_pylist():
            found.setdefault(row["unit"], row)
        return found

    def _read(self, path: str) -> pa.Table:
        shard = self.manifest.shards[path]
        return ranges.read(self.storage, path, shard.bytes, self._kind(shard.units.lens))

    def _read_some(self, table: str, model: str, layer: str | None, columns: tuple[str, ...]) -> pa.Table:
        kind = self._kind(table)  # which may lack columns that came after its rows
        known = [column.name for column in kind.columns]
        there = [name for name in columns if name in known] or known[:1]
        found = [
            ranges.read(self.storage, shard.path, shard.bytes, kind, there)
            for shard in self._shards(table, model, layer)
        ]
        rows = pa.concat_tables(found) if found else kind.arrow.empty_table().select(there)
        for name in columns:
            if name not in known:
                field = schema.table(table).arrow.field(name)
                rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
        return rows.select(list(columns))


class _Newest:
    """The newest whole state of an atlas that pages have seen; shared by all that read it."""

    def __init__(self, first: Atlas):
        self._atlas, self._seen, self._looked = first, first._stamp, time.monotonic()
        self._lock = Lock()
        # of so many models' images, by the sha256 of their index: a state whose index is the same goes on with it
        self.images = Kept(self._read_index, lambda _: 1, MODELS)

    def _read_index(self, model: str, sha256: str) -> Images:
        return Images(self._atlas.storage, model, self._atlas.manifest.shards)

    def seen(self) -> Atlas | None:
        return self._atlas if time.monotonic() - self._looked < LOOK_SECONDS else None

    def look(self) -> Atlas:
        with self._lock:
            if time.monotonic() - self._looked < LOOK_SECONDS:
                return self._atlas
            self._looked = time.monotonic()
            try:
                if (stamp := self._atlas.storage.stamp(schema.MANIFEST)) != self._seen:
                    there = Atlas(self._atlas.storage)
                    if all(is_current(there.storage, there.manifest, model) for model in there.models):
                        there._newest, self._atlas, self._seen = self, there, stamp
            except AtlasError as error:  # what is there now cannot be read: what was there before still can, in part
                log.warning("not looked at anew: %s", error)
            return self._atlas
