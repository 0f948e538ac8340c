"""Rendering on this machine: in this process, or in worker processes that share its cores."""

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from microscope_atlas.atlas.storage import WritableStorage
from microscope_atlas.errors import AtlasUnwritable, InvalidSetting
from microscope_atlas.malloc import M_MMAP_THRESHOLD, M_TOP_PAD, M_TRIM_THRESHOLD, mallopt
from microscope_atlas.run.engines.engine import Event, JobFailed, attempt
from microscope_atlas.run.plan import Bundle, Job, bundles, halves
from microscope_atlas.run.shard import ShardFinished
from microscope_atlas.stopping import SIGNALS

ATTEMPTS = 2  # at a job whose worker died under it; a job that kills every worker must not kill them for ever

KILLED = ": killed, as the kernel does where memory runs out; fewer --workers leave more to each"


MOST_A_CORE = 4  # workers; each holds PyTorch and a network


def num_workers(asked: int | None, device: torch.device) -> int:
    """How many processes render: as many as are asked for, else one a core on a CPU, and one on an accelerator.

    InvalidSetting for more than this machine can use.
    """
    most = MOST_A_CORE * num_cores()
    if asked is not None and not (type(asked) is int and 1 <= asked <= most):
        raise InvalidSetting(f"{asked} workers; this machine has {num_cores()} cores for us, expected 1 to {most}")
    return asked or (num_cores() if device.type == "cpu" else 1)


@dataclass(frozen=True)
class LocalEngine:
    """Shards one after the other in this process, or in `workers` processes at once."""

    device: torch.device
    workers: int = 1

    def run(self, jobs: Sequence[Job], storage: WritableStorage) -> Iterator[Event]:
        """See Engine. A worker that dies is replaced and its job tried again; one that fails says why.

        Of jobs that shared a pass each half is tried again, so that in the end none fails for another.
        """
        if self.workers == 1:
            for bundle in bundles(jobs):
                yield from attempt(bundle, storage, self.device)
            return
        yield from self._in_workers(deque(bundles(jobs)), storage)

    def _in_workers(self, waiting: deque[Bundle], storage: WritableStorage) -> Iterator[Event]:
        deaths = Counter[Job]()
        working: dict[Connection, _Worker] = {}
        try:
            while waiting or working:
                while waiting and len(working) < self.workers:
                    worker = _Worker(storage, self.device, waiting.popleft())
                    working[worker.connection] = worker
                for connection in wait(list(working)):
                    assert isinstance(connection, Connection)
                    worker = working[connection]
                    event = worker.event()
                    if event is None:
                        del working[connection]
                        job, *others = worker.left
                        deaths[job] += not others
                        if deaths[job] < ATTEMPTS:
                            waiting.extend(halves(worker.left))
                            continue
                        code = worker.process.exitcode
                        hint = KILLED if code == -signal.SIGKILL else ""
                        event = JobFailed(job, f"its worker died {ATTEMPTS} times, with exit code {code}{hint}")
                    elif isinstance(event, ShardFinished | JobFailed):
                        worker.left = worker.left[1:]
                        if not worker.left and waiting:
                            worker.take(waiting.popleft())
                        elif not worker.left:
                            del working[connection]
                            worker.leave()
                    yield event
        finally:
            for worker in working.values():
                worker.process.kill()
            for worker in working.values():
                worker.process.join()  # so that none touches the atlas once the run has let go of it


class _Worker:
    """A process that renders one bundle after another, and our end of the pipe to it."""

    def __init__(self, storage: WritableStorage, device: torch.device, bundle: Bundle):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(theirs, storage, device), daemon=True)
        with _uninterrupted():
            self.process.start()
        theirs.close()
        self.take(bundle)

    def take(self, bundle: Bundle) -> None:
        """Hand it a bundle."""
        self.left = bundle  # those that have not ended
        with suppress(OSError):  # it is dead already: that is what `event` finds next
            self.connection.send(bundle)

    def event(self) -> Event | None:
        """What it tells next; None where it died. AtlasUnwritable, raised there, is raised here."""
        try:
            event: Event | AtlasUnwritable = self.connection.recv()
        except (EOFError, OSError):  # OSError where it had not read its bundle yet
            self.leave()
            return None
        if isinstance(event, AtlasUnwritable):
            raise event
        return event

    def leave(self) -> None:
        """Let it read the end of its work, and wait until it is gone."""
        self.connection.close()
        self.process.join()


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """What is started within never sees Ctrl-C or SIGTERM, not even before its first line.

    They are for us, who end our workers.
    """
    resource_tracker.ensure_running()  # starting it would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(connection: Connection, storage: WritableStorage, device: torch.device) -> None:
    """A worker's life: bundles in, events out, until the pipe or the parent's life ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_freed_memory()
    try:
        while True:
            for event in attempt(connection.recv(), storage, device):
                connection.send(event)
    except AtlasUnwritable as error:
        connection.send(error)
    except (EOFError, OSError):
        return


def keep_freed_memory() -> None:
    """Let glibc keep what a step frees for the next one, instead of giving it back and faulting it in again.

    Measured on EfficientNet-Lite0: system time from 2.9 ms to 0.4 ms, of 14 ms a unit and step.
    """
    mallopt((M_MMAP_THRESHOLD, 32 << 20), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 << 20))


def _end_with_parent() -> None:
    """A killed run must not go on in its workers: the next one may be writing already."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
