"""Wishes: what was planned and is not made. They can be taken back; rows that are there cannot."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.coverage import Coverage, covered
from microscope_atlas.atlas.dictionaries import identity_of
from microscope_atlas.atlas.manifest import Manifest
from microscope_atlas.atlas.shards import unnoted
from microscope_atlas.atlas.storage import Storage
from microscope_atlas.atlas.units import UnitRange, missing, union


def unmade(
    storage: Storage,
    manifest: Manifest,
    lenses: Collection[str] = (),
    models: Collection[str] = (),
    layers: Collection[str] = (),
) -> list[UnitRange]:
    """What was planned through these lenses, of these models and layers, and is not there; none named means all.

    What a killed run finished, and could not note, is there.
    """
    finished = [shard for shard in unnoted(storage, manifest) if manifest.expects(shard)]
    present = [shard.units for shard in (*manifest.shards.values(), *finished)]
    asked = [
        run
        for run in manifest.planned
        if (not lenses or run.lens in lenses)
        and (not models or run.model in models)
        and (not layers or run.layer in layers)
    ]
    return union(missing(asked, present))


def forget(manifest: Manifest, wishes: Iterable[UnitRange]) -> None:
    """Take wishes out of what is planned, and with them the settings and weights that nothing else is planned with."""
    manifest.planned = missing(union(manifest.planned), wishes)
    left = [*manifest.planned, *(shard.units for shard in manifest.shards.values())]
    for name in manifest.lenses.keys() - {run.lens for run in left}:
        _drop_lens(manifest, name)
    for name in manifest.models.keys() - {run.model for run in left}:
        del manifest.models[name]
        manifest.indexes.pop(name, None)


def forget_unmade(storage: Storage, manifest: Manifest, lenses: Collection[str], models: Collection[str]) -> None:
    """Drop what was planned through these lenses, and of these models, where no row of it is there.

    A plan counts when rows exist: what was stopped before its first row binds nobody to its settings or weights.
    """
    if not (lenses or models):
        return  # without a look at the files
    made = {path for path in storage.files() if path.endswith(".parquet")} | manifest.shards.keys()
    for name in lenses:
        if not any(path.startswith(f"{name}/") for path in made):
            _drop_lens(manifest, name)
    for name in models:
        if not any(path.split("/")[1] == schema.split(name) for path in made if path.count("/") == 2):
            manifest.planned = [run for run in manifest.planned if run.model != name]
            del manifest.models[name]


def begun(storage: Storage, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """The settings of the lenses that an atlas has rows of, whether or not these are noted: it goes on with them."""
    if not manifest.lenses:
        return {}  # without a look at the files
    made = {path.partition("/")[0] for path in (*storage.files(), *manifest.shards) if path.endswith(".parquet")}
    return {name: recipe for name, recipe in manifest.lenses.items() if name in made}


def forget_dictionaries(storage: Storage, manifest: Manifest, model: str, asked: Mapping[str, str]) -> None:
    """Drop dictionaries of a model, and what was planned of their layers, that no row is there of.

    Those for which others are `asked`: layer -> identity; see Attached.
    """
    there = manifest.models.get(model, {}).get("dictionaries", {})
    for layer, identity in asked.items():
        if layer not in there or identity_of({"dictionaries": there}, layer) == identity:
            continue
        if not any(path.split("/")[1:2] == [schema.split(model)] and f"/{layer}." in path for path in storage.files()):
            manifest.planned = [run for run in manifest.planned if (run.model, run.layer) != (model, layer)]
            del there[layer]


def told(manifest: Manifest, wishes: Iterable[UnitRange]) -> list[Coverage]:
    """Wishes for readers: how many of each layer's planned units they are, lens by lens."""
    planned = {(each.model, each.layer, each.lens): each.planned for each in covered(manifest, ())}
    found = []
    for wish in covered(Manifest(lenses=manifest.lenses, tables=manifest.tables, planned=list(wishes)), ()):
        all_of_it = planned[wish.model, wish.layer, wish.lens]
        found.append(replace(wish, planned=all_of_it, present=all_of_it - wish.planned))
    return found


def _drop_lens(manifest: Manifest, name: str) -> None:
    del manifest.lenses[name]
    manifest.tables.pop(name, None)
    manifest.planned = [run for run in manifest.planned if run.lens != name]
