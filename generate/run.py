"""Render what an atlas lacks of a plan: the run around an engine. It can be stopped at any moment and run again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from generate import schema, store
from generate.card import render_card
from generate.engines.engine import Engine, Event, Failed
from generate.errors import RenderFailed, SettingsDiffer
from generate.lenses.lens import settings
from generate.lenses.registry import lens
from generate.models.converted import Weights
from generate.models.organism import Organism
from generate.models.weights import WeightsKind
from generate.plan import Job, Units, differences, missing
from generate.shard import Finished, software
from generate.store import Manifest


@dataclass(frozen=True)
class Request:
    """What is asked for of one model."""

    organism: Organism
    weights: Weights
    kind: WeightsKind
    units: Mapping[str, range]  # of each layer


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    present: int  # images that were there already
    made: int  # images that it made


def render(
    root: Path,
    requests: Sequence[Request],
    recipes: Mapping[str, Any],
    engine: Engine,
    units_per_shard: int,
    listen: Callable[[int, int, Event | None], None],
) -> Outcome:
    """Render what is missing of `requests`, through the lenses and recipes in `recipes`, into the atlas at `root`.

    `listen` is called with the images made, the images to make, and what happened: once before the first event.
    Raises SettingsDiffer, before anything is written, where the atlas has other recipes or weights; AtlasBusy where
    another run writes to it; RenderFailed at the end where a shard failed.
    """
    manifest = store.manifest_or_new(root)
    _refuse_other_settings(root, manifest, requests, recipes)
    with store.writing(root):
        manifest = store.manifest_or_new(root)
        _refuse_other_settings(root, manifest, requests, recipes)
        wanted = [
            Units(name, request.organism.name, layer, units.start, units.stop)
            for name in recipes
            for request in requests
            for layer, units in request.units.items()
        ]
        _enter(manifest, requests, recipes, wanted)
        _forget_lost(root, manifest)
        _note_finished(root, manifest)
        _save(root, manifest)
        jobs = _jobs(manifest, requests, recipes, wanted, units_per_shard)

        per_unit = {name: lens(name).images(settings(recipe)) for name, recipe in recipes.items()}
        todo = sum(per_unit[job.units.lens] * (job.units.stop - job.units.start) for job in jobs)
        asked = sum(per_unit[run.lens] * (run.stop - run.start) for run in wanted)
        made, failures = 0, []
        listen(made, todo, None)
        for event in engine.run(jobs, root):
            match event:
                case Finished(shard):
                    manifest.shards[shard.path] = shard
                    _save(root, manifest)
                case Failed(job, reason):
                    failures.append(f"\n  {job.units}: {reason}")
                case _:
                    made += event.images
            listen(made, todo, event)
    if failures:
        raise RenderFailed(
            f"{len(failures)} of {len(jobs)} shards failed; the others are there, and running again tries these:"
            + "".join(failures)
        )
    return Outcome(present=asked - todo, made=made)


def _refuse_other_settings(
    root: Path, manifest: Manifest, requests: Sequence[Request], recipes: Mapping[str, Any]
) -> None:
    found = []
    for name, recipe in recipes.items():
        if name in manifest.lenses:
            found += [f"{name}: {d}" for d in differences(settings(recipe), manifest.lenses[name])]
    for request in requests:
        name = request.organism.name
        if name in manifest.models:
            there = {"weights_sha256": manifest.models[name]["weights_sha256"]}
            found += [f"{name}: {d}" for d in differences({"weights_sha256": request.weights.sha256}, there)]
    if found:
        raise SettingsDiffer(
            f"{root} was rendered with other settings: {'; '.join(found)}. "
            "Other settings are another atlas: render into another folder"
        )


def _enter(
    manifest: Manifest, requests: Sequence[Request], recipes: Mapping[str, Any], wanted: Sequence[Units]
) -> None:
    """Put down what the atlas is going to hold."""
    manifest.software = software()
    manifest.planned += wanted
    manifest.lenses.update({name: settings(recipe) for name, recipe in recipes.items()})
    for request in requests:
        provenance = asdict(request.weights.provenance)
        manifest.models[request.organism.name] = {"weights_sha256": request.weights.sha256, "provenance": provenance}


def _forget_lost(root: Path, manifest: Manifest) -> None:
    """Shards whose file is gone or has another length are not there, whatever the manifest says.

    What is left of a file goes: other slices may take its place, and whoever reads the folder would stumble over it.
    """
    for path, shard in list(manifest.shards.items()):
        file = root / path
        if not file.is_file() or file.stat().st_size != shard.bytes:
            file.unlink(missing_ok=True)
            del manifest.shards[path]


def _note_finished(root: Path, manifest: Manifest) -> None:
    """Enter the shards that a killed run finished but could not note, where their content is what belongs here."""
    for shard in store.unnoted(root, manifest):
        apart = missing([shard.units], [there.units for there in manifest.shards.values()]) == [shard.units]
        if apart and manifest.expects(shard):
            manifest.shards[shard.path] = shard


def _jobs(
    manifest: Manifest,
    requests: Sequence[Request],
    recipes: Mapping[str, Any],
    wanted: Sequence[Units],
    units_per_shard: int,
) -> list[Job]:
    by_model = {request.organism.name: request for request in requests}
    present = [shard.units for shard in manifest.shards.values()]
    return [
        Job(run, recipes[run.lens], by_model[run.model].kind, by_model[run.model].weights.sha256)
        for run in missing(wanted, present, units_per_shard)
    ]


def _save(root: Path, manifest: Manifest) -> None:
    store.write_manifest(root, manifest)
    if manifest.shards:
        store.write_text(root / schema.CARD, render_card(manifest))
