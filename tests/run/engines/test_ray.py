"""Ray clusters on this machine, and what is lost of them: workers and whole nodes, at random moments."""

import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any

import pytest
import torch

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.errors import ClusterFailed, ExtraMissing
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.publish.check import check
from microscope_atlas.run.engines.engine import JobFailed
from microscope_atlas.run.engines.local import num_cores
from microscope_atlas.run.engines.ray import ATTEMPTS, RayEngine, gpu, ray_cluster
from microscope_atlas.run.plan import Job
from microscope_atlas.run.shard import ShardFinished
from tests.atlases import LAYER, LENS, MODEL, RECIPE, content, render, request
from tests.commands import Commands
from tests.run.engines import counted
from tests.run.engines.counted import NAME

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
UNITS = 8
LONGER = replace(RECIPE, ascent=replace(RECIPE.ascent, steps=24))  # a few seconds, so that there is something to lose
KILLS = 6  # of workers, in one run
NODE_KILLS = 4  # each in a run of its own


def jobs(count: int) -> list[Job]:
    sha256 = request({}).weights.sha256
    return [Job(UnitRange(LENS, MODEL, LAYER, unit, unit + 1), RECIPE, "pretrained", sha256) for unit in range(count)]


def children(process: int) -> list[tuple[int, str]]:
    """Processes that it has started, by id, with their command lines."""
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(process)], capture_output=True, text=True
    ).stdout
    return [(int(line.split()[0]), line.partition(" ")[2]) for line in map(str.strip, listed.splitlines())]


def descendants(process: int) -> list[tuple[int, str]]:
    """The same, and those that they have started."""
    found = children(process)
    for child, _ in found:
        found += children(child)
    return found


def workers(process: int | None = None) -> list[int]:
    """The workers at a task of the cluster that a process has started: by default this one."""
    return [child for child, command in descendants(process or os.getpid()) if command.startswith("ray::_work")]


def lives(process: int) -> bool:
    """Whether it is there, and not merely unburied."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def until(condition: Callable[[], bool], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} seconds in vain"
        time.sleep(0.02)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'microscope-atlas\[ray\]'"), ray_cluster(None):
        pass


def test_address_without_a_cluster_is_named() -> None:
    with pytest.raises(ClusterFailed, match=r"127\.0\.0\.1:1 cannot be joined"), ray_cluster("127.0.0.1:1"):
        pass


def test_cluster_that_does_not_come_up_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**settings: Any) -> None:
        raise Exception("The current node timed out during startup.\nCheck the logs in /tmp/ray")

    monkeypatch.setattr(pytest.importorskip("ray"), "init", init)
    with pytest.raises(ClusterFailed) as failed, ray_cluster(None):
        pass
    assert str(failed.value) == (
        "the Ray cluster at this machine cannot be joined: The current node timed out during startup."
    )


def test_gpu_is_the_one_that_ray_gave() -> None:
    assert gpu(["2"], None) == torch.device("cuda", 2)
    assert gpu(["5"], "4,5") == torch.device("cuda", 1)
    assert gpu(["GPU-b"], "GPU-a,GPU-b") == torch.device("cuda", 1)


def test_shares_are_those_that_fit_on_each_machine() -> None:
    def machine(alive: bool = True, **resources: float) -> dict[str, object]:
        return {"Alive": alive, "Resources": {"memory": 1e9, **resources}}

    machines = [machine(CPU=16, GPU=8), machine(CPU=3), machine(False, CPU=16, GPU=8), machine(CPU=1.5, GPU=2)]
    cluster = types.SimpleNamespace(nodes=lambda: machines)
    assert RayEngine(CPU)._shares(cluster) == 16 + 3 + 1
    assert RayEngine(CPU, gpus=1)._shares(cluster) == 8 + 1
    assert RayEngine(CPU, cpus=0.5, gpus=0.5)._shares(cluster) == 16 + 3


@pytest.fixture(scope="module")
def undisturbed(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("undisturbed") / "atlas"
    render(root, range(UNITS), LONGER, per_shard=1)
    return content(root)


@contextmanager
def killing(seconds: float, moments: random.Random) -> Iterator[list[int]]:
    """SIGKILL a worker that is at a task, again and again, each time after up to `seconds`; yields who it was."""
    killed: list[int] = []
    end = Flag()

    def kill() -> None:
        while len(killed) < KILLS and not end.wait(moments.uniform(0, seconds)):
            for process in workers()[:1]:
                os.kill(process, signal.SIGKILL)
                killed.append(process)

    killer = Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        end.set()
        killer.join()


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("notes") / "notes"
    path.touch()
    return path


@pytest.fixture(scope="module")
def cluster(cache: Path, notes: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(counted.NOTES, str(notes))  # workers have the environment that the cluster was started in
        with ray_cluster(None):
            yield


@pytest.mark.hours
@pytest.mark.usefixtures("cluster")
def test_workers_killed_at_random_moments_change_nothing(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    with killing(1.0, random.Random(0)) as killed:
        render(tmp_path / "atlas", range(UNITS), LONGER, per_shard=1, engine=RayEngine(CPU, workers=2))
    assert len(set(killed)) == KILLS
    assert content(tmp_path / "atlas") == undisturbed


@pytest.mark.long
@pytest.mark.usefixtures("cluster")
def test_job_that_kills_its_workers_fails_alone(tmp_path: Path) -> None:
    deadly, *others = jobs(3)
    deadly = replace(deadly, recipe=replace(RECIPE, ascent=replace(RECIPE.ascent, steps=100_000)))
    ended: dict[UnitRange, str] = {}
    killed: list[int] = []

    def kill() -> None:
        """The one that is at work when the others are done has the deadly job."""
        while len(ended) < 3:
            if len(ended) == 2:
                for process in workers():
                    os.kill(process, signal.SIGKILL)
                    killed.append(process)
            time.sleep(0.05)

    killer = Thread(target=kill)
    killer.start()
    for event in RayEngine(CPU, workers=2).run([deadly, *others], Folder(tmp_path)):
        match event:
            case ShardFinished(shard):
                ended[shard.units] = "finished"
            case JobFailed(job, reason):
                ended[job.units] = reason
    killer.join()
    assert ended[deadly.units] == f"its worker was lost {ATTEMPTS} times, at last with WorkerCrashedError"
    assert [ended[job.units] for job in others] == ["finished", "finished"]
    assert len(set(killed)) == ATTEMPTS


@pytest.mark.long
@pytest.mark.usefixtures("cluster")
def test_no_more_tasks_at_once_than_asked_for(tmp_path: Path) -> None:
    seen = []
    for _ in RayEngine(CPU, workers=1).run(jobs(3), Folder(tmp_path)):
        seen.append(len(workers()))
    assert max(seen) == 1


@pytest.mark.long
@pytest.mark.usefixtures("cluster")
def test_share_that_no_machine_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterFailed, match="no machine of the Ray cluster has 1 CPUs and 1 GPUs"):
        list(RayEngine(CPU, gpus=1).run(jobs(1), Folder(tmp_path)))


@pytest.mark.long
@pytest.mark.usefixtures("cluster")
def test_worker_loads_the_weights_once(notes: Path, tmp_path: Path) -> None:
    sha256 = weights.load(organism(NAME)).sha256
    notes.write_text("")
    some = [replace(job, units=replace(job.units, model=NAME, layer="0"), weights_sha256=sha256) for job in jobs(4)]

    def asked(number: int) -> Counter[str]:
        """How often each worker has asked for the network, after another run of four jobs."""
        events = list(RayEngine(CPU, workers=1).run(some, Folder(tmp_path / str(number))))
        assert sum(isinstance(event, ShardFinished) for event in events) == len(some)
        return Counter(notes.read_text().split())

    counts = [asked(number) for number in range(3)]
    assert len(counts[-1]) <= num_cores()  # workers are used again
    assert len(set(counts[-1].values())) == 1  # each as often as any, and so once
    assert counts[-1].keys() >= counts[0].keys()
    assert all(counts[-1][worker] == times for worker, times in counts[0].items())


@pytest.mark.long
def test_cluster_of_ones_own_is_kept_to_this_machine(tmp_path: Path) -> None:
    code = """
        import ray
        from microscope_atlas.run.engines.ray import ray_cluster
        with ray_cluster(None):
            print(ray.get_runtime_context().gcs_address)
        """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    home = tmp_path / "home"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(home)}
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("127.0.0.1:")
    assert ended.stderr == ""  # Ray says nothing of its own
    assert not home.exists()  # and keeps no token there


@pytest.mark.long
def test_command_stops_on_interrupt_and_goes_on(commands: Commands, tmp_path: Path) -> None:
    def command(root: Path, engine: str) -> list[str]:
        rest = f"--model {MODEL} --layer {LAYER} --units 0:6 --shard-units 1 --workers 2 --device cpu --engine {engine}"
        return ["render", str(root), "--lens", LENS, *rest.split()]

    root = tmp_path / "atlas"
    started = commands.start(*command(root, "ray"))
    until(lambda: any(root.rglob("*.parquet")))
    os.killpg(started.pid, signal.SIGINT)
    stopped = commands.wait(started)
    assert stopped.status == 130, stopped.err
    assert "the same command goes on from there" in stopped.err
    assert "Traceback" not in stopped.err
    assert commands(*command(root, "ray")).status == 0
    assert commands(*command(tmp_path / "local", "local")).status == 0
    assert content(root) == content(tmp_path / "local")
    assert not list(check(Folder(root)))


@pytest.mark.long
def test_killed_run_takes_its_workers_along_and_the_next_completes_it(
    undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    code = """
        import sys
        from pathlib import Path
        from tests.atlases import render
        from tests.run.engines.test_ray import CPU, LONGER, UNITS
        from microscope_atlas.run.engines.ray import RayEngine, ray_cluster
        with ray_cluster(None):
            render(Path(sys.argv[1]), range(UNITS), LONGER, per_shard=1, engine=RayEngine(CPU, workers=2))
        """
    script, root = tmp_path / "script.py", tmp_path / "atlas"
    script.write_text(textwrap.dedent(code))
    started = start(script, root)
    until(lambda: any(root.rglob("*.parquet")))
    until(lambda: bool(workers(started.pid)))
    there = descendants(started.pid)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    until(lambda: not any(lives(process) for process, _ in there))
    assert content(root) != undisturbed
    render(root, range(UNITS), LONGER, per_shard=1)
    assert content(root) == undisturbed


START = [sys.executable, "-m", "ray.scripts.scripts", "start", "--node-ip-address=127.0.0.1"]


class Node:
    """A machine of a cluster, on this one; the first is its head."""

    def __init__(self, log: Path, address: str, head: bool = False):
        where = ["--head", f"--port={address.partition(':')[2]}"] if head else [f"--address={address}"]
        options = [
            "--num-cpus=1",
            "--num-gpus=1",
            "--object-store-memory=100000000",
            "--disable-usage-stats",
            "--block",
        ]
        own = ["--include-dashboard=false", "--disable-usage-stats"] if head else []
        with log.open("w") as told:
            self.process = subprocess.Popen(
                [*START, *where, *own, *options],
                stdout=told,
                stderr=told,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                start_new_session=True,
            )
        until(lambda: "Ray runtime started" in log.read_text())

    @property
    def raylet(self) -> int:
        """The process that is the node, to all others."""
        (found,) = (process for process, command in children(self.process.pid) if "/raylet " in command)
        return found

    def close(self) -> None:
        """End it, and all that it has started."""
        for process in [self.process.pid, *(child for child, _ in descendants(self.process.pid))]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()


@pytest.mark.long
def test_nodes_killed_at_random_moments_change_nothing(
    undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", raising=False)  # of the cluster of other tests, while it is
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(JOINS))
    moments, killed, nodes = random.Random(0), [], []
    with ExitStack() as stack:

        def node(head: bool = False) -> Node:
            started = Node(tmp_path / f"{len(nodes)}.log", address, head)
            stack.callback(started.close)
            nodes.append(started)
            return started

        node(head=True)
        for number in range(NODE_KILLS):
            lost, root = node(), tmp_path / str(number)
            driver = start(script, address, root)
            stack.callback(driver.kill)
            until(lambda root=root, driver=driver: driver.poll() or any(root.rglob("*.parquet")))
            time.sleep(moments.uniform(0, 0.4))
            killed.append(len(list(root.rglob("*.parquet"))))
            os.kill(lost.raylet, signal.SIGKILL)
            assert driver.wait(180) == 0
            assert content(root) == undisturbed
    assert min(killed) < UNITS  # or nothing was put to the test


JOINS = """
    import sys, time
    from pathlib import Path
    import ray
    from tests.atlases import render
    from tests.run.engines.test_ray import CPU, LONGER, UNITS
    from microscope_atlas.run.engines.ray import RayEngine, ray_cluster
    with ray_cluster(sys.argv[1]):
        while sum(node["Alive"] for node in ray.nodes()) < 2:
            time.sleep(0.1)
        render(Path(sys.argv[2]), range(UNITS), LONGER, per_shard=1, engine=RayEngine(CPU, gpus=0.5))
    """


def start(script: Path, *args: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, script, *map(str, args)], env={**os.environ, "PYTHONPATH": str(ROOT)})
