"""No file, key or answer from elsewhere is ever run: what could run it is not called anywhere."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from microscope_atlas.atlas.coverage import coverage
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.models.adapters import imported
from microscope_atlas.publish.check import check
from microscope_atlas.publish.cite import cite
from microscope_space.live.networks import choices
from tests.fuzz.test_atlas import renamed

ROOT = Path(__file__).parents[2]
FILES = sorted(path for folder in ("generate", "space", "docs", "benchmarks") for path in (ROOT / folder).rglob("*.py"))

NEVER_IMPORTED = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "subprocess", "xmlrpc"}
NEVER_CALLED = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads", "marshal.loads",
    "yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.hub.load", "torch.jit.load", "tarfile.extractall",
    "numpy.load", "np.load",
}  # fmt: skip


def called(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call, and what it calls as it is written: `torch.load`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


NEVER_TRUE = ("allow_pickle", "shell", "trust_remote_code")


def complaints(code: str) -> list[str]:
    """What in this code could run what a file says."""
    tree, found = ast.parse(code), []
    for node in ast.walk(tree):
        names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [f"import {name}" for name in names if name.partition(".")[0] in NEVER_IMPORTED]
    for name, call in called(tree):
        given = {each.arg: each.value for each in call.keywords}
        says = {arg: isinstance(value, ast.Constant) and value.value is True for arg, value in given.items()}
        denied = {arg for arg, value in given.items() if isinstance(value, ast.Constant) and value.value is False}
        arrays_alone = name in ("numpy.load", "np.load") and "allow_pickle" in denied
        if (name in NEVER_CALLED and not arrays_alone) or name.endswith(".extractall"):
            found.append(f"{name}()")
        if name in ("torch.load", "load") and "torch" in code and name == "torch.load" and not says.get("weights_only"):
            found.append("torch.load() without weights_only=True")
        found += [f"{name}({arg}=True)" for arg in NEVER_TRUE if arg in given.keys() - denied]
    return found


@pytest.mark.parametrize("path", FILES, ids=[path.relative_to(ROOT).as_posix() for path in FILES])
def test_nothing_that_runs_files_is_called(path: Path) -> None:
    allowed = (
        {"import subprocess"} if path.is_relative_to(ROOT / "benchmarks") else set()
    )  # they start what they measure
    assert set(complaints(path.read_text())) <= allowed


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "numpy.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.lib.format.read_array(file, allow_pickle=True)",
        "yaml.load(text)",
        "eval(text)",
        "run(command, shell=True)",
        "archive.extractall(folder)",
        "load_dataset(name, trust_remote_code=True)",
    ],
)
def test_what_runs_files_is_found(code: str) -> None:
    assert complaints(code)


def test_what_reads_numbers_alone_is_let_through() -> None:
    assert not complaints("import torch\ntorch.load(path, weights_only=True)")
    assert not complaints("np.load(path, allow_pickle=False)")
    assert not complaints("Model.from_pretrained(folder, trust_remote_code=False)")


def test_a_name_in_an_atlas_starts_no_code(atlas: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`own:MODULE.FUNCTION` on the command line runs that function, as it should; in somebody's atlas it is a name."""
    import json

    def never(*_: object) -> None:
        raise AssertionError("code that an atlas names is run")

    monkeypatch.setattr(imported, "import_module", never)
    path = atlas / "atlas.json"
    text = path.read_text().replace('"efficientnet_lite0"', '"own:os.abort"')
    assert renamed and json.loads(text)["models"].keys() == {"own:os.abort"}
    path.write_text(text)
    source = Folder(atlas)
    assert list(check(Folder(atlas)))  # its files are not where such a model's would be
    assert coverage(source) and cite(source)
    assert choices(Atlas(source)) == []
