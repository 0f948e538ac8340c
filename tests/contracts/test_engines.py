"""What every engine promises: one end for each job, the same bytes, and faults that stay with their shard."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.run import run
from microscope_atlas.run.engines.engine import Engine, JobFailed
from microscope_atlas.run.engines.local import LocalEngine
from microscope_atlas.run.engines.ray import RayEngine, ray_cluster
from microscope_atlas.run.plan import Job
from microscope_atlas.run.shard import RowsMade, ShardFinished
from tests.atlases import IMAGES, LAYER, LENS, MODEL, RECIPE, content, quick, request
from tests.run.engines.test_local import ENDLESS

CPU = torch.device("cpu")
UNITS = 3
RECIPES = {LENS: RECIPE, "sheets": quick("sheets")}  # one that looks at the network, and one that reads the first


@contextmanager
def on_ray() -> Iterator[Engine]:
    with ray_cluster(None):
        yield RayEngine(CPU, workers=2)


ENGINES: dict[str, Callable[[], AbstractContextManager[Engine]]] = {
    "local": lambda: nullcontext(LocalEngine(CPU)),
    "local-workers": lambda: nullcontext(LocalEngine(CPU, workers=2)),
    "ray": on_ray,
}


RAY = pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.long])


@pytest.fixture(scope="module", params=["local", "local-workers", RAY])
def engine(request: pytest.FixtureRequest, cache: Path) -> Iterator[Engine]:
    with ExitStack() as stack:
        yield stack.enter_context(ENGINES[request.param]())


# workers take seconds to start: they are in the short run where the bytes are compared
quickly = pytest.mark.parametrize(
    "engine", ["local", pytest.param("local-workers", marks=pytest.mark.long), RAY], indirect=True, scope="module"
)


def jobs(count: int = UNITS) -> list[Job]:
    sha256 = request({}).weights.sha256
    return [Job(UnitRange(LENS, MODEL, LAYER, unit, unit + 1), RECIPE, "pretrained", sha256) for unit in range(count)]


def render(root: Path, engine: Engine) -> run.Outcome:
    return run.render(Folder(root), [request({LAYER: range(UNITS)})], RECIPES, engine, 1, lambda *_: None)


@pytest.fixture(scope="module")
def reference(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("reference") / "atlas"
    render(root, LocalEngine(CPU))
    return content(root)


@quickly
def test_each_job_ends_in_exactly_one_shard(engine: Engine, tmp_path: Path) -> None:
    events = list(engine.run(jobs(), Folder(tmp_path)))
    ended = [event for event in events if not isinstance(event, RowsMade)]
    assert sorted(event.shard.units.start for event in ended if isinstance(event, ShardFinished)) == list(range(UNITS))
    assert len(ended) == UNITS
    assert sum(event.rows for event in events if isinstance(event, RowsMade)) == UNITS * IMAGES


def test_nothing_to_do_ends_at_once(engine: Engine, tmp_path: Path) -> None:
    assert not list(engine.run([], Folder(tmp_path)))


def test_every_file_is_the_same_byte_for_byte(
    engine: Engine, reference: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    render(Path("atlas"), engine)  # a name that holds in this process alone
    assert content(tmp_path / "atlas") == reference


@quickly
def test_error_fails_its_job_alone_and_says_which_and_why(engine: Engine, tmp_path: Path) -> None:
    good, *others = jobs()
    bad = replace(good, weights_sha256="another")
    events = list(engine.run([bad, *others], Folder(tmp_path)))
    (failed,) = (event for event in events if isinstance(event, JobFailed))
    assert failed.job == bad
    assert "WeightsError" in failed.reason
    assert "expects another" in failed.reason
    assert sum(isinstance(event, ShardFinished) for event in events) == len(others)


@quickly
def test_nobody_writes_once_the_run_has_let_go(engine: Engine, tmp_path: Path) -> None:
    first, *others = jobs()
    endless = [replace(job, recipe=ENDLESS) for job in others]
    events = engine.run([first, *endless], Folder(tmp_path))
    assert any(isinstance(event, ShardFinished) for event in events)
    events.close()  # type: ignore[attr-defined]
    there = content(tmp_path)
    time.sleep(0.5)
    assert content(tmp_path) == there
    assert len(list(engine.run([first], Folder(tmp_path)))) == IMAGES + 1  # and it can be used again
