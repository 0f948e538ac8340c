"""Render what an atlas lacks of a plan: the run around an engine. It can be stopped at any moment and run again."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

from microscope_atlas.atlas import images, outside, schema
from microscope_atlas.atlas.dictionaries import Attached, identity_of
from microscope_atlas.atlas.manifest import Manifest, manifest_or_new, write_manifest
from microscope_atlas.atlas.organisms import organisms
from microscope_atlas.atlas.provenance import is_untrained
from microscope_atlas.atlas.shards import parquet_files, unnoted
from microscope_atlas.atlas.storage import WritableStorage
from microscope_atlas.atlas.tables import Level, Table
from microscope_atlas.atlas.units import UnitRange, missing, renderers
from microscope_atlas.errors import AtlasUnwritable, InvalidSetting, LensFailed, RenderFailed, SettingsDiffer, nearest
from microscope_atlas.lenses.own import refuse_unfit
from microscope_atlas.lenses.recipe import Recipe, settings
from microscope_atlas.lenses.registry import LENSES, lens, rounds
from microscope_atlas.models.catalog import note_origin
from microscope_atlas.models.converted import Weights
from microscope_atlas.models.dictionaries.attached import attached
from microscope_atlas.models.organism import Organism
from microscope_atlas.models.weights import WeightsKind
from microscope_atlas.pictures.sets import place_of
from microscope_atlas.pictures.sources import DEFAULT
from microscope_atlas.pictures.terms import Terms
from microscope_atlas.publish.card import save_card
from microscope_atlas.publish.cover import render_cover
from microscope_atlas.run import wishes
from microscope_atlas.run.costs import UNMEASURED, Costs, Lenses, Setup, cut, longest_first
from microscope_atlas.run.engines.engine import Engine, JobFailed
from microscope_atlas.run.plan import Job, differences
from microscope_atlas.run.shard import BatchHalved, RowsMade, ShardFinished, software

# Between two writes of the manifest and the card, which grow with the atlas; a shard that they do not name yet says
# itself what it is, so nothing is lost
SAVE_SECONDS = 5.0


@dataclass(frozen=True)
class Selection:
    """What is asked for of one model."""

    organism: Organism
    units: Mapping[str, range]  # of each layer


@dataclass(frozen=True)
class RenderRequest:
    """The same, with the weights to make it with."""

    organism: Organism
    weights: Weights
    kind: WeightsKind
    units: Mapping[str, range]


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    present: int  # rows that were there already
    made: int  # rows that it made


@dataclass
class Progress:
    """How far a run has come with one lens."""

    lens: str
    level: Level  # what is counted
    todo: int
    done: Fraction = Fraction(0)
    batch: int | None = None  # at once at most, where memory ran out with more


Listen = Callable[[Progress], None]


def render(
    storage: WritableStorage,
    requests: Sequence[RenderRequest],
    recipes: Mapping[str, Recipe],
    engine: Engine,
    units_per_shard: int,
    listen: Listen,
    batch: int | None = None,
    costs: Costs = UNMEASURED,
    terms: Terms | None = None,
) -> Outcome:
    """Render what is missing of `requests`, through the lenses and recipes in `recipes`, into the atlas at `storage`.

    Rows of derived lenses that the atlas holds are made anew where what they read was. `listen` is called with what
    there is to do for each lens, and whenever some of it is done. No more than `batch` pictures are made at once, where
    it is given: the recipe in the atlas stays, and the rows say what they were made with. Jobs that `costs` takes for
    long begin first, and have fewer than `units_per_shard` units where those would take too long. `terms` are those of
    the natural pictures, where they are not the package's own.

    Raises SettingsDiffer or LensFailed, before anything is written, where the atlas has other recipes or weights, or
    needs a lens from outside that is not named; AtlasBusy where another run writes to it; AtlasUnwritable at once where
    its disk refuses; RenderFailed at the end where a shard failed.
    """
    _refuse_unseen(requests, recipes)
    _binding(storage, requests, recipes)
    with _what_stays(storage), storage.lock():
        manifest = _binding(storage, requests, recipes)
        for name, about in manifest.models.items():
            note_origin(name, about["provenance"]["source"])
        _enter(manifest, requests, recipes)
        if storage.folds_case():
            _refuse_one_name(storage, manifest)
        _state(manifest, recipes, terms)
        _forget_lost(storage, manifest)
        _note_finished(storage, manifest)
        save(storage, manifest)
        present = sum(shard.rows for shard in manifest.shards.values())
        lenses = setups(manifest, recipes)
        jobs = _jobs(manifest, requests, lenses, recipes, units_per_shard, batch, costs)
        failures = _make(jobs, storage, manifest, engine, listen)
        for names in rounds(manifest.lenses, manifest.every_table):
            _refuse_unreadable(manifest, names)
            present -= _forget_outdated(storage, manifest, names)
            jobs = _derived(manifest, names, lenses, units_per_shard, costs)
            failures += _make(jobs, storage, manifest, engine, listen)
        images.update(storage, manifest)
        _cover(storage, manifest)
        save(storage, manifest)
    if failures:
        raise RenderFailed(
            f"{len(failures)} of the shards failed; the others are there, and running again tries these:"
            + "".join(failures)
        )
    return Outcome(present, sum(shard.rows for shard in manifest.shards.values()) - present)


@contextmanager
def _what_stays(storage: WritableStorage) -> Iterator[None]:
    """Add to AtlasUnwritable what is not lost, and how to go on."""
    try:
        yield
    except AtlasUnwritable as error:
        raise AtlasUnwritable(
            f"{error}. Files that are there stay, {len(parquet_files(storage))} with rows; "
            "once it can be written, the same command goes on from there"
        ) from error


def _refuse_unseen(requests: Sequence[RenderRequest | Selection], recipes: Mapping[str, Recipe]) -> None:
    """Whatever a lens raises for a network that it cannot look at."""
    for maker, recipe in recipes.items():
        for asked in requests:
            weights = asked.weights.sha256 if isinstance(asked, RenderRequest) else None
            lens(maker).refuse(asked.organism, weights, recipe)
            if lens(maker).named_only and not any(lens(maker).has_rows(asked.organism, each) for each in asked.units):
                some = ", ".join(f"{asked.organism.name}/{each}" for each in asked.units)
                raise LensFailed(f"{lens(maker).name} looks at {lens(maker).looks_at}; {some} is none")


def _make(
    jobs: Sequence[Job], storage: WritableStorage, manifest: Manifest, engine: Engine, listen: Listen
) -> list[str]:
    """Have the engine do the jobs, note each shard as it is finished, and return what failed and why."""
    asked = {job.units.lens for job in jobs}
    progress = {
        name: Progress(name, manifest.table(name).level, 0) for name in (*LENSES, *manifest.tables) if name in asked
    }
    for job in jobs:
        progress[job.units.lens].todo += _amount(manifest, job.units)
    for lens_progress in progress.values():
        listen(lens_progress)
    failures, saved = [], time.monotonic()
    try:
        for event in engine.run(jobs, storage):
            match event:
                case ShardFinished(shard):
                    manifest.shards[shard.path] = shard
                    if time.monotonic() - saved > SAVE_SECONDS:
                        save(storage, manifest)
                        saved = time.monotonic()
                    if manifest.table(shard.units.lens).count(manifest.lenses[shard.units.lens]) is None:
                        progress[shard.units.lens].done += _amount(manifest, shard.units)
                        listen(progress[shard.units.lens])
                case JobFailed(job, reason):
                    failures.append(f"\n  {job.units}: {reason}")
                case BatchHalved(name, units, batch):
                    progress[name].done -= units
                    progress[name].batch = batch
                    listen(progress[name])
                case RowsMade(name, _, units):
                    progress[name].done += units
                    listen(progress[name])
    finally:
        storage.remove_unfinished()  # of workers that were ended
        save(storage, manifest)
    return failures


def _amount(manifest: Manifest, units: UnitRange) -> int:
    """What a shard adds to a lens' progress: its units, or the one layer it is about."""
    return 1 if manifest.table(units.lens).level == "layer" else units.stop - units.start


def _binding(storage: WritableStorage, requests: Sequence[RenderRequest], recipes: Mapping[str, Recipe]) -> Manifest:
    """The manifest without what no row was made of; SettingsDiffer where rows were made with other settings."""
    manifest = manifest_or_new(storage)
    _refuse_unmade(manifest, recipes)
    others = [
        lens(maker).name
        for maker, recipe in recipes.items()
        if lens(maker).name in manifest.lenses and settings(recipe) != _settings_there(manifest, maker)
    ]
    models = [
        request.organism.name
        for request in requests
        if manifest.models.get(request.organism.name, {}).get("weights_sha256") not in (None, request.weights.sha256)
    ]
    wishes.forget_unmade(storage, manifest, others, models)
    for request in requests:
        made = {layer: one.identity for layer, one in request.organism.dictionaries.items()}
        wishes.forget_dictionaries(storage, manifest, request.organism.name, made)
    _refuse_other_settings(storage, manifest, requests, recipes)
    return manifest


def _refuse_unmade(manifest: Manifest, recipes: Mapping[str, Recipe]) -> None:
    """LensFailed for lenses that share a name, read each other, read what nobody makes, or cannot count their rows."""
    tables = manifest.every_table
    makers: dict[str, str] = {}
    for maker, recipe in recipes.items():
        name = lens(maker).name
        if name not in LENSES:
            refuse_unfit(lens(maker), recipe, maker)  # some settings may do what those of its qualities do not
        if (other := makers.setdefault(name, maker)) != maker:
            raise LensFailed(f"{other} and {maker} both make table {name}; give one of them another name")
        tables[name] = lens(maker).table
    for name, maker in makers.items():
        for read in tables[name].reads:
            if read not in tables:
                raise LensFailed(
                    f"{maker} reads {read!r}, which is neither in the atlas nor asked for; name the lens that makes it "
                    f"too, or one of {nearest(read, tables)}"
                )
    rounds(makers, tables)


def _refuse_other_settings(
    storage: WritableStorage, manifest: Manifest, requests: Sequence[RenderRequest], recipes: Mapping[str, Recipe]
) -> None:
    found = []
    given = {lens(maker).name for maker in recipes}
    for name, told in manifest.tables.items():
        if manifest.table(name).reads and name not in given:
            raise LensFailed(
                f"{storage} holds {name}, which follows other rows and is made by {told['lens']}; "
                f"name that lens too: --lens {told['lens']}"
            )
    for maker, recipe in recipes.items():
        name = lens(maker).name
        if name in manifest.lenses:
            there = _settings_there(manifest, maker)
            if name in manifest.tables and not _same_columns(lens(maker).table, manifest.table(name)):
                found.append(f"{name}: its table has other columns in the atlas than {maker}'s")
            found += [f"{name}: {d}" for d in differences(settings(recipe), there)]
    for request in requests:
        name = request.organism.name
        if name in manifest.models:
            there = {"weights_sha256": manifest.models[name]["weights_sha256"]}
            others = differences({"weights_sha256": request.weights.sha256}, there)
            source = manifest.models[name]["provenance"]["source"]
            found += [f"{name}: {d}, whose weights are from {source}" for d in others]
            for layer, one in request.organism.dictionaries.items():
                if (other := identity_of(manifest.models[name], layer)) not in (None, one.identity):
                    found.append(
                        f"{name}/{layer}: its dictionary is {other} in the atlas, {one.identity} asked; "
                        "give another one another NAME"
                    )
        if model := _older_renderer(manifest, request, recipes):
            raise SettingsDiffer(
                f"{storage} holds rows of {model} by version 0.1, whose pictures have other sizes than this version's; "
                "what is missing of it needs an atlas of its own: render into another folder"
            )
    if found:
        raise SettingsDiffer(
            f"{storage} was rendered with other settings: {'; '.join(found)}. "
            "Other settings are another atlas: render into another folder, or leave the quality out to go on as it is"
        )


def _settings_there(manifest: Manifest, maker: str) -> Mapping[str, Any]:
    """An atlas' settings of a lens, with those that came later; what this version cannot read as it is."""
    there = manifest.lenses[lens(maker).name]
    with suppress(ValueError):
        return settings(lens(maker).restored(there))
    return there


def _older_renderer(manifest: Manifest, request: RenderRequest, recipes: Mapping[str, Recipe]) -> str | None:
    """The model whose rows would be mixed: some are by an older renderer, and others are still to be made."""
    model = request.organism.name
    if len(renderers(model)) == 1:
        return None
    made = [shard for shard in manifest.shards.values() if shard.units.model == model]
    looking = [maker for maker in recipes if not lens(maker).reads]
    wanted = [run for maker in looking for run in _wanted(maker, request)]
    if not missing(wanted, [shard.units for shard in made]):
        return None
    older = [shard for shard in made if manifest.renderer(shard) not in (None, renderers(model)[0])]
    return model if older else None


def _refuse_one_name(storage: WritableStorage, manifest: Manifest) -> None:
    """InvalidSetting where files of two layers or models would be one, because the place does not tell case apart."""
    names: dict[str, str] = {}
    for run in manifest.planned:
        name = f"{run.model}/{run.layer}"
        if (other := names.setdefault(name.casefold(), name)) != name:
            raise InvalidSetting(
                f"{storage} is on a disk that takes {other} and {name} for one name; "
                "render them into different atlases, or onto another disk"
            )


def _same_columns(a: Table, b: Table) -> bool:
    return (a.level, a.arrow, [c.name for c in a.keys]) == (b.level, b.arrow, [c.name for c in b.keys])


def _refuse_unreadable(manifest: Manifest, names: Sequence[str]) -> None:
    """SettingsDiffer for derived lenses whose settings this version cannot read, before any of their rows go."""
    for name in names:
        if name in LENSES:
            try:
                lens(name).restored(manifest.lenses[name])
            except ValueError as error:
                raise SettingsDiffer(f"{name} was made by another version, which its rows name: {error}") from error


def _enter(manifest: Manifest, requests: Sequence[RenderRequest], recipes: Mapping[str, Recipe]) -> None:
    """Put down what the atlas is going to hold; settings that are there stay as they are, for they make content ids."""
    manifest.goes_on_with(software())
    manifest.planned += [run for maker in recipes for request in requests for run in _wanted(maker, request)]
    _enter_lenses(manifest, recipes)
    for request in requests:
        provenance = asdict(request.weights.provenance)
        made_of: dict[str, Any] = {"weights_sha256": request.weights.sha256, "provenance": provenance}
        if request.organism.name not in organisms():  # readers cannot know of it otherwise
            made_of["layers"] = [name for name in request.organism.layers if name not in request.organism.dictionaries]
        there = manifest.models.get(request.organism.name, {}).get("dictionaries", {})
        if told := there | {layer: _plain(one) for layer, one in request.organism.dictionaries.items()}:
            made_of["dictionaries"] = told
        manifest.models[request.organism.name] = made_of


def _plain(one: Attached) -> dict[str, Any]:
    """A dictionary as a manifest states it."""
    told: dict[str, Any] = json.loads(
        json.dumps({name: value for name, value in asdict(one).items() if name != "where"})
    )
    return told


def _enter_lenses(manifest: Manifest, recipes: Mapping[str, Recipe]) -> None:
    for maker, recipe in recipes.items():
        name, plain = lens(maker).name, settings(recipe)
        manifest.lenses.setdefault(name, plain)
        if maker != name:
            manifest.tables.setdefault(name, outside.described(lens(maker).table, maker, plain))


def _state(manifest: Manifest, recipes: Mapping[str, Any], terms: Terms | None) -> None:
    """Put down under which terms the natural pictures are, if anybody has stated any."""
    for recipe in recipes.values():
        name, revision = getattr(recipe, "pictures", DEFAULT), getattr(recipe, "revision", None)
        if isinstance(name, str) and name != DEFAULT and revision is not None:
            stated = {"license": terms.license, "credit": terms.credit} if terms else {}
            nothing: dict[str, str | None] = {"name": name, "license": None, "credit": None}
            manifest.pictures[revision] = {**nothing, **manifest.pictures.get(revision, {}), **stated}


def _wanted(maker: str, request: RenderRequest | Selection) -> list[UnitRange]:
    """What is asked for of one model through one lens."""
    runs = []
    for layer, units in request.units.items():
        if not lens(maker).has_rows(request.organism, layer):
            continue
        whole = range(request.organism.layer(layer).units)
        seen = whole if lens(maker).level == "layer" else units
        runs.append(UnitRange(lens(maker).name, request.organism.name, layer, seen.start, seen.stop))
    return runs


def _forget_lost(storage: WritableStorage, manifest: Manifest) -> None:
    """Shards whose file is gone or has another length are not there, whatever the manifest says.

    What is left of a file goes: other slices may take its place, and whoever reads the folder would stumble over it.
    """
    sizes = storage.files()
    for path, shard in list(manifest.shards.items()):
        if sizes.get(path) != shard.bytes:
            if path in sizes:  # what was not looked at is not removed
                storage.remove(path)
            del manifest.shards[path]


def _note_finished(storage: WritableStorage, manifest: Manifest) -> None:
    """Enter the shards that a killed run finished but could not note, where their content is what belongs here."""
    for shard in unnoted(storage, manifest):
        apart = missing([shard.units], [there.units for there in manifest.shards.values()]) == [shard.units]
        if apart and manifest.expects(shard):
            manifest.shards[shard.path] = shard


def _forget_outdated(storage: WritableStorage, manifest: Manifest, names: Sequence[str]) -> int:
    """Remove what these derived lenses made from other shards than are there now; returns how many rows went."""
    made = [shard for shard in manifest.shards.values() if shard.units.lens in names]
    outdated = [shard for shard in made if not manifest.expects(shard)]
    for shard in outdated:
        storage.remove(shard.path)
        del manifest.shards[shard.path]
    return sum(shard.rows for shard in outdated)


def setups(manifest: Manifest, recipes: Mapping[str, Recipe]) -> Lenses:
    """Lenses with their settings, by name: those asked for, and ours in the atlas whose settings can be read."""
    makers = {name: name for name in manifest.lenses if name in LENSES} | {lens(maker).name: maker for maker in recipes}
    found = {}
    for name, maker in makers.items():
        with suppress(ValueError):  # of another version: who needs it says so
            found[name] = Setup(maker, recipes.get(maker) or lens(maker).restored(manifest.lenses[name]))
    return found


def stages(
    manifest: Manifest, requests: Sequence[Selection], recipes: Mapping[str, Recipe], units_per_shard: int, costs: Costs
) -> list[list[UnitRange]]:
    """What render would do, without doing it: the jobs of each round, in the order in which they begin."""
    _refuse_unseen(requests, recipes)
    _refuse_unmade(manifest, recipes)
    ahead = replace(manifest, lenses=dict(manifest.lenses), tables=dict(manifest.tables))
    _enter_lenses(ahead, recipes)
    lenses = setups(ahead, recipes)
    planned = manifest.planned + [run for maker in recipes for asked in requests for run in _wanted(maker, asked)]
    present = [shard.units for shard in manifest.shards.values()]
    looking = [lens(maker).name for maker in recipes if not lens(maker).reads]
    return [
        longest_first(
            cut((run for run in planned if run.lens in names), present, lenses, costs, units_per_shard),
            lambda units: units,
            lenses,
            costs,
        )
        for names in (looking, *rounds(ahead.lenses, ahead.every_table))
    ]


def _jobs(
    manifest: Manifest,
    requests: Sequence[RenderRequest],
    lenses: Lenses,
    recipes: Mapping[str, Recipe],
    units_per_shard: int,
    batch: int | None,
    costs: Costs,
) -> list[Job]:
    """What is missing of the lenses that look at the network."""
    present = [shard.units for shard in manifest.shards.values()]
    jobs = [
        replace(_job(manifest, lenses, run), weights=request.kind, batch=batch)
        for maker in recipes
        for request in requests
        if not lens(maker).reads
        for run in cut(_wanted(maker, request), present, lenses, costs, units_per_shard)
    ]
    return longest_first(jobs, lambda job: job.units, lenses, costs)


def _derived(manifest: Manifest, names: Sequence[str], lenses: Lenses, units_per_shard: int, costs: Costs) -> list[Job]:
    """What is missing of derived lenses: of all that are planned, because each may read what another request made."""
    present = [shard.units for shard in manifest.shards.values()]
    planned = [run for name in names for run in manifest.planned if run.lens == name]
    jobs = [_job(manifest, lenses, run) for run in cut(planned, present, lenses, costs, units_per_shard)]
    return longest_first(jobs, lambda job: job.units, lenses, costs)


def _job(manifest: Manifest, lenses: Lenses, run: UnitRange) -> Job:
    """A shard to make, with the weights that the atlas has of its model."""
    (maker, recipe), model = lenses[run.lens], manifest.models[run.model]
    return Job(
        run,
        recipe,
        "random" if is_untrained(model["provenance"]) else "pretrained",
        model["weights_sha256"],
        manifest.inputs(run),
        maker=maker,
        stated=json.dumps(manifest.lenses[run.lens]),
        pictures=place_of(recipe),
        dictionaries=tuple(attached(run.model).items()),
    )


def _cover(storage: WritableStorage, manifest: Manifest) -> None:
    """Give the card its picture, or another where the units have changed."""
    cover = render_cover(storage, manifest)
    manifest.cover = hashlib.sha256(cover).hexdigest() if cover else None
    if cover and (storage.size(schema.COVER) is None or storage.read(schema.COVER) != cover):
        storage.write(schema.COVER, cover)


def save(storage: WritableStorage, manifest: Manifest) -> None:
    """Write the manifest and the card that goes with it; only for who holds the atlas."""
    write_manifest(storage, manifest)
    if manifest.shards:
        save_card(storage, manifest)
