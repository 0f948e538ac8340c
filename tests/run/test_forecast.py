"""List scheduling, against known answers, a simulation event by event, and a real engine; what is said of it."""

import itertools
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.run.costs import Costs, Rate
from microscope_atlas.run.engines.local import LocalEngine
from microscope_atlas.run.forecast import forecast, simulate
from microscope_atlas.run.plan import Job
from microscope_atlas.run.shard import ShardFinished
from tests.atlases import HERE, LENS, RECIPE
from tests.run.engines.sleeping import NAME, TOGETHER
from tests.run.test_costs import FIRST, LENSES_DRAFT, of

SECONDS = st.lists(st.integers(1, 100), min_size=1, max_size=30)


def test_known_schedule() -> None:
    """Graham's example, on which longest-first does worst: 11 instead of 9 on three workers."""
    schedule = simulate([[5, 5, 4, 4, 3, 3, 3]], 3)
    assert (schedule.makespan, schedule.busy, schedule.paid) == (11, 27, 33)
    assert schedule.tail == 11 - 8
    assert schedule.idle == pytest.approx(6 / 33)
    assert (schedule.jobs, schedule.longest) == (7, 5)


def test_long_job_at_the_end_makes_a_tail() -> None:
    assert simulate([[1, 1, 1, 1, 8]], 2).makespan == 10
    assert simulate([[8, 1, 1, 1, 1]], 2).makespan == 8


def test_rounds_wait_for_each_other() -> None:
    schedule = simulate([[4, 2], [], [3]], 2)
    assert (schedule.makespan, schedule.busy, schedule.tail) == (7, 9, 2 + 3)


def test_nothing_to_do_takes_no_time() -> None:
    schedule = simulate([[], []], 8)
    assert (schedule.makespan, schedule.idle, schedule.longest) == (0, 0, 0)


def test_each_round_starts_workers_that_are_paid_for() -> None:
    schedule = simulate([[4, 2], [], [3]], 2, start=1)
    assert (schedule.makespan, schedule.busy, schedule.starting, schedule.tail) == (9, 9, 3, 2 + 3)
    assert schedule.idle == pytest.approx((18 - 12) / 18)


def test_forecast_says_span_tail_cost_and_what_it_rests_on() -> None:
    costs = Costs(of(FIRST, 360.0))
    jobs = [replace(FIRST, start=unit, stop=unit + 1) for unit in range(3)]
    derived = UnitRange("units", FIRST.model, "stem", 0, 32)
    assert list(forecast([jobs, [derived]], LENSES_DRAFT, costs, 2, price=2.0, start=6.0)) == [
        "4 jobs on 2 workers: 12.3 min, between 10.3 min and 14.7 min; the longest job takes 6.0 min",
        "starting up: 6.0 s of the run, 18.0 s of all workers together",
        "tail: 6.0 min in all with workers that have nothing left to do",
        "cost: 0.41 worker-hours, 25.0% of them idle; at 2 an hour 0.81",
        "by a rate of the file, which may be wrong by a factor of 1.2: feature_visualization 18.0 min",
        "by a constant, which may be wrong by a factor of 3: units 0.6 s",
    ]


def test_forecast_counts_what_shares_a_pass_once() -> None:
    layers = [UnitRange("responses", FIRST.model, name, 0, 1) for name in ("stem", "blocks_0", "blocks_1")]
    costs = Costs({(each.lens, each.model, each.layer): Rate(10.0, "a rate of the file") for each in layers})
    taken = costs.seconds_together(layers, LENSES_DRAFT)
    assert taken < sum(costs.seconds(each, LENSES_DRAFT) for each in layers)
    first, *_, last = forecast([layers], LENSES_DRAFT, costs, 2, start=0.0)
    assert first.startswith(f"1 jobs on 2 workers: {taken / 60:.1f} min")
    assert last.endswith(f"responses {taken / 60:.1f} min")


def test_forecast_of_nothing_says_so() -> None:
    assert list(forecast([[], []], LENSES_DRAFT, Costs(), 2)) == ["nothing is missing: there is nothing to render"]


def test_forecast_names_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(LENSES_DRAFT["units"].lens), "unit_seconds", None)
    derived = UnitRange("units", FIRST.model, "stem", 0, 32)
    costs = Costs({(FIRST.lens, FIRST.model, FIRST.layer): Rate(1.0, "a probe of its layer")})
    first, *others = forecast([[FIRST], [derived]], LENSES_DRAFT, costs, 2)
    assert first.startswith("1 jobs on ")
    assert "left out, for want of any rate: units" in others


def test_forecast_without_any_rate_says_no_time() -> None:
    derived = UnitRange("units", FIRST.model, "stem", 0, 32)
    (said,) = forecast([[FIRST], [derived]], LENSES_DRAFT, Costs(), 2)
    assert said.startswith("no time can be said: nothing was measured")


def by_events(jobs: Sequence[int], workers: int) -> int:
    """The makespan, second by second: whoever is free takes the next job."""
    waiting, left, clock = deque(jobs), [0] * workers, 0
    while waiting or any(left):
        left = [waiting.popleft() if not seconds and waiting else seconds for seconds in left]
        left = [max(seconds - 1, 0) for seconds in left]
        clock += 1
    return clock


@given(SECONDS, st.integers(1, 8))
def test_schedule_is_that_of_a_simulation_by_events(jobs: list[int], workers: int) -> None:
    assert simulate([jobs], workers).makespan == by_events(jobs, workers)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=7), st.integers(1, 3))
def test_longest_first_is_within_its_bound_of_the_best(jobs: list[int], workers: int) -> None:
    shares = itertools.product(range(workers), repeat=len(jobs))
    best = min(
        max(sum(j for j, at in zip(jobs, share, strict=True) if at == w) for w in range(workers)) for share in shares
    )
    assert best <= simulate([sorted(jobs, reverse=True)], workers).makespan <= (4 / 3 - 1 / (3 * workers)) * best + 1e-9


@given(SECONDS, st.integers(1, 64))
def test_makespan_lies_between_its_bounds(jobs: list[int], workers: int) -> None:
    schedule = simulate([jobs], workers)
    assert max(max(jobs), sum(jobs) / workers) <= schedule.makespan <= sum(jobs) / workers + max(jobs)
    assert 0 <= schedule.tail <= max(jobs)


@pytest.mark.hours  # what runs beside it slows its workers down
def test_engine_takes_as_long_as_its_simulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = organism(NAME)
    (layer,) = known.layers
    sha256 = weights.load(known).sha256
    sizes = [6, 4, 3, 3, 2, 2, 1, 1]  # units, to begin with the longest
    jobs, start = [], 0
    for size in sizes:
        jobs.append(Job(UnitRange(LENS, NAME, layer, start, start + size), RECIPE, "pretrained", sha256))
        start += size
    seconds = []
    for job in jobs:
        began = time.monotonic()
        assert isinstance(list(HERE.run([job], Folder(tmp_path / "alone")))[-1], ShardFinished)
        seconds.append(time.monotonic() - began)
    assert seconds[0] > 2 * seconds[-1]  # three times, but for what is the same for all: one unit is paired with a copy
    together = tmp_path / "together"
    together.mkdir()
    monkeypatch.setenv(TOGETHER, f"2:{together}")
    events = LocalEngine(torch.device("cpu"), workers=2).run(jobs, Folder(tmp_path / "atlas"))
    finished = 0
    while len(list(together.iterdir())) < 2:
        finished += isinstance(next(events), ShardFinished)
    began = max(file.stat().st_mtime for file in together.iterdir())
    finished += sum(isinstance(event, ShardFinished) for event in events)
    assert finished == len(jobs)
    took = max(file.stat().st_mtime for file in tmp_path.glob("atlas/**/*.parquet")) - began
    # one after the other they would take twice as long
    assert 0.9 < took / simulate([seconds], 2).makespan < 1.5
