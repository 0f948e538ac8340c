"""List scheduling, against known answers, an event-by-event simulation."""

import itertools
from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generate.simulate import simulate

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
