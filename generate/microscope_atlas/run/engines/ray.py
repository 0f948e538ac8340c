"""Rendering through Ray: on the cores of this machine, or on a cluster that is there.

Every job is a Ray task with a share of a machine, and jobs that share a pass are one together. Ray chooses which
machine, and starts workers that render one after another, so that each loads a model's weights once. On every machine
the package has to be installed, and the atlas to be reached under the same name: a shared folder, or storage with a
URL.
"""

import math
import os
import secrets
import signal
import socket
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.storage import WritableStorage
from microscope_atlas.errors import AtlasUnwritable, ClusterFailed, ExtraMissing, first_line
from microscope_atlas.run.engines.engine import Event, JobFailed, attempt
from microscope_atlas.run.engines.local import keep_freed_memory, num_cores
from microscope_atlas.run.plan import Bundle, Job, bundles, halves
from microscope_atlas.run.shard import ShardFinished

ATTEMPTS = 4  # at a job whose worker was lost; more than on one machine, because here whole machines come and go
KNOCK_SECONDS = 10.0
OBJECT_STORE = 100 << 20  # bytes, of a cluster on this machine: what tasks tell is small, and files pass it by

# Ray would show a task its own GPU alone, as number 0; but CUDA looks once a process, and a worker that is used again
# may have another GPU the next time
EVERY_GPU = {"env_vars": {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}}


@dataclass(frozen=True)
class RayEngine:
    """Shards as tasks of the cluster that this process has joined: see ray_cluster."""

    device: torch.device  # of a task: its type; which one of a machine's GPUs, Ray says
    workers: int | None = None  # tasks at once; None: as many as the cluster has shares for, as it grows and shrinks
    cpus: float = 1.0  # a task's share: cores
    gpus: float = 0.0  # a task's share: GPUs; 0.25: four tasks on each

    def run(self, jobs: Sequence[Job], storage: WritableStorage) -> Iterator[Event]:
        """See Engine. A job whose worker is lost, with its machine or alone, is tried again; one that fails says why.

        Of jobs that shared a pass each half is tried again, so that in the end none fails for another.

        ClusterFailed where no machine has a task's share and `workers` does not say how many there are going to be.
        """
        ray = imported()
        if jobs and not (self.workers or self._shares(ray)):
            raise ClusterFailed(
                f"no machine of the Ray cluster has {self.cpus:g} CPUs and {self.gpus:g} GPUs, a task's share; "
                "lower it, or say with --workers how many tasks shall wait for machines that are to come"
            )
        share = {"num_cpus": self.cpus, "num_gpus": self.gpus, "runtime_env": EVERY_GPU if self.gpus else None}
        # no retries of Ray's own: it counts what a stream has told, which need not be the same the second time
        task = ray.remote(num_returns="streaming", max_retries=0, max_calls=0, **share)(_work)
        waiting, losses = deque(bundles(jobs)), Counter[Job]()
        where = Folder(storage.root.absolute()) if isinstance(storage, Folder) else storage  # workers start elsewhere
        working: dict[Any, Bundle] = {}  # those that have not ended, by the stream of what their task tells
        try:
            while waiting or working:
                while waiting and len(working) < (self.workers or max(self._shares(ray), 1)):
                    bundle = waiting.popleft()
                    working[task.remote(bundle, where, self.device)] = bundle
                (stream,), _ = ray.wait(list(working), num_returns=1, fetch_local=False)
                event = _told(ray, stream, working[stream][0])
                if isinstance(event, _Lost):
                    left = working.pop(stream)
                    job, *others = left
                    losses[job] += not others
                    if losses[job] < ATTEMPTS:
                        waiting.extendleft(reversed(halves(left)))  # not to be the last of all, alone
                        continue
                    event = JobFailed(job, f"its worker was lost {ATTEMPTS} times, at last with {event.reason}")
                elif isinstance(event, ShardFinished | JobFailed):
                    working[stream] = working[stream][1:]
                    if not working[stream]:
                        del working[stream]
                yield event
        finally:
            _end(ray, working)

    def _shares(self, ray: ModuleType) -> int:
        """How many tasks there is room for at once."""
        asked = {"CPU": self.cpus, "GPU": self.gpus}
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return sum(
            min(math.floor(machine.get(kind, 0) / share) for kind, share in asked.items() if share)
            for machine in machines
        )


@dataclass(frozen=True)
class _Lost:
    """A worker is gone, and nobody knows how far it came."""

    reason: str


@contextmanager
def ray_cluster(address: str | None) -> Iterator[None]:
    """Be part of the Ray cluster at `address`, `HOST:PORT` or `auto`; None: of one on this machine, for as long.

    That one can be reached from this machine alone, with a token that nobody is told. ClusterFailed where there is no
    cluster at the address, ExtraMissing without Ray.
    """
    with _environment(own=address is None):
        ours = {"num_cpus": num_cores(), "include_dashboard": False, "object_store_memory": OBJECT_STORE}
        own = {} if address else ours
        ray = imported()
        try:
            if address and ":" in address:
                _knock(address)
            with _own_signals():
                ray.init(address=address or "local", log_to_driver=False, logging_level="error", **own)
        except Exception as error:  # Ray raises plain ones
            said = first_line(error) or type(error).__name__
            raise ClusterFailed(f"the Ray cluster at {address or 'this machine'} cannot be joined: {said}") from error
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """What is to happen on SIGTERM stays as it was: Ray would have the interpreter exit."""
    here = threading.current_thread() is threading.main_thread()  # to which alone signals come
    before = signal.getsignal(signal.SIGTERM)
    yield
    if here:
        signal.signal(signal.SIGTERM, before)


def _knock(address: str) -> None:
    """OSError where nobody listens at `HOST:PORT`: Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), KNOCK_SECONDS).close()


def has_gpus() -> bool:
    """Whether any machine of the cluster has a GPU."""
    return bool(imported().cluster_resources().get("GPU"))


def imported() -> ModuleType:
    """Ray; ExtraMissing where it is not installed."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ExtraMissing(f"Ray cannot be imported ({error}); pip install 'microscope-atlas[ray]'") from error
    module: ModuleType = ray
    return module


def _work(bundle: Bundle, storage: WritableStorage, device: torch.device) -> Iterator[Event]:
    """A task, on a worker."""
    keep_freed_memory()
    if device.type == "cuda":
        own = imported().get_runtime_context().get_accelerator_ids()["GPU"]
        device = gpu(own, os.environ.get("CUDA_VISIBLE_DEVICES"))
        torch.cuda.set_device(device)
    yield from attempt(bundle, storage, device)


def gpu(own: Sequence[str], visible: str | None) -> torch.device:
    """The GPU that Ray gave to a task, as PyTorch counts those that the process sees: `visible`, None for all."""
    at = visible.split(",").index(own[0]) if visible else int(own[0])
    return torch.device("cuda", at)


def _told(ray: ModuleType, stream: Any, job: Job) -> Event | _Lost:
    """What a task tells next."""
    try:
        event: Event = ray.get(next(stream))
    except ray.exceptions.RayTaskError as error:  # not in a shard, where each is caught: the worker lacks something
        if isinstance(error.cause, AtlasUnwritable):
            raise error.cause from error
        return JobFailed(job, f"{type(error.cause).__name__}: {error.cause}")
    except (ray.exceptions.RayError, StopIteration) as error:
        return _Lost(type(error).__name__)
    return event


def _end(ray: ModuleType, streams: Iterable[Any]) -> None:
    """End these tasks and wait until they are gone, so that none touches the atlas once the run has let go of it."""
    for stream in streams:
        ray.cancel(stream, force=True)
    for stream in streams:
        with suppress(ray.exceptions.RayError):
            for told in stream:
                ray.get(told)


@contextmanager
def _environment(own: bool) -> Iterator[None]:
    """What Ray reads from the environment, for as long: no statistics sent, and a cluster of our own kept to us."""
    wanted = {"RAY_USAGE_STATS_ENABLED": "0"}
    if own:
        # the flag is named after the systems on which Ray keeps to the loopback interface by itself
        wanted |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_TOKEN": _token()}
    before = {name: os.environ.get(name) for name in (*wanted, "RAY_AUTH_MODE")}  # the last one Ray sets
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@cache
def _token() -> str:
    """Who has it may use our cluster. One for all that this process starts, because Ray reads it but once."""
    return secrets.token_hex(32)
