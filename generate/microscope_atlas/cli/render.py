"""`microscope-atlas render`: what an atlas lacks is made."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microscope_atlas.cli.app import app, device_called, err, out, stopping

if TYPE_CHECKING:
    from microscope_atlas.pictures.terms import Terms
    from microscope_atlas.run.costs import Costs
    from microscope_atlas.run.engines.local import LocalEngine
    from microscope_atlas.run.engines.ray import RayEngine


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


@app.command()
@stopping("What was finished is in the atlas; the same command goes on from there.")
def render(
    atlas: Annotated[
        str, typer.Argument(help="Folder of the atlas, or a URL such as s3://bucket/atlas.", show_default=False)
    ],
    model: Annotated[
        list[str] | None, typer.Option(help="Again for several. Default: a small atlas of efficientnet_lite0.")
    ] = None,
    lens_names: Annotated[list[str] | None, typer.Option("--lens", help="Again for several. Default: all.")] = None,
    layer: Annotated[list[str] | None, typer.Option(help="Again for several. Default: all.")] = None,
    units: Annotated[
        str | None,
        typer.Option(help="One, 447; START:STOP, without the stop; or several, 3,7,64:80. Default: all."),
    ] = None,
    quality: Annotated[QualityName, typer.Option(help="128, 512 or 4,096 steps.")] = QualityName.draft,
    pictures: Annotated[
        str | None,
        typer.Option(
            metavar="SET",
            help="Natural pictures: a folder, or a dataset as OWNER/NAME#SPLIT. Default: the atlas' own, or ours.",
        ),
    ] = None,
    skip_bad_pictures: Annotated[
        bool, typer.Option("--skip-bad-pictures", help="Leave out what cannot be read of the folder; rows say so.")
    ] = False,
    pictures_license: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Of the pictures, and whom they are owed to. Default: what is stated of them."
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
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="LENS.PATH=VALUE",
            help="Any setting of a lens, again for several: deepdream.ascent.steps=256.",
        ),
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
    import torch

    from microscope_atlas import console
    from microscope_atlas.atlas.locate import storage_at
    from microscope_atlas.atlas.manifest import manifest_or_new
    from microscope_atlas.errors import UnknownName, WrongLevel
    from microscope_atlas.keys import parse_units
    from microscope_atlas.lenses.registry import LENSES, lens
    from microscope_atlas.models import weights as trained
    from microscope_atlas.models.catalog import organism
    from microscope_atlas.models.networks.unshown import summary
    from microscope_atlas.run import run
    from microscope_atlas.run.engines.local import num_cores
    from microscope_atlas.run.forecast import forecast
    from microscope_atlas.run.plan import DEFAULT_UNITS, select, units_per_shard
    from microscope_atlas.run.recipes import chosen

    if not model and (layer or units):
        raise UnknownName("--layer and --units need a --model")
    if skip_bad_pictures and not pictures:
        raise UnknownName("--skip-bad-pictures needs --pictures FOLDER")
    for name in lens_names or []:
        if units and lens(name).level == "layer":
            raise WrongLevel(f"{name} looks at a layer; --units {units} are units")
    where = storage_at(atlas)
    chosen_lenses = lens_names or list(LENSES)
    short = _spelled_out(chosen_lenses, precision, method, batch_pixels, pointers)
    there = manifest_or_new(where).lenses
    recipes = chosen(chosen_lenses, quality.value, pictures, [*short, *(changes or [])], skip_bad_pictures, there)
    ranges = parse_units(units) if units else [None]
    asked = [(name, select(organism(name), layer or [], some)) for name in model or [] for some in ranges]
    asked = asked or list(DEFAULT_UNITS.items())
    costs = run.UNMEASURED if rates is None else _costs(rates, quality)
    if plan:
        if rates is None:
            raise UnknownName("--plan needs --rates FILE, as python -m benchmarks.atlas_cost writes it")
        kind = costs.device if device is None else torch.device(device).type
        wanted = [run.Wanted(organism(name), layers) for name, layers in asked]
        manifest = manifest_or_new(where)
        stages = run.stages(manifest, wanted, recipes, shard_units or units_per_shard(kind), costs)
        for line in forecast(stages, run.setups(manifest, recipes), costs, workers or num_cores(), price):
            out.print(line, soft_wrap=True, highlight=False)
        return
    loaded = {name: trained.load(organism(name), weights.value) for name, _ in asked}
    requests = [run.Request(organism(name), loaded[name], weights.value, layers) for name, layers in asked]
    for name in loaded:
        if told := summary(organism(name).not_shown, len(organism(name).layers)):
            out.print(f"{name}: {told}. microscope-atlas models {name} --json names them.", soft_wrap=True)
    with (
        _engine(engine, device, workers, address, cpus_per_task, gpus_per_task) as rendering,
        console.rendering(err) as listen,
    ):
        per_shard = shard_units or units_per_shard(rendering.device.type)
        terms = _terms(pictures, skip_bad_pictures, pictures_license)
        outcome = run.render(where, requests, recipes, rendering, per_shard, listen, batch, costs, terms)
    out.print(f"{atlas}: {outcome.made} rows made, {outcome.present} were there.")


def _spelled_out(
    lenses: Sequence[str],
    precision: PrecisionName | None,
    methods: Sequence[MethodName] | None,
    batch_pixels: int | None,
    pointers: bool,
) -> list[str]:
    """What options that are short for `--set` stand for."""
    from microscope_atlas.lenses.registry import lens

    changes = []
    if precision:
        changes += [
            f"{lens(name).name}.{ascent}.precision={precision.value}"
            for name in lenses
            for ascent in lens(name).recipe("draft").ascents
        ]
    if methods:
        words = ",".join(name.value for name in MethodName if name in methods)
        changes.append(f"feature_visualization.methods={words}")
    if batch_pixels:
        changes.append(f"feature_visualization.batch_pixels={batch_pixels}")
    if pointers and "dataset_samples" in lenses:
        changes.append("dataset_samples.crops=false")
    return changes


def _terms(pictures: str | None, skip_bad: bool, license: str | None) -> "Terms | None":
    """Those of the natural pictures: as typed, or as stated beside them."""
    from microscope_atlas.pictures.sets import picture_set
    from microscope_atlas.pictures.terms import stated

    found = picture_set(pictures, skip_bad=skip_bad).terms if pictures else None
    return stated(license, found.credit if found else None) if license else found


def _costs(rates: Path, quality: QualityName) -> "Costs":
    """The rates in a file; UnknownName where they are of another quality."""
    from microscope_atlas.errors import UnknownName
    from microscope_atlas.run.costs import load

    costs = load(rates)
    if costs.quality not in (None, quality.value):
        raise UnknownName(f"{rates} has rates of {costs.quality} quality, --quality is {quality.value}")
    return costs


@contextmanager
def _engine(
    name: EngineName, device: str | None, workers: int | None, address: str | None, cpus: float, gpus: float | None
) -> "Iterator[LocalEngine | RayEngine]":
    """What renders; the device of a cluster's machines is not to be had here, so it is taken as it is named."""
    import torch

    from microscope_atlas.run.engines.local import LocalEngine, num_cores
    from microscope_atlas.run.engines.ray import RayEngine, has_gpus, joined

    if name is EngineName.local:
        chosen = device_called(device)
        yield LocalEngine(chosen, workers or (num_cores() if chosen.type == "cpu" else 1))
        return
    with joined(address):
        chosen = torch.device(device or ("cuda" if has_gpus() else "cpu"))
        yield RayEngine(chosen, workers, cpus, float(chosen.type == "cuda") if gpus is None else gpus)
