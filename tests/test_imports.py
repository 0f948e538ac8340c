"""The layers of the package: imports point down."""

import ast
import subprocess
import sys
from pathlib import Path

import generate

ROOT = Path(generate.__file__).parent

# from below; what stands on one line may import from its own line and those above it here
LAYERS = (
    ("errors",),
    ("columns", "memory", "stopping"),
    ("keys", "schema", "changes", "hub", "bucket"),
    ("models", "render", "pictures"),
    ("lenses",),
    ("plan", "simulate"),
    ("costs",),
    ("forecast",),
    ("store",),
    ("releases",),
    ("source",),
    ("shard", "status", "index", "cite", "card", "cover"),
    ("engines", "check", "reproduce"),
    ("run", "publish"),
    ("progress",),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def imports(path: Path) -> set[str]:
    """First names below `generate` that a file imports: `models` of `generate.models.graph`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "generate":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("generate."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("generate.")}
    return found


def test_imports_point_down() -> None:
    upwards = []
    for path in ROOT.rglob("*.py"):
        own = path.relative_to(ROOT).with_suffix("").parts[0]
        if own == "__init__":
            continue
        upwards += [f"{path.relative_to(ROOT)} imports {name}" for name in imports(path) if RANK[name] > RANK[own]]
    assert not upwards


def test_only_the_command_line_knows_the_space() -> None:
    found = {path.name for path in ROOT.rglob("*.py") if "from space" in path.read_text()}
    assert found == {"cli.py"}


def test_rendering_knows_no_model() -> None:
    for path in (ROOT / "render").glob("*.py"):
        assert imports(path) <= {"render"}


def test_models_know_no_rendering() -> None:
    for path in (ROOT / "models").glob("*.py"):
        assert "render" not in imports(path)


def test_rendering_needs_torch_numpy_and_pillow_alone() -> None:
    code = "import sys, generate.shard; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert {"torch", "PIL", "pyarrow"} <= loaded
    assert not {"torchvision", "timm", "datasets", "gradio", "ray", "tensorboard", "typer"} & loaded
