import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests import atlases, hub_double
from tests.commands import Commands
from tests.hub_double import Hub

# as shards are rendered; and as many tests at once as there are cores
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _counted(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """Note how many cases a test generates; the end of the output says the sum."""
    parameters = getattr(getattr(request.node, "callspec", None), "params", {})
    if isinstance(cases := parameters.get("cases"), int):
        record_property("cases", cases)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed = [dict(report.user_properties) for report in terminalreporter.stats.get("passed", ())]
    if total := sum(int(str(about.get("cases", 0))) for about in passed):
        terminalreporter.write_line(f"{total:,} generated cases of hostile input were read or refused")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of converted weights for this session alone."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MICROSCOPE_ATLAS_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def commands(cache: Path) -> Iterator[Commands]:
    """The command line."""
    started = Commands()
    yield started
    started.close()


@pytest.fixture(scope="session")
def whole(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of three units in two shards. Nobody may write to it."""
    root = tmp_path_factory.mktemp("whole") / "microscope-atlas"
    atlases.render(root)
    return root


@pytest.fixture
def atlas(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to do with as one likes."""
    return Path(shutil.copytree(whole, tmp_path / "microscope-atlas"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub of its own for a test, empty, that the real clients talk to; caches are the test's own, too."""
    from huggingface_hub import constants

    with hub_double.running() as hub, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Use 'content=", DeprecationWarning)  # huggingface_hub's own upload
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_nobody")
        monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path / "cache"))
        yield hub
