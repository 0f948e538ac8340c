"""The wheel, installed elsewhere and used beside files of a user's own that are called as our folders once were."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.hub_double import Hub

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.long

# a user's own network, whose module is called as one of our wings
MODELS = """
import torch
from torch import nn
from microscope_atlas import Trained

def network():
    torch.manual_seed(0)
    return Trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), input_size=32, license="CC0-1.0")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel is installed; what it depends on comes from the environment of the tests."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    return target


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder, with modules that would have collided."""
    for name in ("generate.py", "run.py", "atlas.py"):
        (tmp_path / name).write_text("raise RuntimeError('a file of the user is not to be imported')\n")
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "__init__.py").write_text("raise RuntimeError('nor is this')\n")
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path


def test_wheel_holds_two_packages_and_what_they_read(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "microscope_atlas",
        "microscope_space",
    }
    for needed in (
        "microscope_atlas/py.typed",
        "microscope_atlas/publish/dataset_card.md",
        "microscope_atlas/atlas/organisms.json",
        "microscope_space/html/style.css",
        "microscope_space/top/main.py",
        "microscope_space/top/README.md",
        "microscope_space/top/requirements.txt",
    ):
        assert needed in names


def test_it_renders_checks_and_publishes_from_a_folder_with_other_modules(
    site: Path, folder: Path, hub: Hub, cache: Path
) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{folder}:{site}",  # as the documentation has it for networks of one's own
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "hf_nobody",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(folder / "hub"),
        "MICROSCOPE_ATLAS_CACHE": str(cache),
    }

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "microscope_atlas.cli", *arguments]
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    where = "import microscope_atlas, microscope_space; print(microscope_atlas.__file__, microscope_space.__file__)"
    found = subprocess.run([sys.executable, "-c", where], cwd=folder, env=environment, capture_output=True, text=True)
    assert all(path.startswith(str(site)) for path in found.stdout.split())
    one = ["--model", "own:models.network", "--layer", "0", "--units", "0:1", "--lens", "feature_visualization"]
    run("render", "atlas", *one, "--device", "cpu")
    assert "all in order" in run("check", "atlas")
    assert "own:models.network" in run("status", "atlas")
    said = run("publish", "atlas", "someone/atlas", "--version", "2026.11.0", "--space", "someone/space")
    assert "is published" in said
    (last,) = hub.repos["spaces/someone/space"][-1:]
    assert {"app.py", "README.md", "microscope_space/app.py", "microscope_atlas/atlas/schema.py"} <= last.files.keys()
    assert "top/main.py" not in last.files
