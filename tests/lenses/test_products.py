"""Connections of units that dictionaries make, of networks whose weights are known."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from microscope_atlas.atlas.dictionaries import Attached
from microscope_atlas.lenses.connections import Connections, Recipe
from microscope_atlas.lenses.lens import Row, Subject
from microscope_atlas.lenses.products import NO_DECODER, NOTHING_BETWEEN, WRITES_ELSEWHERE
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.dictionaries.attached import attach, keep
from microscope_atlas.models.dictionaries.dictionary import Dictionary
from microscope_atlas.models.networks.linearised import ATTENTION
from microscope_atlas.models.networks.network import Network

SMALL, TRANSFORMER = "own:tests.models.own_networks.small", "own:tests.models.kinds_of_networks.transformer"
WIDTH, UNITS = 8, 12  # of both networks' layers, and of a dictionary
ALL = Recipe(top=100)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path / "cache"))
    yield
    for model in (SMALL, TRANSFORMER):
        attach(model, {})


def made(seed: int = 0, decoder: bool = True, **settings: Any) -> Dictionary:
    stream = torch.Generator().manual_seed(seed)
    encoder, back = torch.randn(2, UNITS, WIDTH, generator=stream)
    return Dictionary(encoder, "relu", torch.ones(UNITS), decoder=back if decoder else None, **settings)


def network(model: str, **behind: Dictionary) -> tuple[Network, Any]:
    """A model with dictionaries behind layers, each as LAYER_sae."""
    known = {}
    for layer, one in behind.items():
        keep(one)
        says = tuple(one.says.items())
        known[f"{layer}_sae"] = Attached(layer, one.sha256, one.units, one.described, "places", "here", says)
    attach(model, known)
    found = organism(model)
    return weights.network(found, weights.load(found)), found


def rows(net: Network, known: Any, layer: str, units: list[int]) -> list[Row]:
    subject = Subject(known, known.layer(layer), torch.device("cpu"), lambda: net)
    return [row for some in Connections().rows(subject, units, ALL) for row in some]


def kernels(found: list[Row], unit: int, towards: str, other: str, width: int) -> Tensor:
    """(the other layer's units, 5, 5), by the rows of a unit."""
    values = torch.zeros(width, 5, 5)
    for row in found:
        if (row["unit"], row["towards"], row["other_layer"]) == (unit, towards, other):
            values[row["other_unit"]] = torch.tensor(row["kernel"])
    return values


def padded(kernel: Tensor) -> Tensor:
    missing = (5 - kernel.shape[-1]) // 2
    return torch.nn.functional.pad(kernel, (missing,) * 4)


def test_inputs_are_the_encoder_times_the_weights() -> None:
    one = made()
    net, known = network(SMALL, block_conv2=one)
    found = rows(net, known, "block_conv2_sae", [3])
    weight = net.network.module.block.conv2.weight  # type: ignore[union-attr, operator]
    expected = torch.einsum("m,mnhw->nhw", one.encoder[3], weight)
    assert torch.allclose(kernels(found, 3, "input", "block_conv1", WIDTH), padded(expected), atol=1e-5)
    assert torch.allclose(
        kernels(found, 3, "input", "block_conv2", WIDTH), padded(one.encoder[3][:, None, None]), atol=1e-6
    )


def test_outputs_are_the_weights_times_the_decoder() -> None:
    one = made()
    assert one.decoder is not None
    net, known = network(SMALL, block_conv1=one)
    found = rows(net, known, "block_conv1_sae", [5])
    weight = net.network.module.block.conv2.weight  # type: ignore[union-attr, operator]
    expected = torch.einsum("nmhw,m->nhw", weight, one.decoder[5])
    assert torch.allclose(kernels(found, 5, "output", "block_conv2", WIDTH), padded(expected), atol=1e-5)
    assert torch.allclose(
        kernels(found, 5, "output", "block_conv1", WIDTH), padded(one.decoder[5][:, None, None]), atol=1e-6
    )


def test_between_two_dictionaries_are_decoder_weights_and_encoder() -> None:
    first, second = made(), made(1)
    assert first.decoder is not None
    net, known = network(SMALL, block_conv1=first, block_conv2=second)
    weight = net.network.module.block.conv2.weight  # type: ignore[union-attr, operator]
    expected = torch.einsum("um,mnhw,vn->uvhw", second.encoder, weight, first.decoder)
    ahead = rows(net, known, "block_conv1_sae", [5])
    back = rows(net, known, "block_conv2_sae", [3])
    outputs, inputs = (
        kernels(ahead, 5, "output", "block_conv2_sae", UNITS),
        kernels(back, 3, "input", "block_conv1_sae", UNITS),
    )
    assert torch.allclose(outputs, padded(expected[:, 5]), atol=1e-5)
    assert torch.allclose(inputs, padded(expected[3]), atol=1e-5)


def test_no_row_depends_on_which_units_are_asked_for() -> None:
    net, known = network(SMALL, block_conv1=made())
    among = [row for row in rows(net, known, "block_conv1_sae", [0, 4, 7, 9]) if row["unit"] == 7]
    assert among == rows(net, known, "block_conv1_sae", [7])


def test_what_lies_behind_attention_is_left_out_with_the_reason() -> None:
    one = made()
    assert one.decoder is not None
    net, known = network(TRANSFORMER, blocks_0=one)
    found = rows(net, known, "blocks_0_sae", [2])
    others = {(row["towards"], row["other_layer"]): row["recipe"]["linearisation"] for row in found}
    assert others[("input", "blocks_0")] == others[("output", "blocks_0")] == NOTHING_BETWEEN
    assert {("input", "blocks_0_mlp"), ("input", "blocks_0_heads"), ("output", "blocks_1")} <= others.keys()
    assert {row["recipe"]["left_out"]["blocks_1_heads"] for row in found} == {ATTENTION}
    assert not any("heads" in other for towards, other in others if towards == "output")
    back = net.network.module.blocks[0].mlp.fc2.weight  # type: ignore[union-attr, index]
    inputs = kernels(found, 2, "input", "blocks_0_mlp", back.shape[1])
    assert torch.allclose(inputs[:, 2, 2], one.encoder[2] @ back, atol=1e-5)
    assert torch.allclose(kernels(found, 2, "output", "blocks_1", WIDTH)[:, 2, 2], one.decoder[2], atol=1e-5)


@pytest.mark.parametrize(
    ("one", "why"), [(made(decoder=False), NO_DECODER), (made(says={"writes": "mlp_out"}), WRITES_ELSEWHERE)]
)
def test_what_gives_nothing_to_its_layer_has_inputs_alone(one: Dictionary, why: str) -> None:
    net, known = network(SMALL, block_conv1=one)
    found = rows(net, known, "block_conv1_sae", [0])
    assert {row["towards"] for row in found} == {"input"}
    assert {row["recipe"]["left_out"]["output"] for row in found} == {why}


@pytest.mark.parametrize(
    ("first", "why"), [(made(decoder=False), NO_DECODER), (made(says={"writes": "mlp_out"}), WRITES_ELSEWHERE)]
)
def test_another_dictionary_that_gives_nothing_to_its_layer_is_left_out_with_the_reason(
    first: Dictionary, why: str
) -> None:
    net, known = network(SMALL, block_conv1=first, block_conv2=made(1))
    found = rows(net, known, "block_conv2_sae", [3])
    assert "block_conv1" in {row["other_layer"] for row in found}
    assert {row["recipe"]["left_out"]["block_conv1_sae"] for row in found} == {why}


def test_a_mean_that_is_taken_away_from_inputs_is_taken_from_the_encoder() -> None:
    one = made(treatment="layer_norm")
    net, known = network(SMALL, block_conv1=one)
    found = kernels(rows(net, known, "block_conv1_sae", [1]), 1, "input", "block_conv1", WIDTH)[:, 2, 2]
    assert np.allclose(found, one.encoder[1] - one.encoder[1].mean(), atol=1e-6)
