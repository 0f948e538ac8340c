"""How long a run would take on so many workers, and what it would cost: a simulation by what its jobs take.

Jobs are handed out one by one, those that share a pass together, as every engine does it: list scheduling.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.run.costs import WRONG_BY, Basis, Costs, Lenses, together

START_SECONDS = 4.0  # of a core, in which a process loads PyTorch and a network, where nobody has measured


@dataclass(frozen=True)
class Schedule:
    """How a run goes. Times in seconds."""

    workers: int
    jobs: int
    makespan: float  # from the start of the first workers to the end of the last job
    busy: float  # of all workers together, with jobs
    starting: float  # of all workers together, before they have a job
    tail: float  # at the ends of the rounds, from the first worker without a job to the last with one
    longest: float  # job

    @property
    def paid(self) -> float:
        """Of all workers together: each is there until the end."""
        return self.workers * self.makespan

    @property
    def idle(self) -> float:
        """Share of what is paid in which workers wait, in [0, 1]."""
        return max(0.0, 1 - (self.busy + self.starting) / self.paid) if self.paid else 0.0


def simulate(rounds: Iterable[Sequence[float]], workers: int, start: float = 0.0) -> Schedule:
    """The schedule of jobs that take so many seconds: each goes, in the given order, to the first worker that is free.

    A round begins when the one before has ended, with new workers, one a job at most, which take `start` seconds to be
    ready. With the longest jobs first the makespan of a round is at most 4/3 - 1/(3 workers) times the best there is:
    Graham 1969, https://doi.org/10.1137/0117039.
    """
    makespan = busy = starting = tail = longest = 0.0
    count = 0
    for seconds in rounds:
        free = [start] * min(workers, max(1, len(seconds)))  # others have nothing to do
        for job in seconds:
            heapq.heapreplace(free, free[0] + job)
        if seconds:
            makespan += max(free)
            tail += max(free) - (min(free) if workers <= len(seconds) else start)
            starting += min(workers, len(seconds)) * start
            busy += sum(seconds)
            longest = max(longest, *seconds)
            count += len(seconds)
    return Schedule(workers, count, makespan, busy, starting, tail, longest)


def forecast(
    stages: Sequence[Sequence[UnitRange]],
    lenses: Lenses,
    costs: Costs,
    workers: int,
    price: float | None = None,
    start: float = START_SECONDS,
) -> Iterator[str]:
    """Lines to read: time, tail and cost of jobs in rounds, and what each number rests on.

    `price` is that of a worker for an hour; `start` the seconds in which a process starts, the run's own and, where
    there are several, each worker's in each round. Left out is whatever breaks, and what there is no rate for.
    """
    jobs, unknown = list[list[tuple[str, float, Basis]]](), set[str]()
    for stage in stages:
        jobs.append([])
        for each in together(stage, lambda units: units, lenses):
            basis = _weakest(costs.basis(units, lenses) for units in each)
            if basis == "nothing":
                unknown.add(each[0].lens)
            else:
                jobs[-1].append((each[0].lens, costs.seconds_together(each, lenses), basis))
    each_start = start if workers > 1 else 0.0

    def at(factor: Callable[[float], float]) -> Schedule:
        rounds = [[seconds * factor(WRONG_BY[basis]) for _, seconds, basis in stage] for stage in jobs]
        return simulate(rounds, workers, each_start)

    schedule, least, most = at(lambda wrong: 1.0), at(lambda wrong: 1 / wrong), at(lambda wrong: wrong)
    if not schedule.jobs:
        yield (
            "no time can be said: nothing was measured; try again when this machine is less busy, or give --rates"
            if unknown
            else "nothing is missing: there is nothing to render"
        )
        return
    yield (
        f"{schedule.jobs:,} jobs on {workers:,} workers: {_time(start + schedule.makespan)}, "
        f"between {_time(start + least.makespan)} and {_time(start + most.makespan)}; "
        f"the longest job takes {_time(schedule.longest)}"
    )
    yield f"starting up: {_time(start)} of the run, {_time(schedule.starting)} of all workers together"
    yield f"tail: {_time(schedule.tail)} in all with workers that have nothing left to do"
    paid = f"cost: {schedule.paid / 3600:,.2f} worker-hours, {100 * schedule.idle:.1f}% of them idle"
    yield paid if price is None else f"{paid}; at {price:g} an hour {price * schedule.paid / 3600:,.2f}"
    resting: dict[Basis, dict[str, float]] = defaultdict(lambda: defaultdict(float))  # seconds, by lens
    for name, seconds, basis in (job for stage in jobs for job in stage):
        resting[basis][name] += seconds
    for basis, wrong in WRONG_BY.items():
        if basis in resting:
            named = ", ".join(f"{name} {_time(each)}" for name, each in resting[basis].items())
            yield f"by {basis}, which may be wrong by a factor of {wrong:g}: {named}"
    if unknown:
        yield f"left out, for want of any rate: {', '.join(sorted(unknown))}"


def _weakest(found: Iterable[Basis]) -> Basis:
    """Of what several jobs rest on, what may be most wrong; nothing, where that is so of any."""
    each = set(found)
    return "nothing" if "nothing" in each else max(each, key=lambda basis: WRONG_BY[basis])


def _time(seconds: float) -> str:
    """`1.50 h`, `12.3 min`, `4.2 s`."""
    if seconds >= 3600:
        return f"{seconds / 3600:,.2f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"
