"""SIGKILL and SIGSTOP at random moments, here, on Ray and into a bucket: nothing is lost, and nothing made twice."""

import os
import random
import re
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import fsspec
import pytest

from microscope_atlas.atlas.bucket import Bucket
from microscope_atlas.atlas.folder import UNFINISHED
from microscope_atlas.atlas.lease import LEASE
from tests.atlases import IMAGES, LAYER, LENS, MODEL, content
from tests.commands import Command, Commands, Result, workers_of
from tests.run.engines.test_ray import descendants, lives, workers
from tests.s3 import credentials, s3_server

KILLS = 100
UNITS = 3
SILENCE = 3.0  # seconds after which a lease of these runs counts as lost; else it is a minute
SLEEP = 120.0  # seconds of SIGSTOP


@dataclass(frozen=True)
class Way:
    """How a run is struck."""

    struck: Literal["all", "run", "worker"]  # the run with its workers, or alone, or one of its workers
    workers: int = 2
    engine: Literal["local", "ray"] = "local"
    bucket: bool = False
    asleep: bool = False  # another worker is stopped meanwhile; or the run is, and woken once another has done its work


WAYS = {
    "run": Way("all", workers=1),
    "run and workers": Way("all"),
    "run but no worker": Way("run"),
    "worker": Way("worker"),
    "worker while another sleeps and wakes": Way("worker", asleep=True),
    "run into a bucket": Way("all", workers=1, bucket=True),
    "worker of a run into a bucket": Way("worker", bucket=True),
    "run into a bucket that sleeps until its lease is another's": Way("run", workers=1, bucket=True, asleep=True),
    "Ray's worker": Way("worker", engine="ray"),
    "run on Ray": Way("run", engine="ray"),
}


def tiers() -> list[object]:
    """The first for the short run of the tests, twenty for the long one, each way twice, all others by hand."""
    long = {*range(10), *range(50, 60)}
    ways = list(WAYS)
    return [
        pytest.param(
            number,
            id=f"{number} {ways[number % len(ways)]}".replace(" ", "-"),
            marks=[] if number == 0 else pytest.mark.long if number in long else pytest.mark.hours,
        )
        for number in range(KILLS)
    ]


def render(atlas: str, way: Way) -> list[str]:
    one = f"--model {MODEL} --layer {LAYER} --units 0:{UNITS} --shard-units 1 --workers {way.workers} --device cpu"
    return ["render", atlas, "--lens", LENS, *one.split(), "--engine", way.engine]


Place = Callable[[Way], tuple[str, dict[str, str]]]  # of an atlas to be: where it goes, and what the command is told


@pytest.fixture(scope="module")
def storage() -> Iterator[dict[str, str]]:
    with s3_server() as address, pytest.MonkeyPatch.context() as patch:
        for name, value in credentials(address).items():
            patch.setenv(name, value)
        yield credentials(address)
        fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    def placed(way: Way) -> tuple[str, dict[str, str]]:
        name = f"atlases-{uuid.uuid4().hex}"
        if not way.bucket:
            return str(tmp_path / name), {}
        told = request.getfixturevalue("storage")
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
        return f"s3://{name}/one", told

    return placed


def found(atlas: str) -> dict[str, bytes]:
    """Every finished file that is not hidden, byte for byte."""
    if "://" in atlas:
        bucket = Bucket(atlas)
        return {path: bucket.slice(path, 0, size) for path, size in bucket.files().items()}
    files = content(Path(atlas)).items()
    return {
        path: data
        for path, data in files
        if not path.rpartition("/")[2].startswith(".") and not path.endswith(UNFINISHED)
    }


@pytest.fixture(scope="module")
def undisturbed(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("undisturbed") / "atlas"
    assert commands(*render(str(root), WAYS["run"])).status == 0
    return found(str(root))


@pytest.fixture(scope="module")
def seconds(
    commands: Commands, undisturbed: object, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Way], float]:
    """How long a run takes that nothing disturbs."""
    taken: dict[tuple[str, int], float] = {}

    def measured(way: Way) -> float:
        if (kind := (way.engine, way.workers)) not in taken:
            start = time.monotonic()
            assert commands(*render(str(tmp_path_factory.mktemp("timed") / "atlas"), way)).status == 0
            taken[kind] = time.monotonic() - start
        return taken[kind]

    return measured


def until(met: Callable[[], object], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, f"waited {seconds} seconds in vain"
        time.sleep(0.01)


def at_work(started: Command, way: Way) -> list[int]:
    """The run's workers, as far as they have been started."""
    return workers(started.pid) if way.engine == "ray" else workers_of(started.pid)


def assert_told(ended: Result) -> None:
    assert "Traceback" not in ended.err + ended.out, ended.err


def assert_completed(
    commands: Commands, atlas: str, told: Mapping[str, str], way: Way, undisturbed: dict[str, bytes]
) -> None:
    """The same command makes what is missing and no more, keeps what is there, and says so."""
    there = {path: data for path, data in found(atlas).items() if path.startswith(f"{LENS}/")}
    ended = commands.wait(commands.start(*render(atlas, way), environment=told, silence=SILENCE))
    assert ended.status == 0, ended.err
    assert_told(ended)
    numbers = re.search(r"(\d+) rows made, (\d+) were there", ended.out)
    assert numbers is not None, ended.out
    assert [int(number) for number in numbers.groups()] == [IMAGES * (UNITS - len(there)), IMAGES * len(there)]
    assert_whole(commands, atlas, told, undisturbed)
    assert there.items() <= found(atlas).items()


def assert_whole(commands: Commands, atlas: str, told: Mapping[str, str], undisturbed: dict[str, bytes]) -> None:
    """The atlas checks, and is the undisturbed one byte for byte."""
    checked = commands("check", atlas, environment=told)
    assert checked.status == 0, checked.out + checked.err
    assert found(atlas) == undisturbed


@pytest.mark.parametrize("number", tiers())
def test_killed_at_a_random_moment(
    commands: Commands,
    undisturbed: dict[str, bytes],
    seconds: Callable[[Way], float],
    place: Place,
    number: int,
) -> None:
    way, moments = WAYS[list(WAYS)[number % len(WAYS)]], random.Random(number)
    for attempt in range(30):  # the later, the sooner
        atlas, told = place(way)
        started = commands.start(*render(atlas, way), environment=told, silence=SILENCE)
        if way.struck == "worker":
            until(lambda: len(at_work(started, way)) >= (2 if way.engine == "local" else 1) or not lives(started.pid))  # noqa: B023
        time.sleep(moments.uniform(0, seconds(way)) * 0.8**attempt)
        if way.asleep and way.bucket:
            if _asleep_in_a_bucket(commands, started, atlas, told, way, undisturbed):
                return
        elif way.struck == "worker":
            with suppress(ProcessLookupError, ValueError, IndexError):  # where it is over already
                killed, *others = moments.sample(there := at_work(started, way), len(there))
                if way.asleep:
                    os.kill(others[0], signal.SIGSTOP)
                os.kill(killed, signal.SIGKILL)
                if way.asleep:
                    time.sleep(moments.uniform(0, 5))
                    os.kill(others[0], signal.SIGCONT)
                break
            commands.wait(started)
        else:
            below = descendants(started.pid) if way.engine == "ray" else []
            with suppress(ProcessLookupError):
                (os.killpg if way.struck == "all" else os.kill)(started.pid, signal.SIGKILL)
            if commands.wait(started).status == -signal.SIGKILL:
                until(lambda: not any(lives(process) for process, _ in below))  # noqa: B023 (awaited here)
                break
    else:
        pytest.fail("it always ended before it was killed")
    if way.struck == "worker":
        ended = commands.wait(started)
        assert ended.status == 0, ended.err
        assert_told(ended)
        assert_whole(commands, atlas, told, undisturbed)
    assert_completed(commands, atlas, told, way, undisturbed)


def _asleep_in_a_bucket(
    commands: Commands, started: Command, atlas: str, told: Mapping[str, str], way: Way, undisturbed: dict[str, bytes]
) -> bool:
    """Have another run take over while this one sleeps, and wake it; False where it was over already."""
    os.killpg(started.pid, signal.SIGSTOP)
    try:
        over = not lives(started.pid)
        if not over:
            assert_completed(commands, atlas, told, way, undisturbed)
    finally:
        os.killpg(started.pid, signal.SIGCONT)
    ended = commands.wait(started)
    if over:
        return False
    assert_told(ended)
    if ended.status:  # not where it had nothing left to write
        assert f"another run has taken over {atlas}" in ended.err or "another run is writing" in ended.err, ended.err
    assert_whole(commands, atlas, told, undisturbed)
    return True


@pytest.mark.hours
@pytest.mark.parametrize("name", ["run", "run and workers", "run into a bucket", "run on Ray"])
def test_asleep_for_two_minutes_goes_on(
    commands: Commands, undisturbed: dict[str, bytes], seconds: Callable[[Way], float], place: Place, name: str
) -> None:
    way = WAYS[name]
    atlas, told = place(way)
    started = commands.start(*render(atlas, way), environment=told)
    time.sleep(seconds(way) / 2)
    all_of_it = [started.pid, *(process for process, _ in descendants(started.pid))]
    for signal_, wait in ((signal.SIGSTOP, SLEEP), (signal.SIGCONT, 0.0)):
        for process in all_of_it:
            with suppress(ProcessLookupError):
                os.kill(process, signal_)
        time.sleep(wait)
    ended = commands.wait(started)
    assert_told(ended)
    if ended.status:  # a cluster may have given its parts up for lost meanwhile
        assert way.engine == "ray", ended.err
    assert_completed(commands, atlas, told, way, undisturbed)


@pytest.mark.hours
def test_lease_of_a_run_that_sleeps_for_two_minutes_is_anothers(
    commands: Commands, undisturbed: dict[str, bytes], place: Place
) -> None:
    way = WAYS["run into a bucket"]
    atlas, told = place(way)
    started = commands.start(*render(atlas, way), environment=told)
    until(lambda: Bucket(atlas).size(LEASE) is not None)
    assert lives(started.pid)
    os.killpg(started.pid, signal.SIGSTOP)
    start = time.monotonic()
    ended = commands(*render(atlas, way), environment=told)  # with leases as they are: it watches for a minute
    assert ended.status == 0, ended.err
    assert time.monotonic() - start > 60
    time.sleep(max(0.0, SLEEP + start - time.monotonic()))
    os.killpg(started.pid, signal.SIGCONT)
    late = commands.wait(started)
    assert_told(late)
    assert late.status == 1
    assert f"another run has taken over {atlas}" in late.err
    assert_whole(commands, atlas, told, undisturbed)
