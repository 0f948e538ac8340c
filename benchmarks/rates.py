"""What lenses cost on a layer: measured in short renders, and interpolated between layers by their arithmetic."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.ours import LENS
from benchmarks.workers import Workers
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.atlas.storage import WritableStorage
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.lenses import deepdream
from microscope_atlas.lenses.recipe import Quality, changed
from microscope_atlas.lenses.registry import UNASKED, lens
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.run import run
from microscope_atlas.run.engines.engine import Event
from microscope_atlas.run.engines.local import LocalEngine, keep_freed_memory
from microscope_atlas.run.plan import Job
from microscope_atlas.run.shard import rows

STEPS = ("ascent.steps", "picture_ascent.steps", "maco.steps")  # of recipes: where they say how long they ascend
PASS = "pass"
WHOLE = (PASS, "stimuli")  # parts that are done for all units of a layer at once


@dataclass(frozen=True)
class Rate:
    """Seconds of the machine for a picture of a part: one for each of its steps, and whatever these are."""

    flop: float  # of the layer
    step: float
    picture: float


Rates = dict[str, Rate]  # by the name of the part


def part_of(row: Mapping[str, Any]) -> str:
    """The name of the part that made a row."""
    if "method" in row:
        return "variants" if row["variant"] else str(row["method"])
    if "start" in row:
        return "noise" if row["start"] == deepdream.NOISE else "pictures"
    return "stimuli" if "family" in row else "sources" if "source" in row else PASS


def shortened(recipe: Any, steps: int) -> Any:
    """A recipe that ascends so many steps and no more."""
    known = {field.name for field in fields(recipe)}
    if "hues" in known:  # one grating and one curve, and the rest colours
        few = dict.fromkeys(("orientations", "frequencies", "phases", "directions", "curvatures", "offsets"), 1)
        return replace(recipe, **few, lightnesses=1, hues=recipe.batch * steps - 3)
    asked = {path: steps for path in STEPS if path.split(".")[0] in known}
    redirected = {path.replace("steps", "redirect_steps"): 1 for path in asked if "ascent" in path}  # as most are not
    return changed(recipe, {**asked, **redirected})


def arithmetic(name: str, recipe: Any, model: str, layer: Layer) -> float:
    """FLOP that the cost of a layer is taken to grow with: of a picture; of a pass, of all of it."""
    one = lens(name)
    flop = one.flops(organism(model), layer, recipe) * (1 if one.level == "unit" and one.divisible else layer.units)
    return flop / sum(part.pictures * max(1, part.steps) for part in one.parts(recipe))


def measured(
    us: Workers, name: str, recipe: Any, model: str, layer: Layer, fewest: int, steps: int, units: int | None
) -> Rates:
    """One layer through one lens, by workers that are `ready`: the rate of each of its parts, all of them together.

    Pictures ascend `fewest` steps, and `steps` more. UnitRange are as many as the recipe has at once at most where no
    number is given; all, where the lens makes them in one pass.
    """
    count = min(units or recipe.batch, layer.units) if lens(name).divisible else layer.units
    known = lens(name).parts(recipe)

    def seconds(recipe: Any) -> dict[str, float]:
        _, answers = us.together((UnitRange(name, model, layer.name, 0, count), recipe))
        return {part.name: sum(each[part.name] for each in answers) / len(answers) ** 2 for part in known}

    flop = arithmetic(name, recipe, model, layer)
    if not any(part.steps for part in known):
        return {part: Rate(flop, 0.0, taken) for part, taken in seconds(recipe).items()}
    seconds(shortened(recipe, 1))  # finds kernels
    short, long = (seconds(shortened(recipe, number)) for number in (fewest, fewest + steps))
    slope = {part: max(long[part] - short[part], 0.0) / steps for part in short}
    return {part: Rate(flop, slope[part], max(short[part] - fewest * slope[part], 0.0)) for part in short}


def ready(device: str) -> Callable[[tuple[UnitRange, Any]], dict[str, float]]:
    """A worker's task: the rows of a shard, as they are stored, with random weights; seconds a picture, or a pass."""
    keep_freed_memory()

    @lru_cache(maxsize=1)
    def loaded(model: str, layer: str) -> str:
        """The hash of the model's weights, once the network is there."""
        sha256 = weights.load(organism(model), "random").sha256
        made(UnitRange(LENS, model, layer, 0, 1), shortened(lens(LENS).recipe("draft"), 1), sha256)
        return sha256

    def made(units: UnitRange, recipe: Any, sha256: str) -> dict[str, float]:
        seconds: dict[str, float] = defaultdict(float)
        pictures: dict[str, int] = defaultdict(int)
        start = time.perf_counter()
        with TemporaryDirectory() as folder:
            for some in rows(Job(units, recipe, "random", sha256), Folder(Path(folder)), torch.device(device)):
                now = time.perf_counter()
                seconds[part_of(some[0])] += now - start
                pictures[part_of(some[0])] += len(some)
                start = now
        return {part: taken / (1 if part in WHOLE else pictures[part]) for part, taken in seconds.items()}

    def do(task: tuple[UnitRange, Any]) -> dict[str, float]:
        units, recipe = task
        return made(units, recipe, loaded(units.model, units.layer))

    return do


def digested(place: str, quality: Quality, device: str, workers: int) -> dict[str, float]:
    """Seconds for a unit of each lens that digests rows, all processes together: of an atlas of one layer."""
    with Workers(workers, partial(_digests, quality, device)) as us:
        _, answers = us.together(place)
    return {name: sum(each[name] for each in answers) / len(answers) ** 2 for name in answers[0]}


class _Clock:
    """An engine that notes how long the jobs of each lens take."""

    def __init__(self, device: torch.device):
        self.seconds: dict[str, float] = defaultdict(float)
        self._engine = LocalEngine(device)

    def run(self, jobs: Sequence[Job], storage: WritableStorage) -> Iterator[Event]:
        """See Engine."""
        for job in jobs:
            start = time.perf_counter()
            yield from self._engine.run([job], storage)
            self.seconds[job.units.lens] += time.perf_counter() - start


def _digests(quality: Quality, device: str) -> Callable[[str], dict[str, float]]:
    keep_freed_memory()

    def make(place: str) -> dict[str, float]:
        model, _, layer = place.partition("/")
        known = organism(model)
        units = range(known.layer(layer).units)
        request = run.RenderRequest(known, weights.load(known, "random"), "random", {layer: units})
        recipes = {name: shortened(lens(name).recipe(quality), 1) for name in UNASKED}
        clock = _Clock(torch.device(device))
        with TemporaryDirectory() as folder:
            run.render(Folder(Path(folder) / "atlas"), [request], recipes, clock, len(units), lambda *_: None)
        return {name: clock.seconds[name] / len(units) for name in UNASKED if lens(name).reads}

    return make


def interpolated(known: Sequence[Rate], flop: float) -> Rate:
    """The rate at some arithmetic, from those known: between two on logarithmic scales, outside in proportion."""
    known = sorted(known, key=lambda rate: rate.flop)
    below = [rate for rate in known if rate.flop <= flop]
    above = [rate for rate in known if rate.flop >= flop]
    if not below or not above:
        near = below[-1] if below else above[0]
        return Rate(flop, near.step * flop / near.flop, near.picture * flop / near.flop)
    low, high = below[-1], above[0]
    share = math.log(flop / low.flop) / math.log(high.flop / low.flop) if high.flop > low.flop else 0.0

    def between(a: float, b: float) -> float:
        return a ** (1 - share) * b**share if a > 0 and b > 0 else a + share * (b - a)

    return Rate(flop, between(low.step, high.step), between(low.picture, high.picture))
