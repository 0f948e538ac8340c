"""Every lens on layers of tokens: features on a grid are shown as channels are, a class token as neurons are."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.lenses.geometry import layer_size, unit_size
from microscope_atlas.lenses.registry import UNASKED
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.networks.flops import flops
from microscope_atlas.publish.check import check
from microscope_atlas.run.plan import select
from microscope_space.pages import layer as layer_page
from microscope_space.pages import unit as unit_page
from tests.atlases import render_every

MODEL = "own:tests.models.kinds_of_networks.transformer"
LAYERS = {"blocks_0_heads": range(1), "blocks_0_mlp": range(2), "blocks_0_mlp_prefix0": range(1)}


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of layers of a small transformer through every lens. Nobody may write to it."""
    root = tmp_path_factory.mktemp("tokens") / "atlas"
    render_every(root, LAYERS, MODEL)
    return root


def rows(atlas: Path, name: str, layer: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Atlas(Folder(atlas)).table(name, MODEL, layer).to_pylist()
    return found


def test_it_is_checked(atlas: Path) -> None:
    assert list(check(Folder(atlas))) == []


def test_features_have_the_rows_of_channels_and_class_tokens_those_of_neurons(atlas: Path) -> None:
    for layer, shown in (("blocks_0_mlp", {"channel": 2, "neuron": 2}), ("blocks_0_mlp_prefix0", {"channel": 2})):
        found = [row for row in rows(atlas, "feature_visualization", layer) if row["unit"] == 0]
        assert Counter(row["objective"] for row in found) == shown
        assert all(row["image"] is not None for row in found)


def test_minus_one_is_taken_before_the_activation_function(atlas: Path) -> None:
    targets = {
        row["direction"]: json.loads(row["recipe"])["target"]
        for row in rows(atlas, "feature_visualization", "blocks_0_mlp")
    }
    assert targets == {1: "blocks_0_mlp", -1: "blocks_0_mlp/pre_relu"}


def test_kind_and_head_of_a_unit_are_told(atlas: Path) -> None:
    assert {row["kind"] for row in rows(atlas, "units", "blocks_0_mlp")} == {"tokens"}
    assert {row["kind"] for row in rows(atlas, "units", "blocks_0_mlp_prefix0")} == {"dense"}
    assert [row["branch"] for row in rows(atlas, "units", "blocks_0_heads")] == ["head_0"]


def test_samples_say_where_in_the_picture_a_feature_answers(atlas: Path) -> None:
    for row in rows(atlas, "responses", "blocks_0_mlp"):
        assert row["samples"] and all(0 <= each["x"] < 4 and 0 <= each["y"] < 4 for each in row["samples"])
    for row in rows(atlas, "responses", "blocks_0_mlp_prefix0"):
        assert all(each["x"] is None for each in row["samples"])


def test_connections_are_found_between_layers_of_tokens(atlas: Path) -> None:
    found = rows(atlas, "connections", "blocks_0_mlp")
    assert {(row["towards"], row["other_layer"]) for row in found} >= {("input", "embed"), ("output", "blocks_0")}
    assert any(row["strength"] > 0 for row in found if row["other_layer"] == "blocks_0")
    assert rows(atlas, "connections", "blocks_0_mlp_prefix0") == []


@pytest.mark.parametrize("name", UNASKED)
def test_every_lens_has_rows_of_a_layer_of_tokens(name: str, atlas: Path) -> None:
    found = rows(atlas, name, "blocks_0_mlp")
    assert found
    assert "nan" not in {row.get("flag") for row in found}


def test_pages_call_a_unit_a_feature(atlas: Path) -> None:
    opened = Atlas(Folder(atlas))
    assert "feature 0 of 24" in unit_page.unit(opened, MODEL, "blocks_0_mlp", 0).body
    assert "blocks_0_mlp" in layer_page.layer(opened, MODEL, "blocks_0_mlp").body


def test_pictures_have_the_networks_own_size() -> None:
    known = organism(MODEL)
    for layer in (each for each in known.layers.values() if each.kind != "conv"):
        assert unit_size(layer, 32, None) == layer_size(layer, 32, 16) == 32
    assert flops(known.blank(), "blocks_1_mlp", 32) > flops(known.blank(), "blocks_0_mlp", 32) > 0


def test_layers_are_rendered_without_being_named_where_they_lead() -> None:
    known = organism(MODEL)
    rendered = select(known, [], None)
    inside = [f"blocks_{at}{part}" for at in (0, 1) for part in ("_heads", "_mlp", "")]
    assert list(rendered) == ["embed", *inside, "head"]
    assert select(known, ["blocks_0_mlp_prefix0", "blocks_0_attn_qkv"], range(3)) == {
        "blocks_0_mlp_prefix0": range(3),
        "blocks_0_attn_qkv": range(3),
    }


def test_a_unit_alone_equals_a_unit_among_others() -> None:
    known = organism(MODEL)
    network = known.build()
    pictures = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    alone, among = network(pictures[:2], ["blocks_1"])[0], network(pictures, ["blocks_1"])[0]
    assert alone.equal(among[:2])
