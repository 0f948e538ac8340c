"""The command line: parse and call, nothing else."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields, replace
from enum import StrEnum
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import torch
import typer
from rich import filesize
from rich.console import Console

from microscope_atlas import console as progress
from microscope_atlas.atlas.coverage import coverage
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.links import resolve
from microscope_atlas.atlas.locate import open_atlas, storage_at
from microscope_atlas.atlas.manifest import manifest_or_new, read_manifest
from microscope_atlas.errors import AtlasError, ExtraMissing, UnknownName, WrongLevel
from microscope_atlas.hub.repo import Repo
from microscope_atlas.keys import parse_key, parse_units
from microscope_atlas.lenses.frames import in_precision
from microscope_atlas.lenses.lens import settings
from microscope_atlas.lenses.registry import LENSES, lens
from microscope_atlas.models import mirror
from microscope_atlas.models import weights as trained
from microscope_atlas.models.catalog import CATALOG, organism
from microscope_atlas.pictures.sets import with_pictures
from microscope_atlas.publish import publish as publishing
from microscope_atlas.publish import space as spaces
from microscope_atlas.publish.check import check as problems
from microscope_atlas.publish.cite import cite as citation
from microscope_atlas.run import run
from microscope_atlas.run.costs import Costs, load
from microscope_atlas.run.engines.local import LocalEngine, num_cores
from microscope_atlas.run.engines.ray import RayEngine, has_gpus, joined
from microscope_atlas.run.forecast import forecast
from microscope_atlas.run.plan import DEFAULT_UNITS, select, units_per_shard
from microscope_atlas.run.reproduce import reproduce as again
from microscope_atlas.stopping import Stopped, stoppable

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="A microscope for vision networks."
)
out = Console()
err = Console(stderr=True)

Atlas = Annotated[Path, typer.Argument(help="Folder of the atlas.", show_default=False)]
AnyAtlas = Annotated[
    str,
    typer.Argument(metavar="ATLAS", help="A folder, a URL, or owner/name@revision on the Hub.", show_default=False),
]


class QualityName(StrEnum):
    draft = "draft"
    standard = "standard"
    microscope = "microscope"


class PrecisionName(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"


class MethodName(StrEnum):
    fourier = "fourier"
    maco = "maco"
    transparent = "transparent"


class EngineName(StrEnum):
    local = "local"
    ray = "ray"


class WeightsName(StrEnum):
    pretrained = "pretrained"
    random = "random"


@contextmanager
def _stopping(how_to_go_on: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM end a command with a word instead of a traceback, and with the exit status of shells."""
    try:
        with stoppable():
            yield
    except Stopped as stopped:
        err.print(f"\nStopped by {stopped}. {how_to_go_on}", highlight=False, soft_wrap=True)
        raise typer.Exit(stopped.exit_status) from None


@app.command()
def models(
    model: Annotated[str | None, typer.Argument(help="One of them, with its layers.", show_default=False)] = None,
    link: Annotated[
        str | None, typer.Option("--resolve", metavar="URL", help="The key that a link to OpenAI Microscope meant.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """The organisms; or one's layers, units, sizes and names in OpenAI Microscope."""
    if link is not None:
        key = str(resolve(link))
        print(json.dumps({"key": key}) if as_json else key)
        return
    if model is None:
        rows = [_facts(name) for name in CATALOG]
        _show(rows, {"models": rows} if as_json else None)
        return
    known = organism(model)
    rows = [asdict(layer) for layer in known.layers.values()]
    facts = {**_facts(model), "classes": known.classes, "layers": rows, "edges": known.edges}
    _show(rows, facts if as_json else None)


@app.command()
def weights(
    names: Annotated[list[str], typer.Argument(metavar="MODEL...", show_default=False)],
    from_file: Annotated[Path | None, typer.Option("--from", help="Take this file instead of fetching one.")] = None,
    mirror_repo: Annotated[
        str | None, typer.Option("--mirror", metavar="REPO", help="Of the Hub: fetch from there, if it can be had.")
    ] = None,
    publish_repo: Annotated[
        str | None, typer.Option("--publish", metavar="REPO", help="Of the Hub: put them there for others.")
    ] = None,
) -> None:
    """Fetch or take trained weights, verify, convert and cache them; say where they came from."""
    organisms = [organism(name) for name in names]
    if from_file and len(organisms) != 1:
        raise UnknownName(f"--from takes one file of one model; {len(organisms)} models are named")
    if from_file and mirror_repo:
        raise UnknownName("--from takes a file instead of fetching one; --mirror says where to fetch it")
    loaded = {}
    for known in organisms:
        given = trained.take(known, from_file) if from_file else trained.load(known, repo=mirror_repo)
        loaded[known.name] = given
        origin = given.provenance
        out.print(f"{known.name}: {len(given.tensors)} tensors from {origin.source}", soft_wrap=True, markup=False)
        if not origin.official:
            out.print("  not proven to be the published file, though its tensors fit", soft_wrap=True, markup=False)
        if origin.ignored:
            out.print(f"  ignored, of no use to the network: {', '.join(origin.ignored)}", soft_wrap=True, markup=False)
        out.print(f"  license {origin.license}; sha256 {given.sha256}", soft_wrap=True, markup=False)
        if (path := trained.cached_file(known)).exists():
            out.print(f"  in {path}", soft_wrap=True, markup=False)
    if publish_repo:
        out.print(mirror.publish(publish_repo, loaded), soft_wrap=True)


@app.command()
@_stopping("What was finished is in the atlas; the same command goes on from there.")
def render(
    atlas: Annotated[
        str, typer.Argument(help="Folder of the atlas, or a URL such as s3://bucket/atlas.", show_default=False)
    ],
    model: Annotated[
        list[str] | None, typer.Option(help="Again for several. Default: a small atlas of efficientnet_lite0.")
    ] = None,
    lens_names: Annotated[list[str] | None, typer.Option("--lens", help="Again for several. Default: all.")] = None,
    layer: Annotated[list[str] | None, typer.Option(help="Again for several. Default: all.")] = None,
    units: Annotated[str | None, typer.Option(help="START:STOP, the stop not included. Default: all.")] = None,
    quality: Annotated[QualityName, typer.Option(help="128, 512 or 4,096 steps.")] = QualityName.draft,
    pictures: Annotated[
        str | None,
        typer.Option(
            metavar="SET", help="Natural pictures: a folder, or a dataset as OWNER/NAME#SPLIT. Default: a few."
        ),
    ] = None,
    pointers: Annotated[bool, typer.Option("--pointers", help="Point at natural pictures, do not copy them.")] = False,
    method: Annotated[
        list[MethodName] | None,
        typer.Option(help="Of feature_visualization, again for several. Default: fourier; all but for drafts."),
    ] = None,
    precision: Annotated[
        PrecisionName | None,
        typer.Option(help="Of networks while pictures are made. Default: float32; bfloat16 for standard quality."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Pictures at once, at most, where memory is short. Default: the recipe's.")
    ] = None,
    batch_pixels: Annotated[
        int | None,
        typer.Option(
            min=1, help="Of a batch of feature_visualization together. Default: 802816, 16 pictures of 224 px."
        ),
    ] = None,
    engine: Annotated[EngineName, typer.Option(help="ray: many machines.")] = EngineName.local,
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster, HOST:PORT or auto. Default: one on this machine.")
    ] = None,
    cpus_per_task: Annotated[float, typer.Option(min=0.01, help="Cores for each task of --engine ray.")] = 1.0,
    gpus_per_task: Annotated[
        float | None,
        typer.Option(min=0.0, help="GPUs for each task of --engine ray: 0.25, ... Default: 1 of any."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes, or tasks. Default: one a core on a CPU, else 1; all of a Ray cluster."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps. Default: the best there is.")] = None,
    weights: Annotated[WeightsName, typer.Option(help="random: for tests and benchmarks.")] = WeightsName.pretrained,
    shard_units: Annotated[
        int | None, typer.Option(min=1, help="Units a file at most. Default: 16 on a CPU, else 64.")
    ] = None,
    rates: Annotated[
        Path | None, typer.Option(help="Measured seconds of units: no file takes more than a few minutes of a worker.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Render nothing; say how long --workers would take, by --rates.")
    ] = False,
    price: Annotated[float | None, typer.Option(min=0.0, help="Of a worker for an hour, for --plan.")] = None,
) -> None:
    """Render what the atlas lacks. It can be stopped at any moment and run again."""
    if not model and (layer or units):
        raise UnknownName("--layer and --units need a --model")
    for name in lens_names or []:
        if units and lens(name).level == "layer":
            raise WrongLevel(f"{name} looks at a layer; --units {units} are units")
    recipes = {name: _recipe(name, quality, pictures, pointers) for name in lens_names or LENSES}
    if precision:
        recipes = {name: in_precision(recipe, precision.value) for name, recipe in recipes.items()}
    changes: dict[str, Any] = {}
    if method:
        changes["methods"] = tuple(name.value for name in MethodName if name in method)
    if batch_pixels:
        changes["batch_pixels"] = batch_pixels
    if changes:
        if "feature_visualization" not in recipes:
            raise UnknownName("--method and --batch-pixels are feature_visualization's; --lens does not name that")
        recipes["feature_visualization"] = replace(recipes["feature_visualization"], **changes)
    asked = {name: select(organism(name), layer or [], parse_units(units) if units else None) for name in model or []}
    costs = run.UNMEASURED if rates is None else _costs(rates, quality)
    if plan:
        if rates is None:
            raise UnknownName("--plan needs --rates FILE, as python -m benchmarks.atlas_cost writes it")
        kind = costs.device if device is None else torch.device(device).type
        wanted = [run.Wanted(organism(name), layers) for name, layers in (asked or DEFAULT_UNITS).items()]
        manifest = manifest_or_new(storage_at(atlas))
        stages = run.stages(manifest, wanted, recipes, shard_units or units_per_shard(kind), costs)
        lenses = {**manifest.lenses, **{name: settings(recipe) for name, recipe in recipes.items()}}
        for line in forecast(stages, lenses, costs, workers or num_cores(), price):
            out.print(line, soft_wrap=True, highlight=False)
        return
    requests = [
        run.Request(organism(name), trained.load(organism(name), weights.value), weights.value, layers)
        for name, layers in (asked or DEFAULT_UNITS).items()
    ]
    where = storage_at(atlas)
    with (
        _engine(engine, device, workers, address, cpus_per_task, gpus_per_task) as rendering,
        progress.rendering(err) as listen,
    ):
        per_shard = shard_units or units_per_shard(rendering.device.type)
        outcome = run.render(where, requests, recipes, rendering, per_shard, listen, batch, costs)
    out.print(f"{atlas}: {outcome.made} rows made, {outcome.present} were there.")


@app.command()
def status(atlas: AnyAtlas, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Coverage: of the units planned, how many are there, lens by lens, and the seconds left at the last rate."""
    storage = open_atlas(atlas)
    rows = [
        asdict(layer)
        for layer in coverage(read_manifest(storage), storage.root if isinstance(storage, Folder) else None)
    ]
    _show(rows, {"coverage": rows} if as_json else None)


@app.command()
def check(
    atlas: AnyAtlas,
    sample: Annotated[int | None, typer.Option(min=1, help="Files to read. Default: all.")] = None,
) -> None:
    """Verify every promise on the bytes; exit 1 and a list where one fails."""
    storage = open_atlas(atlas)
    found = list(problems(storage, sample))
    for problem in found:
        out.print(problem, soft_wrap=True, markup=False, highlight=False)
    if found:
        err.print(f"{atlas}: {len(found)} problems.")
        raise typer.Exit(1)
    shards = read_manifest(storage).shards.values()
    read = f"; {sample} of {len(shards)} files were read" if sample and sample < len(shards) else ""
    out.print(f"{atlas}: {sum(shard.rows for shard in shards)} rows, all in order{read}.", soft_wrap=True)


@app.command()
def reproduce(
    atlas: AnyAtlas,
    key: Annotated[str, typer.Argument(help="A unit, or a layer: inceptionv1/mixed4c/447.", show_default=False)],
    lens_name: Annotated[
        str | None, typer.Option("--lens", help="Default: feature_visualization of a unit, deepdream of a layer.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps. Default: the best there is.")] = None,
) -> None:
    """Make the rows of a unit or a layer again; exit 1 where one does not come close."""
    asked = parse_key(key)
    name = lens_name or ("deepdream" if asked.unit is None else "feature_visualization")
    notes, remade = again(open_atlas(atlas), asked, name, _device(device))
    for note in notes:
        out.print(note, soft_wrap=True, highlight=False)
    far = 0
    for row in remade:
        far += not row.close
        out.print(str(row), soft_wrap=True, markup=False, highlight=False)
    if far:
        err.print(f"{key}: {far} rows of {name} did not come close.")
        raise typer.Exit(1)


@app.command()
@_stopping("The same command goes on from there.")
def publish(
    atlas: Atlas,
    repo: Annotated[str, typer.Argument(help="owner/name of the dataset on the Hub.", show_default=False)],
    version: Annotated[str, typer.Option(help="Year, month and a count: 2026.11.0.", show_default=False)],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent; send nothing.")] = False,
    space: Annotated[str | None, typer.Option(metavar="REPO", help="Put the Space there, too.")] = None,
) -> None:
    """Publish the atlas as a version that stays, and verify what arrived. It can be stopped and run again."""
    files = spaces.space_files(f"{repo}@v{version}") if space else None
    plan = publishing.plan(Folder(atlas), repo, version, space)
    changes = plan.changes
    out.print(
        f"{repo} {plan.release.tag}: {len(plan.files):,} files, {len(changes.add):,} to send "
        f"({filesize.decimal(changes.bytes)}), {changes.num_same:,} there already, {len(changes.remove):,} to delete",
        soft_wrap=True,
    )
    if dry_run:
        for sign, paths in (("+", changes.add), ("-", changes.remove)):
            for path in sorted(paths):
                out.print(f"{sign} {path}", soft_wrap=True, markup=False, highlight=False)
        return
    with progress.sending(err, "files") as listen:
        commit = publishing.publish(plan, private, listen)
    done = "was published before; there is nothing to do" if plan.published else "is published"
    out.print(f"{plan.repo.url}/tree/{plan.release.tag} {done}: commit {commit}, verified.", soft_wrap=True)
    if space and files:
        with progress.sending(err, "Space") as listen:
            commit = spaces.deploy(files, space, f"Show {repo} {plan.release.tag}", private, listen)
        out.print(f"{Repo(space, 'space').url}: commit {commit}, verified.", soft_wrap=True)


@app.command()
def cite(
    atlas: AnyAtlas,
    key: Annotated[
        str | None, typer.Argument(help="A model, layer or unit: inceptionv1/mixed4c/447.", show_default=False)
    ] = None,
) -> None:
    """BibTeX and links that last, and whose weights they are."""
    print(citation(open_atlas(atlas), parse_key(key) if key else None))


@app.command()
def browse(
    atlas: AnyAtlas,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: the first free one from 7860.")] = None,
) -> None:
    """Serve the Space on this machine, until Ctrl-C."""
    try:
        from microscope_space.app import serve
    except ModuleNotFoundError as error:
        raise ExtraMissing(
            f"the Space cannot be served ({error}); pip install 'microscope-atlas[space]', or make space"
        ) from error
    _, address = serve(open_atlas(atlas), server_port=port, prevent_thread_lock=True, quiet=True)
    out.print(f"{atlas} is at {address} until Ctrl-C.", soft_wrap=True)
    with suppress(KeyboardInterrupt):
        Event().wait()


def main() -> None:
    """The console script: our own errors are printed as they are, all others are bugs and keep their traceback."""
    try:
        app()
    except AtlasError as error:
        err.print(f"microscope-atlas: {error}", soft_wrap=True, markup=False, highlight=False)
        sys.exit(error.exit_status)
    except OSError as error:
        err.print(f"microscope-atlas: {error}", soft_wrap=True, markup=False, highlight=False)
        sys.exit(1)


def _recipe(name: str, quality: QualityName, pictures: str | None, pointers: bool) -> Any:
    """A lens' settings, where it looks at natural pictures with those that are asked for."""
    recipe = lens(name).recipe(quality.value)
    known = {field.name for field in fields(recipe)}
    if pictures and {"pictures", "revision"} <= known:
        recipe = with_pictures(recipe, pictures)
    return replace(recipe, crops=False) if pointers and "crops" in known else recipe


def _costs(rates: Path, quality: QualityName) -> Costs:
    """The rates in a file; UnknownName where they are of another quality."""
    costs = load(rates)
    if costs.quality not in (None, quality.value):
        raise UnknownName(f"{rates} has rates of {costs.quality} quality, --quality is {quality.value}")
    return costs


def _facts(name: str) -> dict[str, Any]:
    """What the catalog knows of a model, without its layers."""
    known = organism(name)
    return {
        "name": known.name,
        "title": known.title,
        "year": known.year,
        "dataset": known.dataset,
        "paper": known.paper,
        "input_size": known.input_size,
        "num_layers": len(known.layers),
        "num_units": sum(layer.units for layer in known.layers.values()),
    }


def _show(rows: Sequence[Mapping[str, Any]], as_json: Mapping[str, Any] | None) -> None:
    """Rows as a table, a line each however long; or, where given, what stands for them in JSON."""
    if as_json is not None:
        print(json.dumps(as_json, indent=1))
        return
    shown = [name for name, value in rows[0].items() if not isinstance(value, dict)] if rows else []
    table = [shown, *([_cell(row[name]) for name in shown] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:,.0f}" if isinstance(value, float) else str(value)


@contextmanager
def _engine(
    name: EngineName, device: str | None, workers: int | None, address: str | None, cpus: float, gpus: float | None
) -> Iterator[LocalEngine | RayEngine]:
    """What renders; the device of a cluster's machines is not to be had here, so it is taken as it is named."""
    if name is EngineName.local:
        chosen = _device(device)
        yield LocalEngine(chosen, workers or (num_cores() if chosen.type == "cpu" else 1))
        return
    with joined(address):
        chosen = torch.device(device or ("cuda" if has_gpus() else "cpu"))
        yield RayEngine(chosen, workers, cpus, float(chosen.type == "cuda") if gpus is None else gpus)


def _device(name: str | None) -> torch.device:
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name or best)
        torch.zeros(1, device=device).tolist()  # on `meta` there are tensors, but nothing in them
    except (RuntimeError, AssertionError) as error:
        raise UnknownName(f"device {name!r} is not to be had here; the best there is: {best}") from error
    return device


if __name__ == "__main__":
    main()
