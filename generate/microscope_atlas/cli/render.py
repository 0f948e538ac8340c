"""`microscope-atlas render`: what an atlas lacks is made."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from microscope_atlas.cli.app import app, device_called, err, out, stopping
from microscope_atlas.cli.asked import Asked, asking

if TYPE_CHECKING:
    import torch

    from microscope_atlas.lenses.recipe import Recipe
    from microscope_atlas.pictures.terms import Terms
    from microscope_atlas.run.engines.local import LocalEngine
    from microscope_atlas.run.engines.ray import RayEngine


class EngineName(StrEnum):
    local = "local"
    ray = "ray"


class WeightsName(StrEnum):
    pretrained = "pretrained"
    random = "random"


@app.command()
@asking
@stopping("What was finished is in the atlas; the same command goes on from there.")
def render(
    asked: Asked,
    pictures_license: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Of the pictures, and whom they are owed to. Default: what is stated of them."
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Pictures at once, at most, where memory is short. Default: the recipe's.")
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
    weights: Annotated[WeightsName, typer.Option(help="random: for tests and benchmarks.")] = WeightsName.pretrained,
) -> None:
    """Render what the atlas lacks. It can be stopped at any moment and run again."""
    from microscope_atlas import console
    from microscope_atlas.models import weights as trained
    from microscope_atlas.models.catalog import organism
    from microscope_atlas.models.networks.unshown import summary
    from microscope_atlas.run import run
    from microscope_atlas.run.costs import UNMEASURED
    from microscope_atlas.run.plan import units_per_shard

    recipes, layers_of = asked.recipes(), asked.layers()
    costs = asked.costs() or UNMEASURED
    with _engine(engine, asked.device, asked.workers, address, cpus_per_task, gpus_per_task) as rendering:
        loaded = {name: trained.load(organism(name), weights.value) for name, _ in layers_of}
        requests = [
            run.RenderRequest(organism(name), loaded[name], weights.value, layers) for name, layers in layers_of
        ]
        for name in loaded:
            if told := summary(organism(name).not_shown, len(organism(name).layers)):
                out.print(f"{name}: {told}. microscope-atlas models {name} --json names them.", soft_wrap=True)
        for name in loaded:
            for layer, one in organism(name).dictionaries.items():
                out.print(f"{name}/{layer}: {one.what}, of {one.behind}, {one.tokens}; {one.source}.", soft_wrap=True)
        if slow := _slow_precision(recipes, rendering.device):
            out.print(slow, soft_wrap=True)
        per_shard = asked.shard_units or units_per_shard(rendering.device.type)
        terms = _terms(asked.pictures, asked.skip_bad_pictures, pictures_license)
        with console.rendering(err) as listen:
            outcome = run.render(asked.storage, requests, recipes, rendering, per_shard, listen, batch, costs, terms)
    out.print(f"{asked.atlas}: {outcome.made} rows made, {outcome.present} were there.", soft_wrap=True)


def _slow_precision(recipes: "Mapping[str, Recipe]", device: "torch.device") -> str | None:
    """A sentence where pictures are made in bfloat16 on a machine that is no faster so."""
    from microscope_atlas.models.device import multiplies_bfloat16

    ascents = {name: recipe.ascents.values() for name, recipe in recipes.items()}
    halved = [name for name, each in ascents.items() if any(ascent.precision == "bfloat16" for ascent in each)]
    if device.type != "cpu" or not halved or multiplies_bfloat16(device):
        return None
    return (
        f"{', '.join(halved)}: in bfloat16, which this processor has no instructions for: it takes several times as "
        "long as float32. A new atlas with --precision float32 is sooner done."
    )


def _terms(pictures: str | None, skip_bad: bool, license: str | None) -> "Terms | None":
    """Those of the natural pictures: as typed, or as stated beside them."""
    from microscope_atlas.pictures.sets import picture_set
    from microscope_atlas.pictures.terms import stated

    found = picture_set(pictures, skip_bad=skip_bad).terms if pictures else None
    return stated(license, found.credit if found else None) if license else found


@contextmanager
def _engine(
    name: EngineName, device: str | None, workers: int | None, address: str | None, cpus: float, gpus: float | None
) -> "Iterator[LocalEngine | RayEngine]":
    """What renders; the device of a cluster's machines is not to be had here, so it is taken as it is named."""
    import torch

    from microscope_atlas.models.device import named
    from microscope_atlas.run.engines.local import LocalEngine, num_workers
    from microscope_atlas.run.engines.ray import RayEngine, has_gpus, ray_cluster

    if name is EngineName.local:
        chosen = device_called(device)
        yield LocalEngine(chosen, num_workers(workers, chosen))
        return
    asked = named(device) if device else None
    with ray_cluster(address):
        chosen = asked or torch.device("cuda" if has_gpus() else "cpu")
        yield RayEngine(chosen, workers, cpus, float(chosen.type == "cuda") if gpus is None else gpus)
