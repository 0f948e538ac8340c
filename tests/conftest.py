import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests import atlases
from tests.commands import Commands

# as shards are rendered; and as many tests at once as there are cores
torch.set_num_threads(1)


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
