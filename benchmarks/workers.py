"""Processes that do the same kind of work at the same time, as the local engine's do: one thread each on a CPU.

Each measurement has processes of its own: what they take at most is then theirs alone, and nothing that ran before
them helps or hinders.
"""

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self

import torch

Prepare = Callable[[], Callable[[Any], Any]]  # what a process makes once -> what it does with each task


class Workers:
    """`count` processes. Leave the context, and they end."""

    def __init__(self, count: int, prepare: Prepare, threads: int = 1):
        context = multiprocessing.get_context("spawn")
        self._processes, self._connections = [], []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, prepare, threads))
            process.start()
            theirs.close()
            self._processes.append(process)
            self._connections.append(ours)

    def together(self, task: Any) -> tuple[float, list[Any]]:
        """All do the same task: seconds until the last is done, and their answers."""
        start = time.perf_counter()
        for connection in self._connections:
            connection.send(task)
        answers = [_answer(connection) for connection in self._connections]
        return time.perf_counter() - start, answers

    def spread(self, tasks: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Each task is done by one of them: tasks with their answers, as they are done."""
        waiting = iter(tasks)
        doing: dict[Connection, Any] = {}

        def take(connection: Connection) -> None:
            for task in waiting:
                connection.send(task)
                doing[connection] = task
                return

        for connection in self._connections:
            take(connection)
        while doing:
            for connection in (ready for ready in wait(list(doing)) if isinstance(ready, Connection)):
                task = doing.pop(connection)
                answer = _answer(connection)
                take(connection)
                yield task, answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            if kind:
                process.kill()
            process.join()


def _answer(connection: Connection) -> Any:
    done, answer = connection.recv()
    if not done:
        raise RuntimeError(f"a process of the benchmark failed: {answer}")
    return answer


def _work(connection: Connection, prepare: Prepare, threads: int) -> None:
    torch.set_num_threads(threads)
    do = None
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):  # the other end is closed: there is no more to do
            return
        try:
            do = do or prepare()
            answer = True, do(task)
        except Exception as error:  # told to the process that waits for it, which raises it
            answer = False, f"{type(error).__name__}: {error}"
        connection.send(answer)


def peak_memory(device: str) -> int:
    """The most bytes that this process, or its part of a GPU, has held so far."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return most * (1 if sys.platform == "darwin" else 1024)
