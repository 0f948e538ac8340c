"""Progress on a terminal: how much is done, how fast, and how long it will still take."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from microscope_atlas.hub import repo as hub
from microscope_atlas.lenses.registry import lens
from microscope_atlas.run import run


class Rate(ProgressColumn):
    """Units, or layers, a second."""

    def render(self, task: Task) -> str:
        return f"{task.speed:.2f}/s" if task.speed else ""


class Count(ProgressColumn):
    """Units, or layers, finished and to do."""

    def render(self, task: Task) -> str:
        return f"{int(task.completed)}/{int(task.total or 0)}"


@contextmanager
def rendering(console: Console) -> Iterator[run.Listen]:
    """A bar for each lens; and a word where memory was too short for a batch."""
    columns = (TextColumn("{task.description}"), BarColumn(), Count(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, refresh_per_second=2, speed_estimate_period=120) as bars:
        tasks: dict[str, TaskID] = {}
        batches: dict[str, int | None] = {}

        def listen(progress: run.Progress) -> None:
            if progress.lens not in tasks:
                what = f"{progress.lens}, {lens(progress.lens).level}s"
                tasks[progress.lens] = bars.add_task(what, total=progress.todo)
            bars.update(tasks[progress.lens], completed=float(progress.done))
            if progress.batch != batches.get(progress.lens):
                batches[progress.lens] = progress.batch
                console.print(
                    f"{progress.lens}: no memory left; going on with a batch of {progress.batch}, which its rows say. "
                    f"--batch {progress.batch} begins with that; fewer --workers leave more to each.",
                    highlight=False,
                    soft_wrap=True,
                )

        yield listen


@contextmanager
def sending(console: Console, what: str) -> Iterator[hub.Listen]:
    """A bar of bytes sent."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, refresh_per_second=2) as bars:
        tasks: list[TaskID] = []

        def listen(sent: int, total: int) -> None:
            if not tasks:
                tasks.append(bars.add_task(what))
            bars.update(tasks[0], completed=sent, total=total)

        yield listen
