"""An atlas, as the pages need it: read lazily, a few shards and slices at a time, by many threads at once."""

import logging
import time
from collections.abc import Sequence
from functools import cached_property, lru_cache
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from microscope_atlas.atlas import ranges, releases, schema
from microscope_atlas.atlas.dictionaries import Attached, stated
from microscope_atlas.atlas.images import Images, is_current
from microscope_atlas.atlas.manifest import Manifest, Shard, read_manifest
from microscope_atlas.atlas.organisms import Known, organisms
from microscope_atlas.atlas.storage import Storage
from microscope_atlas.atlas.tables import Table
from microscope_atlas.errors import AtlasError, WrongLevel, unknown

SHARDS = 512  # read ones that are kept, without their images: some 100 KB each
LOOK_SECONDS = 1.0  # between two looks whether the manifest has changed
MODELS = 16  # whose indexes and units are kept

log = logging.getLogger(__name__)


class Atlas:
    """What pages are made from."""

    def __init__(self, storage: Storage):
        """AtlasDamaged where there is no atlas."""
        self.storage = storage
        self._stamp = storage.stamp(schema.MANIFEST)  # before it is read, so that no change is missed
        self._newest = _Newest(self)
        self.manifest: Manifest = read_manifest(storage)
        self._opening = Lock()
        self._shard = lru_cache(SHARDS)(self._read)
        self._images = lru_cache(MODELS)(lambda model: Images(storage, model))
        self._units = lru_cache(MODELS)(self._some_of_units)

    def latest(self) -> "Atlas":
        """The atlas as it is now: this one, or one that reads all anew where the manifest has changed since.

        While a run goes on, what was there before it is shown: of what it makes there is no index yet.
        """
        return self._newest.look()

    @cached_property
    def release(self) -> releases.Release | None:
        """The version that it was published as."""
        return releases.current(releases.read(self.storage), self.manifest)

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
        return f"not published, manifest {releases.identity(self.manifest)[:12]}"

    @cached_property
    def pin(self) -> str:
        """The revision in a link: the tag, the commit, or a hash of what there is."""
        return self.release.tag if self.release else self.commit or releases.identity(self.manifest)[:12]

    @cached_property
    def models(self) -> list[str]:
        """The names of those that have rows, oldest network first."""
        known, there = organisms(), {shard.units.model for shard in self.manifest.shards.values()}
        return sorted(there, key=lambda name: ((known[name].year or 0) if name in known else 9999, name))

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

    @lru_cache(MODELS)  # noqa: B019 - there is one atlas a process
    def layers(self, model: str) -> dict[str, int]:
        """The layers of a model that have rows, from input to logits, and how many units each has."""
        if model not in self.models:
            raise unknown("model", model, "this atlas", self.models)
        seen: dict[str, int] = {}
        for shard in self.manifest.shards.values():
            if shard.units.model == model:
                seen[shard.units.layer] = max(seen.get(shard.units.layer, 0), shard.units.stop)
        return {name: seen[name] for name in sorted(seen, key=lambda name: (self.manifest.depth(model, name), name))}

    def num_units(self, model: str, layer: str) -> int:
        """Of a layer; UnknownName where the atlas has no such layer."""
        layers = self.layers(model)
        if layer not in layers:
            raise unknown("layer", layer, f"this atlas' {model}", layers)
        return layers[layer]

    def units(self, model: str, columns: tuple[str, ...], layer: str | None = None) -> pa.Table:
        """Some columns of `units` of a model, or of one of its layers, of which alone bytes are read."""
        return self._units(model, columns, layer)

    def table(self, table: str, model: str, layer: str, unit: int | None = None) -> pa.Table:
        """The rows of a layer, or of one unit, in a table; for an image there stands its file name.

        WrongLevel where the table is about layers and a unit is asked for.
        """
        if unit is not None and self.manifest.table(table).level == "layer":
            raise WrongLevel(f"{table} is about layers; {model}/{layer}/{unit} is a unit, ask for {model}/{layer}")
        found = [self._shard(shard.path) for shard in self._shards(table, model, layer, unit)]
        rows = pa.concat_tables(found) if found else self.manifest.table(table).arrow.empty_table()
        return rows.filter(pc.equal(rows["unit"], unit)) if unit is not None and found else rows

    def rows(self, table: str, model: str, layer: str, unit: int | None = None) -> list[dict[str, Any]]:
        """The same as dictionaries; none where the atlas has no such rows."""
        rows: list[dict[str, Any]] = self.table(table, model, layer, unit).to_pylist()
        return rows

    def shard(self, path: str) -> pa.Table:
        """The rows of a file that the manifest names; for an image there stands its file name."""
        return self._shard(path)

    def thumbnails(self, model: str, layer: str) -> dict[int, str]:
        """File names of the thumbnails of a layer, by unit; of those that have one."""
        rows = self.table("units", model, layer).select(["unit", "thumbnail"]).drop_null()
        return dict(zip(rows["unit"].to_pylist(), rows["thumbnail"].to_pylist(), strict=True))

    def image(self, table: str, model: str, name: str, column: str = "image") -> bytes:
        """An encoded image, by its file name; UnknownName with the nearest where there is none."""
        if model not in self.manifest.indexes:
            raise unknown("model", model, "this atlas", self.manifest.indexes)
        with self._opening:  # or two threads would read one index
            images = self._images(model)
        return images.read(table, name, column)

    def _shards(self, table: str, model: str, layer: str | None, unit: int | None = None) -> Sequence[Shard]:
        return [
            shard
            for shard in self._of.get((table, model), ())
            if layer in (None, shard.units.layer) and (unit is None or shard.units.start <= unit < shard.units.stop)
        ]

    @cached_property
    def _of(self) -> dict[tuple[str, str], list[Shard]]:
        found: dict[tuple[str, str], list[Shard]] = {}
        for _, shard in sorted(self.manifest.shards.items()):
            found.setdefault((shard.units.lens, shard.units.model), []).append(shard)
        return found

    def _read(self, path: str) -> pa.Table:
        shard = self.manifest.shards[path]
        return ranges.read(self.storage, path, shard.bytes, self.manifest.table(shard.units.lens))

    def _some_of_units(self, model: str, columns: tuple[str, ...], layer: str | None) -> pa.Table:
        found = [
            ranges.read(self.storage, shard.path, shard.bytes, schema.UNITS, columns)
            for shard in self._shards("units", model, layer)
        ]
        return pa.concat_tables(found) if found else schema.UNITS.arrow.empty_table().select(columns)


class _Newest:
    """The newest whole state of an atlas that pages have seen; shared by all that read it."""

    def __init__(self, first: Atlas):
        self._atlas, self._seen, self._looked = first, first._stamp, time.monotonic()
        self._lock = Lock()

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
