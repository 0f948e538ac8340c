"""The Space beside a published atlas: the files it is made of, and having the Hub hold exactly these."""

import re
from importlib.util import find_spec
from pathlib import Path

import yaml

from microscope_atlas.errors import PublishFailed
from microscope_atlas.hub.changes import File, Files, changes, files_in
from microscope_atlas.hub.repo import Listen, Repo

PACKAGES = ("microscope_atlas", "microscope_space")
# what stands at the top of the Space's repository, and as what
TOP = {"README.md": "README.md", "requirements.txt": "requirements.txt", "main.py": "app.py"}


def deploy(files: Files, name: str, message: str, private: bool = False, listen: Listen = lambda *_: None) -> str:
    """Have a Space hold exactly these files, of which README.md is its settings; returns the commit."""
    sdk = _space_settings(files).get("sdk")
    if not isinstance(sdk, str):
        raise PublishFailed("README.md does not say the Space's sdk in its YAML head; expected `sdk: gradio`")
    repo = Repo(name, "space")
    head = repo.head() or repo.create(private, space_sdk=sdk)
    needed = changes(files, repo.tree(head))
    return repo.commit(needed, head, message, listen) if needed else head


def space_files(atlas: str) -> dict[str, File]:
    """What a Space that shows `atlas`, `owner/name@revision`, is to hold: its pages, and the package that they import.

    PublishFailed where the pages are not installed, or not all of them.
    """
    packages = {name: _folder(name) for name in PACKAGES}
    pages = packages["microscope_space"]
    installed = pages / "top"
    top = installed if installed.is_dir() else pages.parent
    if lacking := [name for name in TOP if not (top / name).is_file()]:
        raise PublishFailed(f"there is no Space in {top} (no {', '.join(sorted(lacking))}); install the package anew")
    return {
        **{deployed: File(top / name) for name, deployed in TOP.items()},
        **{
            f"{name}/{path}": file
            for name, folder in packages.items()
            for path, file in files_in(folder).items()
            if not path.startswith("top/")
        },
        "atlas.txt": File(f"{atlas}\n".encode()),
    }


def _folder(package: str) -> Path:
    """Where an installed package's files are."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise PublishFailed(f"the package {package} is not installed; pip install microscope-atlas")
    return Path(spec.origin).parent


def _space_settings(files: Files) -> dict[str, object]:
    """The YAML head of a Space's README.md."""
    head = re.match(r"---\n(.*?)\n---\n", files["README.md"].read().decode(), re.DOTALL)
    settings = yaml.safe_load(head[1]) if head else None
    return settings if isinstance(settings, dict) else {}
