import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
import torch

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.lenses.feature_visualization import Recipe
from microscope_atlas.lenses.registry import lens
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.rendering.ascend import Ascent
from microscope_atlas.run.engines.engine import JobFailed
from microscope_atlas.run.engines.local import LocalEngine
from microscope_atlas.run.plan import Job
from microscope_atlas.run.shard import ShardFinished
from tests.atlases import LAYER, LENS, MODEL, RECIPE, render, rows
from tests.commands import workers_of
from tests.run.engines import deadly

TWO = LocalEngine(torch.device("cpu"), workers=2)
ENDLESS = Recipe(Ascent(steps=10_000), max_size=32, variants=0)


def jobs(count: int, recipe: Recipe = RECIPE) -> list[Job]:
    sha256 = weights.load(organism(MODEL)).sha256
    return [Job(UnitRange(LENS, MODEL, LAYER, unit, unit + 1), recipe, "pretrained", sha256) for unit in range(count)]


def lives(process: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def until(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.02)
    pytest.fail(f"waited {seconds} seconds in vain")


@contextmanager
def signalling(what: signal.Signals, times: int) -> Iterator[list[int]]:
    """Send a signal to the first workers that this process starts, at once; yields the ids of those that got it."""
    got: list[int] = []

    def send() -> None:
        for _ in until(60):
            for worker in workers_of(os.getpid()):
                if worker not in got and len(got) < times:
                    os.kill(worker, what)
                    got.append(worker)
            if len(got) == times:
                return

    sender = Thread(target=send)
    sender.start()
    yield got
    sender.join()


@pytest.mark.long
def test_worker_that_dies_is_replaced_and_its_job_done(whole: Path, tmp_path: Path) -> None:
    with signalling(signal.SIGKILL, 1) as killed:
        render(tmp_path, engine=TWO)
    assert len(killed) == 1
    assert rows(tmp_path) == rows(whole)


@pytest.mark.long
@pytest.mark.parametrize("what", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_is_for_the_parent_alone(
    what: signal.Signals, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with signalling(what, 2) as interrupted:
        events = list(TWO.run(jobs(2), Folder(tmp_path)))
    assert len(interrupted) == 2
    assert sum(isinstance(event, ShardFinished) for event in events) == 2
    assert capfd.readouterr().err == ""


@pytest.mark.long
def test_job_whose_workers_die_fails_after_two_attempts_and_the_others_finish(tmp_path: Path) -> None:
    deadly, *others = jobs(3)
    deadly = Job(deadly.units, ENDLESS, deadly.weights, deadly.weights_sha256)
    ended = {}
    engine = TWO.run([deadly, *others], Folder(tmp_path))

    def kill_idle() -> None:
        """The one worker that is left busy when the others are done has the deadly job."""
        for _ in until(60):
            if len(ended) == len(others):
                for worker in workers_of(os.getpid()):
                    os.kill(worker, signal.SIGKILL)
            if len(ended) == 3:
                return

    killer = Thread(target=kill_idle)
    killer.start()
    for event in engine:
        match event:
            case ShardFinished(shard):
                ended[shard.units] = "finished"
            case JobFailed(job, reason):
                ended[job.units] = reason
    killer.join()
    assert "died 2 times, with exit code -9: killed, as the kernel does where memory runs" in ended[deadly.units]
    assert "fewer --workers" in ended[deadly.units]
    assert [ended[job.units] for job in others] == ["finished", "finished"]


@pytest.mark.long
def test_job_whose_workers_die_fails_alone_of_those_that_share_its_pass(tmp_path: Path) -> None:
    model = "own:tests.models.own_networks.small"
    known, recipe = organism(model), lens(deadly.NAME).recipe("draft")
    sha256 = weights.load(known).sha256
    several = [
        Job(UnitRange("deadly", model, layer, 0, 2), recipe, "pretrained", sha256, maker=deadly.NAME)
        for layer in known.layers
    ]
    events = list(TWO.run(several, Folder(tmp_path)))
    finished = [event.shard.units.layer for event in events if isinstance(event, ShardFinished)]
    (failed,) = (event for event in events if isinstance(event, JobFailed))
    assert failed.job.units.layer == deadly.LAYER
    assert "died 2 times" in failed.reason
    assert sorted([*finished, deadly.LAYER]) == sorted(known.layers)


@pytest.mark.long
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.run.engines.test_local import *\n"
        "if __name__ == '__main__':\n"
        "    for _ in TWO.run(jobs(2, ENDLESS), Folder(Path(sys.argv[1]))): pass\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    here = Path(__file__).parents[3]
    parent = subprocess.Popen([sys.executable, script, tmp_path], env={**os.environ, "PYTHONPATH": str(here)})
    workers: list[int] = []
    for _ in until(60):
        workers = workers_of(parent.pid)
        if len(workers) == 2 and all(seconds_of(worker) > 3 for worker in workers):  # past imports, in the ascent
            break
    parent.kill()
    parent.wait()
    for _ in until(5):
        if not any(lives(worker) for worker in workers):
            break


def seconds_of(process: int) -> float:
    """Processor time it has had."""
    ticks = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
