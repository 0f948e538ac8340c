"""Labels from outside, taken into an atlas as a table of their own, `labels_NAME`, and taken back.

A file is known by its sha256, and is taken in once. Its rows are shards like any other: checked, published, cited.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from microscope_atlas.atlas import images, schema
from microscope_atlas.atlas.dictionaries import identity_of
from microscope_atlas.atlas.label_files import Label, LabelFile, Stated, read
from microscope_atlas.atlas.manifest import Manifest, read_manifest, write_manifest
from microscope_atlas.atlas.provenance import package
from microscope_atlas.atlas.shards import write_shard
from microscope_atlas.atlas.storage import Storage, WritableStorage
from microscope_atlas.atlas.units import UnitRange, content_id, missing, union
from microscope_atlas.errors import AtlasUnwritable, InvalidSetting, UnknownName, unknown
from microscope_atlas.keys import LAYER
from microscope_atlas.publish.card import save_card

PREFIX = f"{schema.LABELS.name}_"
DEVICE = "imported"  # of rows that were made elsewhere


@dataclass(frozen=True)
class Taken:
    """What a file of labels brought."""

    table: str  # `labels_NAME`
    labels: int
    units: int
    left_out: int  # rows about units that the atlas does not have


def take(storage: Storage, path: Path, stated: Stated, name: str | None = None, skip_absent: bool = False) -> Taken:
    """Take the labels of a file into an atlas as the table `labels_NAME`; NAME is that of the file unless given.

    Raises InvalidSetting for a file, or a row, that is none, and where it was taken in already; UnknownName for a unit
    that the atlas has no rows of; AtlasBusy while a run writes to it. Nothing is stored then.
    """
    writable = _writable(storage)
    read_manifest(writable)  # before a lock is made where there is no atlas
    with writable.lock():
        manifest = read_manifest(writable)
        file = read(path, manifest, stated, skip_absent)
        recipe = {"file": file.name, "file_sha256": file.sha256, "stated": _plain(stated)}
        table = _free(manifest, recipe, name)
        runs = _runs(manifest, file.labels)
        manifest.lenses[table] = recipe
        manifest.planned += [UnitRange(table, run.model, run.layer, run.start, run.stop) for run in runs]
        write_manifest(writable, manifest)  # before its shards, so that what a killed run leaves is told from others'
        rows = _labelled(manifest, table, file)
        for run in missing(manifest.planned, [shard.units for shard in manifest.shards.values()]):
            if run.lens == table:
                _write(writable, manifest, run, rows.get((run.model, run.layer), []))
        images.update(writable, manifest)
        write_manifest(writable, manifest)
        save_card(writable, manifest)
    return Taken(table, len(file.labels), len({label.key for label in file.labels}), file.left_out)


def take_back(storage: Storage, name: str) -> int:
    """Remove the table `labels_NAME` that was imported; returns how many labels went. UnknownName where there is none.

    What was published with it stays in its version.
    """
    writable = _writable(storage)
    read_manifest(writable)
    with writable.lock():
        manifest = read_manifest(writable)
        table = name if name.startswith(PREFIX) else f"{PREFIX}{name}"
        if table not in manifest.given_labels:
            if not manifest.given_labels:
                raise UnknownName(f"{storage.name} has no labels {name!r}: none were imported")
            raise unknown("labels", name, storage.name, manifest.given_labels)
        gone = [shard for shard in manifest.shards.values() if shard.units.lens == table]
        del manifest.lenses[table]
        manifest.planned = [run for run in manifest.planned if run.lens != table]
        for shard in gone:
            del manifest.shards[shard.path]
        write_manifest(writable, manifest)
        for shard in gone:
            writable.remove(shard.path)
        images.update(writable, manifest)
        write_manifest(writable, manifest)
        save_card(writable, manifest)
    return sum(shard.rows for shard in gone)


def _writable(storage: Storage) -> WritableStorage:
    if not isinstance(storage, WritableStorage):
        raise AtlasUnwritable(f"{storage.name} is published, and never changes; label the atlas that it was made from")
    return storage


def _free(manifest: Manifest, recipe: dict[str, Any], name: str | None) -> str:
    """The name of a file's table; InvalidSetting where the file, or another under this name, was taken in already.

    What was begun in the same way, and stopped before all of it was stored, goes on.
    """
    file = recipe["file"]
    given = name or re.sub(r"\W+", "_", Path(file).stem, flags=re.ASCII).strip("_")
    table = f"{PREFIX}{given.removeprefix(PREFIX)}"
    if not (LAYER.fullmatch(given) and schema.GIVEN_LABELS.fullmatch(table)):
        raise InvalidSetting(f"labels named {given[:60]!r}; expected letters, digits and underscores: --name")
    if table in schema.TABLES:
        raise InvalidSetting(f"{table} are labels that this package makes; give others another --name")
    for there in manifest.given_labels:
        planned = [run for run in manifest.planned if run.lens == there]
        if (
            there == table
            and manifest.lenses[there] == recipe
            and missing(planned, [shard.units for shard in manifest.shards.values()])
        ):
            continue
        same = manifest.lenses[there].get("file_sha256") == recipe["file_sha256"]
        if same:
            raise InvalidSetting(
                f"{file} was taken in already, as {there}; to take it in otherwise, take that back first: "
                f"microscope-atlas label ATLAS --forget {there.removeprefix(PREFIX)}"
            )
        if there == table:
            raise InvalidSetting(
                f"{table} are labels of another file, {manifest.lenses[there].get('file')}; give these another --name, "
                f"or take those back first: --forget {there.removeprefix(PREFIX)}"
            )
    return table


def _plain(stated: Stated) -> dict[str, Any]:
    """What was stated beside the file."""
    told = {name: value for name, value in vars(stated).items() if value}
    return {**told, **({"columns": dict(stated.columns)} if stated.columns else {})}


def _runs(manifest: Manifest, labels: Sequence[Label]) -> list[UnitRange]:
    """Of the runs of units that the atlas has rows of, those with a label: no unit is said to be there that is not."""
    wanted = {label.key for label in labels}
    layers = {(key.model, key.layer) for key in wanted}
    there = [
        UnitRange("all", shard.units.model, shard.units.layer, shard.units.start, shard.units.stop)
        for shard in manifest.shards.values()
        if (shard.units.model, shard.units.layer) in layers and manifest.table(shard.units.lens).level == "unit"
    ]
    units: dict[tuple[str, str | None], set[int | None]] = {}
    for key in wanted:
        units.setdefault((key.model, key.layer), set()).add(key.unit)
    return [run for run in union(there) if not units[run.model, run.layer].isdisjoint(range(run.start, run.stop))]


def _labelled(manifest: Manifest, table: str, file: LabelFile) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The rows of each layer."""
    recipe = json.dumps(manifest.lenses[table], sort_keys=True)
    ranks: Counter[tuple[object, str]] = Counter()
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for label in file.labels:
        assert label.key.layer is not None
        row = {
            "model": label.key.model,
            "layer": label.key.layer,
            "unit": label.key.unit,
            "method": label.method,
            "rank": ranks[label.key, label.method],
            "label": label.label,
            "score": label.score,
            "measure": label.measure,
            "source": label.source,
            "source_sha256": file.sha256,
            "license": label.license,
            "embedding": None,
            "recipe": recipe,
            "weights_sha256": manifest.models[label.key.model]["weights_sha256"],
            "software": package(),
            "device": DEVICE,
        }
        ranks[label.key, label.method] += 1
        rows.setdefault((label.key.model, label.key.layer), []).append(row)
    return rows


def _write(storage: WritableStorage, manifest: Manifest, run: UnitRange, rows: Sequence[dict[str, Any]]) -> None:
    """Store those of a layer's rows that are about a run of units."""
    model = manifest.models[run.model]
    id = content_id(
        run,
        manifest.lenses[run.lens],
        model["weights_sha256"],
        dictionary=identity_of(model, run.layer),
    )
    own = [row for row in rows if run.start <= row["unit"] < run.stop]
    shard = write_shard(storage, run, id, own)
    others = manifest.software.partition(",")[0] != package()
    manifest.shards[shard.path] = replace(shard, software=package()) if others else shard
