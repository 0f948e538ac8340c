"""Short renders that tell what this machine takes, where nobody has measured it.

The code that renders is timed with few steps of few units, on random weights, which take as long as trained ones. A
job takes a while however few its steps, and more in proportion to them; two renders of different length tell both.
"""

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.storage import Storage
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.lenses.recipe import Recipe
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.pictures.sets import place_of
from microscope_atlas.run.costs import UNMEASURED, Costs, Lenses, Rate, whole
from microscope_atlas.run.plan import Job
from microscope_atlas.run.shard import device_name, one_thread, rows

LIMIT_SECONDS = 10.0
STEPS = (1, 3)
UNITS = 4  # of a lens whose units are spread over jobs: a batch, as the run's are
SLOWER = 8.0  # than a convolution: what a small network takes for an operation, its canvas and files included
SAFE = 0.7  # share of the time left that a probe may be expected to take
MOST_PARTS = 256  # of a lens' cost, between which layers are picked
LEAST = 1e-6  # seconds of a unit, below which clocks tell nothing

Place = tuple[str, str, str]  # lens, model, layer


@dataclass(frozen=True)
class Probed:
    """What was found."""

    costs: Costs
    start: float  # seconds in which a process starts and loads a network
    took: float  # seconds of measuring


def probe(
    stages: Sequence[Sequence[UnitRange]],
    lenses: Lenses,
    device: torch.device,
    imported: float,
    limit: float = LIMIT_SECONDS,
) -> Probed:
    """Measure the layers and lenses of some jobs, as many as `limit` seconds allow: first what costs most.

    On a CPU seconds are those of a core, whatever else the machine is busy with; on an accelerator those of a clock.
    `imported` are the seconds in which this process has loaded what a worker loads.
    """
    began = time.monotonic()
    shares: dict[Place, float] = defaultdict(float)  # operations
    for units in (units for stage in stages for units in stage if not lenses[units.lens].lens.reads):
        shares[units.lens, units.model, units.layer] += UNMEASURED.seconds(units, lenses)
    rates: dict[Place, Rate] = {}
    loaded: dict[str, str] = {}
    loading = 0.0
    with TemporaryDirectory() as folder:
        timed = _Timed(Folder(Path(folder)), device, lenses, began + limit)
        pace, paces = timed.pace(), dict[str, float]()  # seconds for an operation; of the last probe of each lens
        waiting = _candidates(shares)
        while any(waiting.values()):
            for name, places in waiting.items():
                fresh = {each: sum(shares[at] for at in ours) for each, ours in waiting.items() if each not in paces}
                left = SAFE * (began + limit - time.monotonic())
                most = left * fresh[name] / sum(fresh.values()) if fresh.get(name) else left
                expected = paces.get(name) or median([*paces.values()] or [pace])
                fitting = [place for place in places if expected * timed.work(place) <= most]
                if not fitting:
                    places.clear()
                    continue
                place, model = fitting[0], fitting[0][1]
                places.remove(place)
                if model not in loaded:
                    start = time.process_time()
                    loaded[model] = weights.load(organism(model), "random").sha256
                    loading = max(loading, time.process_time() - start)
                seconds = timed.seconds(place, loaded[model])
                paces[name] = timed.took / timed.work(place)
                if seconds is not None:
                    rates[place] = Rate(max(seconds, LEAST), "a probe of its layer")
    return Probed(Costs(rates, None, device_name(device)), imported + loading, time.monotonic() - began)


def _candidates(shares: Mapping[Place, float]) -> dict[str, list[Place]]:
    """Layers of each lens, costly lenses first: the one in the middle of its cost, those at its quarters, and so on.

    So most is known of what costs most. `shares` are what each place costs of the whole.
    """
    of: dict[str, list[Place]] = defaultdict(list)
    for place in sorted(shares, key=lambda place: shares[place]):
        of[place[0]].append(place)
    found = {}
    for name in sorted(of, key=lambda name: -sum(shares[place] for place in of[name])):
        places, parts = of[name], 2
        ends = list(accumulate(shares[place] for place in places))
        picked: dict[Place, None] = {}
        while len(picked) < len(places) and parts <= MOST_PARTS:
            for part in range(1, parts, 2):
                picked[places[min(bisect_left(ends, ends[-1] * part / parts), len(places) - 1)]] = None
            parts *= 2
        found[name] = list(picked)
    return found


class _Timed:
    """Renders that are timed."""

    def __init__(self, storage: Storage, device: torch.device, lenses: Lenses, deadline: float):
        self.storage, self.device, self.lenses, self.deadline = storage, device, lenses, deadline
        self.took = 0.0  # seconds of a clock on the wall, of the last renders
        self._warm: set[tuple[str, str]] = set()  # lenses and models
        self.clock = time.process_time if device.type == "cpu" else time.monotonic

    def pace(self) -> float:
        """Seconds for an operation, before a lens was timed: those of a convolution, of which networks need more."""
        kernels, maps = torch.rand(64, 64, 3, 3, device=self.device), torch.rand(4, 64, 28, 28, device=self.device)
        torch.nn.functional.conv2d(maps, kernels).sum().item()
        took = []
        with one_thread():
            for _ in range(5):
                began = time.monotonic()
                torch.nn.functional.conv2d(maps, kernels).sum().item()
                took.append(time.monotonic() - began)
        return SLOWER * min(took) / (2 * kernels.numel() * 4 * 26**2)

    def seconds(self, place: Place, sha256: str) -> float | None:
        """Of a unit; None where time ran out."""
        one, recipe = self.lenses[place[0]].lens, self.lenses[place[0]].recipe
        layer = organism(place[1]).layer(place[2])
        short, long = (one.shortened(recipe, steps) for steps in STEPS)
        few, some, full = (one.passes(layer, each) for each in (short, long, recipe))
        units = range(min(UNITS, layer.units) if one.divisible else layer.units)
        began = time.monotonic()
        if few == some:
            taken = self._once(place, units, short, sha256)
            self.took = time.monotonic() - began
            return None if taken is None else taken * full / few / len(units)
        if place[:2] not in self._warm:
            self._warm.add(place[:2])
            self._once(place, units, short, sha256)  # finds kernels, and reads pictures
            began = time.monotonic()
        again, more = (self._once(place, units, each, sha256) for each in (short, long))
        self.took = time.monotonic() - began
        if again is None or more is None:
            return None
        slope = max(more - again, 0.0) / (some - few)
        return (again + slope * (full - few)) / len(units)

    def _once(self, place: Place, units: range, recipe: Recipe, sha256: str) -> float | None:
        job = Job(
            UnitRange(*place, units.start, units.stop),
            recipe,
            "random",
            sha256,
            maker=self.lenses[place[0]].maker,
            pictures=place_of(recipe),
        )
        began = self.clock()
        for _ in rows(job, self.storage, self.device):
            if time.monotonic() > self.deadline:
                return None
        return self.clock() - began

    def work(self, place: Place) -> float:
        """Floating-point operations of what `seconds` does."""
        one, recipe = self.lenses[place[0]].lens, self.lenses[place[0]].recipe
        layer = organism(place[1]).layer(place[2])
        short, long = (one.passes(layer, one.shortened(recipe, steps)) for steps in STEPS)
        done = short if short == long else short + long
        flops, sharing = whole(place[0], place[1], place[2], self.lenses)
        return flops * (min(UNITS, layer.units) if sharing == 1 else 1) * done / one.passes(layer, recipe)
