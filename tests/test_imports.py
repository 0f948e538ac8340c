"""The wings of the package: imports point down, and what only reads never loads what renders."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import microscope_atlas

ROOT = Path(microscope_atlas.__file__).parent
ATLAS = Path(__file__).parent / "version_0_1" / "atlas"

# wing -> the wings that it may import, beside itself; modules at the root are wings of their own
ALLOWED = {
    "errors": set(),
    "cache": set(),
    "stopping": set(),
    "malloc": set(),
    "rectifiers": set(),
    "structure": {"errors"},
    "version": set(),
    "keys": {"errors"},
    "hub": {"errors"},
    "pictures": {"cache", "errors"},
    "rendering": {"rectifiers", "structure"},
    "atlas": {"errors", "keys", "hub", "pictures", "structure", "version"},
    "models": {"cache", "errors", "keys", "hub", "atlas", "pictures", "rectifiers", "structure"},
    "publish": {"errors", "keys", "hub", "atlas", "pictures"},
    "lenses": {"cache", "errors", "keys", "atlas", "pictures", "models", "rendering", "rectifiers", "structure"},
    "run": {
        "errors",
        "keys",
        "stopping",
        "malloc",
        "hub",
        "atlas",
        "pictures",
        "models",
        "lenses",
        "publish",
        "structure",
    },
    "console": {"errors", "atlas", "hub", "lenses", "run"},
    "face": {"errors", "keys", "atlas", "pictures", "publish", "models", "rendering", "lenses", "run"},
}
TORCHLESS = (
    "atlas",
    "hub",
    "publish",
    "keys",
    "errors",
    "stopping",
    "malloc",
    "structure",
    "version",
    "pictures.decoder",
    "pictures.sources",
    "pictures.terms",
)


def imports(path: Path) -> set[str]:
    """Dotted names within the package that a file imports: `models.graph` of `microscope_atlas.models.graph`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.removeprefix("microscope_atlas.") for name in found if name.startswith("microscope_atlas.")}


def test_imports_point_down() -> None:
    wrong = []
    for path in ROOT.rglob("*.py"):
        wing = path.relative_to(ROOT).with_suffix("").parts[0]
        if wing in ("__init__", "cli"):
            continue
        for name in imports(path):
            if (other := name.split(".")[0]) not in {wing, *ALLOWED[wing]}:
                wrong.append(f"{path.relative_to(ROOT)} imports {other}")
    assert not wrong


def test_no_circle() -> None:
    """Wings import each other in one direction alone."""
    for wing, below in ALLOWED.items():
        assert not [other for other in below if wing in ALLOWED[other]]


def test_only_the_command_line_knows_the_space() -> None:
    found = {path.name for path in ROOT.rglob("*.py") if "from microscope_space" in path.read_text()}
    assert found == {"browse.py"}


def test_rendering_needs_torch_numpy_and_pillow_alone() -> None:
    loaded = set(run("import microscope_atlas.run.shard"))
    assert {"torch", "PIL", "pyarrow"} <= loaded
    assert not {"torchvision", "timm", "datasets", "gradio", "ray", "typer"} & loaded


def run(code: str) -> list[str]:
    """Top-level modules that are loaded after some code has run in a process of its own."""
    code = f"{code}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    return (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        .stdout.splitlines()[-1]
        .split()
    )


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "-h",
        "--version",
        "render --help",
        "models",
        "models inceptionv1 --json",
        "models --resolve /models/inceptionv1/mixed4c_0/447",
        "status ATLAS",
        "cite ATLAS efficientnet_lite0/stem/1",
        "check ATLAS --sample 1",
        "find ATLAS fur",
    ],
)
def test_commands_that_only_read_never_load_torch(line: str) -> None:
    words = [str(ATLAS) if word == "ATLAS" else word for word in line.split()]
    code = f"import sys; sys.argv = ['microscope-atlas', *{words!r}]\nfrom microscope_atlas.cli import main\n"
    loaded = run(code + "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code")
    assert "microscope_atlas" in loaded
    assert "torch" not in loaded


@pytest.mark.parametrize("wing", TORCHLESS)
def test_what_reads_never_loads_torch(wing: str) -> None:
    folder = ROOT.joinpath(*wing.split("."))
    files = folder.rglob("*.py") if folder.is_dir() else [folder.with_suffix(".py")]
    names = [".".join(path.relative_to(ROOT.parent).with_suffix("").parts) for path in files]
    assert names
    assert "torch" not in run("".join(f"import {name}\n" for name in names))
