"""`microscope-atlas plan`: how long `render` would take, and what it would cost."""

import time
from typing import Annotated

import typer

from microscope_atlas.cli.app import app, device_called, out, stopping
from microscope_atlas.cli.asked import Asked, asking


@app.command()
@asking
@stopping("Nothing was rendered.")
def plan(
    asked: Asked, price: Annotated[float | None, typer.Option(min=0.0, help="Of a worker for an hour.")] = None
) -> None:
    """Say how long rendering what the atlas lacks would take, and render nothing.

    By --rates; without them it first measures for at most 10 seconds on this machine.
    """
    from microscope_atlas.atlas.manifest import manifest_or_new
    from microscope_atlas.models.catalog import organism
    from microscope_atlas.models.device import named
    from microscope_atlas.run import run
    from microscope_atlas.run.costs import UNMEASURED
    from microscope_atlas.run.engines.local import keep_freed_memory, num_cores
    from microscope_atlas.run.forecast import START_SECONDS, forecast
    from microscope_atlas.run.plan import units_per_shard
    from microscope_atlas.run.probe import LIMIT_SECONDS, probe

    imported = time.process_time()
    recipes, costs, start = asked.recipes(), asked.costs(), START_SECONDS
    wanted = [run.Selection(organism(name), layers) for name, layers in asked.layers()]
    manifest = manifest_or_new(asked.storage)
    lenses = run.setups(manifest, recipes)
    if costs is None:
        device = device_called(asked.device)
        kind = device.type
    else:
        kind = costs.device if asked.device is None else named(asked.device).type
    per_shard = asked.shard_units or units_per_shard(kind)
    stages = run.stages(manifest, wanted, recipes, per_shard, costs or UNMEASURED)
    if costs is None:
        out.print(f"No --rates: measuring on this machine, for {LIMIT_SECONDS:g} s at most.")
        keep_freed_memory()  # as workers do
        probed = probe(stages, lenses, device, imported)
        costs, start = probed.costs, probed.start
        seconds = "those of a core" if kind == "cpu" else "those of a clock"
        out.print(
            f"Measured in {probed.took:.1f} s, each layer through each lens counted: {len(costs.rates):,}. "
            f"Seconds are {seconds}.",
            soft_wrap=True,
        )
    workers = asked.workers or (num_cores() if kind == "cpu" else 1)
    for line in forecast(stages, lenses, costs, workers, price, start):
        out.print(line, soft_wrap=True)
