"""Layers by structure: hidden neurons, heads, residual streams, against the sums written out."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microscope_atlas.models.networks.graph import edges
from microscope_atlas.models.networks.traced import Traced
from tests.models import own_networks
from tests.models.networks.test_places import PICTURES, traced
from tests.models.networks.transformers import Block, Gated, Mlp, Transformer, seeded


def grid(tokens: Tensor, prefix: int = 1) -> Tensor:
    return tokens[:, prefix:].transpose(1, 2).unflatten(2, (4, 4))


def by_hand(module: Transformer, pictures: Tensor) -> dict[str, Tensor]:
    """Every value of the two blocks, of tokens in rows behind one class token."""
    x = module.embed(pictures).flatten(2).transpose(1, 2)
    x = torch.cat([module.before.expand(len(x), -1, -1), x], 1) + module.positions
    values = {}
    for at, block in enumerate(module.blocks):
        assert isinstance(block, Block)
        q, k, v = block.attn.qkv(block.norm1(x)).chunk(3, -1)
        heads = [
            ((q[..., part] @ k[..., part].mT) / 2).softmax(-1) @ v[..., part] for part in (slice(0, 4), slice(4, 8))
        ]
        values[f"blocks_{at}_heads"] = torch.cat(heads, -1)
        x = x + block.attn.proj(values[f"blocks_{at}_heads"])
        read = block.norm2(x)
        if isinstance(block.mlp, Gated):
            hidden = block.mlp.act(block.mlp.gate(read)) * block.mlp.value(read)
            x = x + block.mlp.down(hidden)
        else:
            before = block.mlp.fc1(read)
            values[f"blocks_{at}_mlp/pre_relu"] = before
            hidden = block.mlp.act(before)
            x = x + block.mlp.fc2(hidden)
        values[f"blocks_{at}_mlp"], values[f"blocks_{at}"] = hidden, x
    return values


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("mlp", "act"), [(Mlp, nn.GELU), (Mlp, nn.SiLU), (Mlp, nn.ReLU), (Gated, nn.SiLU)])
def test_neurons_heads_and_blocks_are_the_sums_written_out(
    mlp: Callable[..., nn.Module], act: Callable[[], nn.Module], fused: bool
) -> None:
    network = traced(lambda: Transformer(fused=fused, act=act(), mlp=mlp))
    table = network.table(32)
    rendered = [name for name, layer in table.items() if not layer.named_only]
    inside = [f"blocks_{at}{part}" for at in (0, 1) for part in ("_heads", "_mlp", "")]
    assert rendered == ["embed", *inside, "head"]
    assert [table[name].units for name in inside[:3]] == [8, 24 if mlp is Mlp else 16, 8]
    assert all(table[name].kind == "tokens" and table[name].stride == 8 for name in inside)
    module = network.module
    assert isinstance(module, Transformer)
    expected = by_hand(module, PICTURES)
    nodes = [name for name in expected if name in table or network.preactivation(name[:-9]) == name]
    for name, value in zip(nodes, network(PICTURES, nodes), strict=True):
        torch.testing.assert_close(value, grid(expected[name]), atol=1e-5, rtol=0)
    apart = [name for name in expected if f"{name}_prefix0" in table]
    assert set(apart) == set(inside)
    for name, value in zip(apart, network(PICTURES, [f"{name}_prefix0" for name in apart]), strict=True):
        torch.testing.assert_close(value, expected[name][:, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("act", "before"), [(nn.GELU, True), (nn.SiLU, True), (nn.ReLU, True), (nn.Tanh, False)])
def test_minus_one_is_taken_before_what_has_a_lower_bound(act: Callable[[], nn.Module], before: bool) -> None:
    network = traced(lambda: Transformer(act=act()))
    assert network.objective_node("blocks_0_mlp", 1) == "blocks_0_mlp"
    assert network.objective_node("blocks_0_mlp", -1) == "blocks_0_mlp" + ("/pre_relu" if before else "")
    assert network.objective_node("blocks_0", -1) == "blocks_0"


def test_minus_one_of_a_gate_times_a_value_is_of_the_product() -> None:
    network = traced(lambda: Transformer(act=nn.SiLU(), mlp=Gated))
    assert network.objective_node("blocks_0_mlp", -1) == "blocks_0_mlp"


@pytest.mark.parametrize("act", [F.gelu, F.silu])
def test_the_lowest_activation_is_of_a_weak_preactivation(act: Callable[[Tensor], Tensor]) -> None:
    """Why -1 is not taken behind: a strong one below zero gives less, and no gradient to get there."""
    x = torch.linspace(-12, 12, 2401)
    lowest = float(x[act(x).argmin()])
    assert -1.4 < lowest < -0.7 and float(act(torch.tensor(-12.0)).abs()) < 1e-4


def test_heads_are_branches_of_their_layer() -> None:
    layer = traced(Transformer).table(32)["blocks_1_heads"]
    assert layer.branches == {"head_0": (0, 4), "head_1": (4, 8)}


def test_edges_lead_along_the_residual_stream() -> None:
    network = traced(Transformer)
    assert edges(network, network.table(32))[:6] == [
        ("embed", "blocks_0_heads"),
        ("embed", "blocks_0_mlp"),
        ("blocks_0_heads", "blocks_0_mlp"),
        ("embed", "blocks_0"),
        ("blocks_0_heads", "blocks_0"),
        ("blocks_0_mlp", "blocks_0"),
    ]


def test_residual_blocks_of_convolutions_are_there_by_name() -> None:
    network = Traced(own_networks.small().module, (0.0,), (1.0,), 32)
    layer = network.table(32)["block"]
    assert (layer.kind, layer.units, layer.named_only) == ("conv", 8, True)
    assert (network.preactivation("block"), network.rectified("block")) == ("block/pre_relu", True)
    assert "block" not in {name for edge in edges(network, network.table(32)) for name in edge}


def test_encoder_layers_of_pytorch_have_neurons_heads_and_no_fast_path() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(3, 8, 8, stride=8)
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True, activation="gelu")
            self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(self.embed(x).flatten(2).transpose(1, 2)).mean(1)  # type: ignore[no-any-return]

    network = Traced(seeded(Encoder), (0.0,), (1.0,), 32)
    rendered = [name for name, layer in network.table(32).items() if not layer.named_only]
    assert rendered == ["embed", "layers_layers_0_heads", "layers_layers_0_mlp", "layers_layers_0"]
    with torch.no_grad():
        without = network(PICTURES, rendered)
    for one, other in zip(without, network(PICTURES.clone().requires_grad_(), rendered), strict=True):
        assert one.equal(other)
