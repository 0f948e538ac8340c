"""What a cluster would do with some jobs: list scheduling, as every engine does it. Pure."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """How a run goes. Times in seconds."""

    workers: int
    jobs: int
    makespan: float  # from the first job's start to the last one's end
    busy: float  # of all workers together
    tail: float  # at the ends of the rounds, from the first worker without a job to the last with one
    longest: float  # job

    @property
    def paid(self) -> float:
        """Of all workers together: each is there until the end."""
        return self.workers * self.makespan

    @property
    def idle(self) -> float:
        """Share of what is paid in which workers wait, in [0, 1]."""
        return 1 - self.busy / self.paid if self.paid else 0.0


def simulate(rounds: Iterable[Sequence[float]], workers: int) -> Schedule:
    """The schedule of jobs that take so many seconds: each goes, in the given order, to the first worker that is free.

    A round begins when the one before has ended. With the longest jobs first the makespan of a round is at most
    4/3 - 1/(3 workers) times the best there is: Graham 1969, https://doi.org/10.1137/0117039.
    """
    makespan = busy = tail = longest = 0.0
    count = 0
    for seconds in rounds:
        free = [0.0] * workers
        for job in seconds:
            heapq.heapreplace(free, free[0] + job)
        if seconds:
            makespan += max(free)
            tail += max(free) - min(free)
            busy += sum(seconds)
            longest = max(longest, *seconds)
            count += len(seconds)
    return Schedule(workers, count, makespan, busy, tail, longest)
