"""What the command line prints: tables with their columns explained, and how far long work has come.

On a terminal progress is a bar. Elsewhere, under nohup or Slurm, it is a plain line every LOG_SECONDS.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.filesize import decimal
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

if TYPE_CHECKING:
    from microscope_atlas.run import run

LOG_SECONDS = 30.0  # between two lines, where output is no terminal


class Rate(ProgressColumn):
    """Units, or layers, a second."""

    def render(self, task: Task) -> str:
        return f"{task.speed:.2f}/s" if task.speed else ""


class Count(ProgressColumn):
    """Units, or layers, finished and to do."""

    def render(self, task: Task) -> str:
        return f"{int(task.completed)}/{int(task.total or 0)}"


@contextmanager
def rendering(console: Console) -> "Iterator[run.Listen]":
    """How far each lens is; and a word where memory was too short for a batch."""
    batches: dict[str, int | None] = {}

    def say_batch(progress: "run.Progress") -> None:
        if progress.batch != batches.get(progress.lens):
            batches[progress.lens] = progress.batch
            console.print(
                f"{progress.lens}: no memory left; going on with a batch of {progress.batch}, which its rows say. "
                f"--batch {progress.batch} begins with that; fewer --workers leave more to each.",
                soft_wrap=True,
            )

    if not console.is_terminal:
        with _logging(console) as log:

            def tell(progress: "run.Progress") -> None:
                log.update(progress.lens, f"{progress.level}s", float(progress.done), progress.todo)
                say_batch(progress)

            yield tell
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), Count(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, refresh_per_second=2, speed_estimate_period=120) as bars:
        tasks: dict[str, TaskID] = {}

        def listen(progress: "run.Progress") -> None:
            if progress.lens not in tasks:
                tasks[progress.lens] = bars.add_task(f"{progress.lens}, {progress.level}s", total=progress.todo)
            bars.update(tasks[progress.lens], completed=float(progress.done))
            say_batch(progress)

        yield listen


@contextmanager
def transferring(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Bytes sent or fetched: call what this gives with how many so far, and of how many; 0 where nobody says."""
    if not console.is_terminal:
        with _logging(console) as log:
            yield lambda done, total: log.update(what, "bytes", done, total)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, refresh_per_second=2) as bars:
        tasks: list[TaskID] = []

        def listen(done: int, total: int) -> None:
            if not tasks:
                tasks.append(bars.add_task(what))
            bars.update(tasks[0], completed=done, total=total or None)

        yield listen


class _Log:
    """Lines of plain text about work that goes on."""

    def __init__(self, console: Console):
        self._console, self._started = console, time.monotonic()
        self._state: dict[str, tuple[str, float, float]] = {}  # name -> what is counted, done, in all
        self._said: dict[str, float] = {}  # name -> done when it was last spoken of
        self._lock = threading.Lock()

    def update(self, name: str, what: str, done: float, total: float) -> None:
        with self._lock:
            self._state[name] = (what, done, total)
            if total and done >= total:
                self._say(name)

    def say_all(self) -> None:
        """A line about each work that has begun and is not finished."""
        with self._lock:
            for name, (_, done, total) in self._state.items():
                if done and not (total and done >= total):
                    self._say(name)

    def _say(self, name: str) -> None:
        what, done, total = self._state[name]
        if self._said.get(name) == done and done >= total:
            return
        self._said[name] = done
        rate = done / max(time.monotonic() - self._started, 1e-9)
        left = f", {_time((total - done) / rate)} left" if rate and 0 < done < total else ""
        shown = decimal if what == "bytes" else lambda count: f"{int(count):,}"
        of = f"{shown(int(done))} of {shown(int(total))}" if total else shown(int(done))
        speed = f"{decimal(int(rate))}/s" if what == "bytes" else f"{rate:.2f}/s"
        unit = "" if what == "bytes" else f" {what}"
        self._console.print(f"{name}: {of}{unit}, {speed}{left}", soft_wrap=True)


@contextmanager
def _logging(console: Console) -> Iterator[_Log]:
    """A log that speaks every LOG_SECONDS, also while nothing is told of the work."""
    log, ended = _Log(console), threading.Event()

    def speak() -> None:
        while not ended.wait(LOG_SECONDS):
            log.say_all()

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield log
    finally:
        ended.set()
        speaker.join()


def print_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Print rows as a table, and below it what its columns say, where that is not plain from their names."""
    names = [name.replace("_", " ") for name in columns]
    table = [names, *([_cell(row[name]) for name in columns] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    for cells in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
    if explained := {name: meaning for name, meaning in zip(names, columns.values(), strict=True) if meaning}:
        print()
        for name, meaning in explained.items():
            print(f"{name}: {meaning}")


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:,.0f}" if isinstance(value, float) else str(value)


def _time(seconds: float) -> str:
    """`2 h 5 min`, `12 min`, `40 s`."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
    return f"{int(seconds // 60)} min" if seconds >= 60 else f"{int(seconds)} s"
