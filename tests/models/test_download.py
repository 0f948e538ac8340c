"""Weights over HTTP from a server on 127.0.0.1 that keeps its word, or does not."""

import hashlib
import io
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor

from microscope_atlas.errors import WeightsError
from microscope_atlas.models import at_hand, converted, weights
from microscope_atlas.models.download import file_hash
from microscope_atlas.models.formats.state_dict import read_state_dict
from microscope_atlas.models.organism import Organism, Source
from tests.hub_double import Hub
from tests.models.test_mirror import TOY
from tests.serving import Quiet, serving

TENSORS = weights.random(TOY).tensors


def state_dict(tensors: dict[str, Tensor]) -> bytes:
    file = io.BytesIO()
    torch.save(tensors, file)
    return file.getvalue()


WHOLE = state_dict(TENSORS)
CHANGING = {0: WHOLE}  # what /changing.pth holds
SHA1 = hashlib.sha1(WHOLE).hexdigest()


class _Handler(Quiet):
    def do_GET(self) -> None:  # noqa: N802
        content = {
            "/whole.pth": WHOLE,
            "/short.pth": WHOLE[:-100],
            "/other.pth": state_dict({"conv.weight": torch.zeros(1)}),
            "/noise.pth": b"no pickle",
        }.get(self.path)
        if self.path == "/changing.pth":
            content = CHANGING[0]
        if content is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(WHOLE if self.path == "/short.pth" else content)))
        self.end_headers()
        self.wfile.write(content)
        return None


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving(_Handler) as address:
        yield address


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def toy(*sources: Source) -> Organism:
    return replace(TOY, sources=sources)


def source(url: str, sha1: str | None = None) -> Source:
    return Source(url, read_state_dict, license="CC0-1.0", sha1=sha1)


def files(cache: Path) -> list[str]:
    return sorted(path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file())


@pytest.mark.parametrize("sha1", [SHA1, None])
def test_file_is_fetched_converted_and_not_kept(server: str, cache: Path, sha1: str | None) -> None:
    given = weights.load(toy(source(f"{server}/whole.pth", sha1)))
    assert all(torch.equal(given.tensors[name], value) for name, value in TENSORS.items())
    assert given.provenance.source == f"{server}/whole.pth"
    assert given.provenance.file_sha256 == hashlib.sha256(WHOLE).hexdigest()
    assert files(cache) == ["downloads/first_use.json", "weights/toy.safetensors"]
    assert [path.name for path in (cache / "downloads").iterdir()] == ["first_use.json"]


def test_file_with_another_sha256_than_stated_is_refused(server: str, cache: Path) -> None:
    found = hashlib.sha256(WHOLE).hexdigest()
    stated = Source(f"{server}/whole.pth", read_state_dict, license="CC0-1.0", sha256=found)
    assert weights.load(toy(stated)).provenance.official
    with pytest.raises(WeightsError, match=f"whole.pth: the file's sha256 is {found}, expected {'0' * 64}"):
        weights.fetch(toy(replace(stated, sha256="0" * 64)))


def test_file_at_hand_is_official_where_its_publisher_states_its_hash(cache: Path) -> None:
    path = cache / "whole.pth"
    path.write_bytes(WHOLE)
    stated = Source(
        "https://example.org/whole.pth", read_state_dict, license="CC0-1.0", sha256=file_hash(path, "sha256")
    )
    assert weights.take(toy(stated), path).provenance.official
    assert not weights.take(toy(replace(stated, sha256="0" * 64)), path).provenance.official


def test_repository_of_the_hub_is_a_source(cache: Path, hub: Hub) -> None:
    there = Source("hub:someone/net/models/whole.pth", read_state_dict, license="MIT")
    with pytest.raises(WeightsError, match=r"hub:someone/net/models/whole\.pth: "):
        weights.fetch(toy(there))
    hub.commit("models/someone/net", {"models/whole.pth": WHOLE})
    given = weights.fetch(toy(there))
    assert given.sha256 == weights.random(TOY).sha256
    assert given.provenance.source == "hub:someone/net/models/whole.pth"
    assert given.provenance.file_sha256 == hashlib.sha256(WHOLE).hexdigest()


def refused() -> str:
    """The URL of a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}/whole.pth"


@pytest.mark.parametrize(
    ("path", "sha1", "reason"),
    [
        ("/whole.pth", "0" * 40, f"whole.pth: the file's sha1 is {SHA1}, expected {'0' * 40}"),
        ("/nothing.pth", None, "nothing.pth: HTTP Error 404"),
        ("/short.pth", None, f"short.pth: the connection ended after {len(WHOLE) - 100} bytes, expected {len(WHOLE)}"),
        ("/other.pth", None, r"is not of toy: conv.weight has shape \(1,\), expected \(4, 3, 3, 3\)"),
        ("/noise.pth", None, "noise.pth is not a state dict"),
    ],
)
def test_failure_is_named_and_leaves_nothing_behind(
    server: str, cache: Path, path: str, sha1: str | None, reason: str
) -> None:
    with pytest.raises(WeightsError, match=reason) as caught:
        weights.load(toy(source(server + path, sha1)))
    assert "no source of weights for toy answered" in str(caught.value)
    assert f"{server}{path}" in str(caught.value)
    assert "--from FILE" in str(caught.value)
    assert files(cache) == []
    assert not any((cache / "downloads").iterdir())


def test_refused_connection_is_named(cache: Path) -> None:
    url = refused()
    with pytest.raises(WeightsError, match=rf"{url}: .*refused"):
        weights.load(toy(source(url)))
    assert files(cache) == []


@pytest.mark.parametrize("path", ["/nothing.pth", "/short.pth", "/noise.pth"])
def test_next_source_is_tried(server: str, cache: Path, path: str) -> None:
    given = weights.load(toy(source(server + path), source(f"{server}/whole.pth", SHA1)))
    assert given.provenance.source == f"{server}/whole.pth"
    assert files(cache) == ["downloads/first_use.json", "weights/toy.safetensors"]


def test_failure_leaves_weights_in_the_cache_as_they_were(server: str, cache: Path) -> None:
    weights.load(toy(source(f"{server}/whole.pth")))
    before = (cache / "weights" / "toy.safetensors").read_bytes()
    with pytest.raises(WeightsError):
        weights.fetch(toy(source(f"{server}/short.pth")))
    assert (cache / "weights" / "toy.safetensors").read_bytes() == before


def test_conversion_that_is_stopped_leaves_no_half_file(
    server: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("microscope_atlas.models.converted.save_file", stop)
    with pytest.raises(KeyboardInterrupt):
        weights.load(toy(source(f"{server}/whole.pth")))
    assert files(cache) == []


def test_damaged_cache_is_refused_with_what_to_do(server: str, cache: Path) -> None:
    known = toy(source(f"{server}/whole.pth"))
    weights.load(known)
    path = at_hand.cached_file(known)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        WeightsError, match=r"its tensors have sha256 \w+, expected \w+; delete it, and it is made anew"
    ):
        weights.load(known)


def test_file_that_changed_since_its_first_use_is_refused(
    server: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    organism = toy(source(f"{server}/changing.pth"))
    weights.fetch(organism)
    weights.fetch(organism)
    changed = state_dict({name: value + 1 for name, value in TENSORS.items()})
    monkeypatch.setitem(CHANGING, 0, changed)
    with pytest.raises(WeightsError, match=f"at its first use it was {hashlib.sha256(WHOLE).hexdigest()}"):
        weights.fetch(organism)
    assert weights.load(organism).sha256 == weights.random(TOY).sha256
    (cache / "downloads" / "first_use.json").unlink()
    weights.fetch(organism)


def test_file_that_was_of_no_use_is_not_noted(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    organism = toy(source(f"{server}/changing.pth"))
    with monkeypatch.context() as patch:
        patch.setitem(CHANGING, 0, state_dict({"conv.weight": torch.zeros(1)}))
        with pytest.raises(WeightsError):
            weights.fetch(organism)
    weights.fetch(organism)


@pytest.mark.parametrize("noted", ["", "{", "[]", '{"a": 1}', "[" * 100_000])
def test_damaged_note_of_first_uses_is_named_with_what_to_do(server: str, cache: Path, noted: str) -> None:
    file = cache / "downloads" / "first_use.json"
    file.parent.mkdir(parents=True)
    file.write_text(noted)
    with pytest.raises(WeightsError, match=r"first_use\.json is damaged: .*; remove it, and what is fetched next"):
        weights.fetch(toy(source(f"{server}/changing.pth")))
    assert file.read_text() == noted


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("No space left on device")])
def test_full_disk_under_the_cache_is_named_with_what_to_do(
    cache: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("microscope_atlas.models.converted.save_file", full)
    with pytest.raises(WeightsError, match=r"cannot be written: .*No space left on device.*MICROSCOPE_ATLAS_CACHE"):
        converted.write(cache / "weights" / "toy.safetensors", weights.random(TOY))
    assert list((cache / "weights").iterdir()) == []
