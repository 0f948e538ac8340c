"""How long a run would take on so many workers, and what it would cost: a simulation by measured rates."""

from collections.abc import Iterator, Sequence

from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.run.costs import Costs, Lenses
from microscope_atlas.run.simulate import simulate


def forecast(
    stages: Sequence[Sequence[UnitRange]], lenses: Lenses, costs: Costs, workers: int, price: float | None = None
) -> Iterator[str]:
    """Lines to read: hours, tail and cost of jobs in rounds; `price` is that of a worker for an hour.

    Left out are the seconds in which workers start, and whatever breaks.
    """
    jobs = [units for stage in stages for units in stage]
    schedule = simulate([[costs.seconds(units, lenses) for units in stage] for stage in stages], workers)
    yield (
        f"{len(jobs):,} jobs on {workers:,} workers: {_time(schedule.makespan)}; "
        f"the longest job takes {_time(schedule.longest)}"
    )
    yield f"tail: {_time(schedule.tail)} in all with workers that have nothing left to do"
    paid = f"cost: {schedule.paid / 3600:,.2f} worker-hours, {100 * schedule.idle:.1f}% of them idle"
    yield paid if price is None else f"{paid}; at {price:g} an hour {price * schedule.paid / 3600:,.2f}"
    measured = [units for units in jobs if costs.is_measured(units)]
    sure = sum(costs.seconds(units, lenses) for units in measured) / schedule.busy if schedule.busy else 1.0
    yield (
        f"rates: {len(measured):,} jobs by a rate of their own layer, {100 * sure:.0f}% of the time; "
        f"{len(jobs) - len(measured):,} estimated from their arithmetic and the rates of other layers"
    )
    if unknown := sorted({units.lens for units in jobs if not costs.seconds(units, lenses)}):
        yield f"left out, for want of any rate: {', '.join(unknown)}"


def _time(seconds: float) -> str:
    """`1.50 h`, `12.3 min`, `4.2 s`."""
    if seconds >= 3600:
        return f"{seconds / 3600:,.2f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"
