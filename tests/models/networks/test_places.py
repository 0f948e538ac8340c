"""Where tokens are in the picture: read by gradient, in whatever order, or refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microscope_atlas.errors import NetworkFailed
from microscope_atlas.models.networks.ops import SteadyLinear, steady_rounding
from microscope_atlas.models.networks.places import NO_GRID, UNPROVEN
from microscope_atlas.models.networks.taps import Places
from microscope_atlas.models.networks.traced import Traced
from tests.models.networks.transformers import Attention, Block, Mlp, Transformer, seeded

PICTURES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def traced(build: Callable[[], nn.Module], size: int = 32) -> Traced:
    return Traced(seeded(build), (0.0,), (1.0,), size)


def found(network: Traced, size: int = 32) -> dict[str, Any]:
    """Places as plain values, or the reason."""
    return {
        name: where if isinstance(where, str) else (where.tokens.tolist(), where.rest)
        for name, where in network.places(size, size).items()
    }


ROWS = torch.arange(16).view(4, 4)
SHUFFLED = torch.randperm(16, generator=torch.Generator().manual_seed(3))
WINDOWS = ROWS.view(2, 2, 2, 2).permute(0, 2, 1, 3).flatten()  # windows of 2 x 2, one after the other
UNITS = ROWS.view(2, 2, 2, 2).permute(1, 3, 0, 2).flatten()  # places in windows first, as Hiera has them


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    "order", [ROWS.flatten(), SHUFFLED, WINDOWS, UNITS], ids=["rows", "shuffled", "windows", "units"]
)
@pytest.mark.parametrize(("before", "behind"), [(1, 0), (0, 1), (5, 0), (0, 0), (2, 1)])
def test_order_and_tokens_that_are_no_place_are_read(order: Tensor, before: int, behind: int, fused: bool) -> None:
    network = traced(lambda: Transformer(order.tolist(), before, behind, fused))
    tokens = (order.argsort() + before).view(4, 4).tolist()
    rest = (*range(before), *range(before + 16, before + 16 + behind))
    places = found(network)
    assert len(places) == 2 * (4 + 3)  # of a block: dense layers, and heads, neurons and the block
    assert all(where == (tokens, rest) for where in places.values())
    assert network.not_shown() == {}


@pytest.mark.parametrize("order", [ROWS.flatten(), SHUFFLED], ids=["rows", "shuffled"])
def test_a_layer_is_the_modules_own_tokens_in_their_places(order: Tensor) -> None:
    network = traced(lambda: Transformer(order.tolist(), 2, 1))
    seen: list[Tensor] = []
    network.module.blocks[1].register_forward_hook(lambda module, given, output: seen.append(output))
    (shown,) = network(PICTURES, ["blocks_1"])
    tokens = seen[-1] if seen else None
    if tokens is None:  # it was left behind the layer
        with torch.no_grad():
            network.module(PICTURES)
        tokens = seen[-1]
    for place, token in enumerate(order.argsort() + 2):
        torch.testing.assert_close(shown[:, :, place // 4, place % 4], tokens[:, token], atol=1e-5, rtol=0)
    extra = network(PICTURES, ["blocks_1_prefix0", "blocks_1_prefix1", "blocks_1_prefix2"])
    for token, value in zip((0, 1, 18), extra, strict=True):
        torch.testing.assert_close(value, tokens[:, token], atol=1e-5, rtol=0)


def test_gradient_goes_from_map_to_map() -> None:
    network = traced(Transformer)
    pictures = PICTURES.clone().requires_grad_()
    early, late = network(pictures, ["blocks_0", "blocks_1_mlp"])
    (gradient,) = torch.autograd.grad(late.sum(), early)
    assert gradient.shape == early.shape and bool(gradient.abs().amax((0, 1)).gt(0).all())


class Reordering(Transformer):
    """Between its blocks the tokens change places."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = self.blocks[0](x)
        return self.head(self.blocks[1](x[:, SHUFFLED]).mean(1))  # type: ignore[no-any-return]


def test_order_is_read_anew_at_every_layer() -> None:
    places = found(traced(Reordering))
    assert places["blocks_0"] == (ROWS.tolist(), ())
    assert places["blocks_1"] == (SHUFFLED.argsort().view(4, 4).tolist(), ())


class Astray(Attention):
    """Its queries are of other tokens than its keys and values."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q[:, :, SHUFFLED], k, v)
        return self.proj(x.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def test_attention_whose_queries_are_elsewhere_is_refused() -> None:
    def build() -> nn.Module:
        module = Transformer(before=0)
        module.blocks[0].attn = Astray(8, 2, True)
        return module

    assert found(traced(build))["blocks_0_heads"] == UNPROVEN
    assert found(traced(build))["blocks_0_attn_qkv"] == (ROWS.tolist(), ())


class Mixer(nn.Module):
    """A dense layer over positions beside the residual stream; as many channels as tokens."""

    def __init__(self, residual: bool = True) -> None:
        super().__init__()
        self.embed, self.residual = nn.Conv2d(3, 16, 8, stride=8), residual
        self.over_positions, self.over_features = Mlp(16, nn.GELU()), Mlp(16, nn.GELU())
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        mixed = self.over_positions(x.transpose(1, 2)).transpose(1, 2)
        x = x + mixed if self.residual else mixed
        return self.head((x + self.over_features(x)).mean(1))  # type: ignore[no-any-return]


def test_tokens_keep_their_places_beside_what_mixes_them() -> None:
    network = traced(Mixer)
    places = found(network)
    assert places["over_features_fc1"] == (ROWS.tolist(), ())
    assert {path for path, why in network.not_shown().items() if why == UNPROVEN} == {
        "over_positions.fc1",
        "over_positions.fc2",
    }


def test_network_that_is_ready_for_rendering_has_the_same_places() -> None:
    network = traced(Mixer)
    before = found(network)
    ready = traced(Mixer)
    steady_rounding(ready)
    assert {name for name, where in found(ready).items() if where != UNPROVEN} == {
        name for name, where in before.items() if where != UNPROVEN
    }
    assert any(type(op) is SteadyLinear for op in ready.modules())


def test_tokens_that_are_mixed_alone_are_refused() -> None:
    assert {name for name, where in found(traced(lambda: Mixer(residual=False))).items() if where != UNPROVEN} == set()


class Merging(nn.Module):
    """Squares of 2 x 2 tokens become one, as in a hierarchy; or pairs of a row."""

    def __init__(self, square: bool) -> None:
        super().__init__()
        self.square = square
        self.embed, self.merge = nn.Conv2d(3, 4, 8, stride=8), nn.Linear(16 if square else 8, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)  # (batch, 4, 4, 4)
        if self.square:
            x = x.unflatten(3, (2, 2)).unflatten(2, (2, 2)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        else:
            x = x.flatten(2).transpose(1, 2).unflatten(1, (8, 2)).flatten(2)
        return self.merge(x).mean(1)  # type: ignore[no-any-return]


def test_merged_tokens_are_on_a_coarser_grid() -> None:
    network = traced(lambda: Merging(True))
    assert found(network)["merge"] == ([[0, 1], [2, 3]], ())
    assert (network.table(32)["merge"].stride, network.table(32)["merge"].kind) == (16, "tokens")
    assert found(traced(lambda: Merging(False)))["merge"] == UNPROVEN


def test_more_tokens_than_places_and_sixteen_are_refused() -> None:
    assert set(found(traced(lambda: Transformer(before=17))).values()) == {NO_GRID}


class Patches(nn.Module):
    """Tokens without a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Linear(48, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(F.unfold(x, 4, stride=4).transpose(1, 2)).mean(1)  # type: ignore[no-any-return]


def test_patches_cut_from_the_picture_are_placed_in_it() -> None:
    layer = traced(Patches).table(32)["mlp"]
    assert (layer.kind, layer.units, layer.stride, layer.receptive_field) == ("tokens", 8, 4, None)


def test_layer_that_is_not_proven_at_a_size_is_refused_there() -> None:
    network = Traced(seeded(lambda: Mixer()), (0.0,), (1.0,), 32)
    with pytest.raises(NetworkFailed, match="layer over_positions_fc1 is no map of pictures of 32 x 32: tokens whose"):
        network(PICTURES, ["over_positions_fc1"])


def test_block_that_writes_in_place_is_measured_all_the_same() -> None:
    class InPlace(Block):
        def forward(self, x: Tensor) -> Tensor:
            x = self.attn(self.norm1(x)) + x
            x += self.mlp(self.norm2(x))
            return x

    def build() -> nn.Module:
        module = Transformer()
        module.blocks[0] = InPlace(8, 2, True, Mlp(8, nn.ReLU(inplace=True)))
        return module

    assert UNPROVEN not in found(traced(build)).values()


def test_places_are_found_in_any_context_that_pictures_are_shown_in() -> None:
    for context in (torch.autocast("cpu", torch.bfloat16), torch.no_grad(), torch.inference_mode()):
        network = traced(Transformer)
        with context:
            network(PICTURES, ["blocks_1"])
        assert UNPROVEN not in found(network).values()


def test_places_are_maps_there_and_back() -> None:
    tokens = torch.rand(2, 19, 3)
    for order in (ROWS.flatten(), SHUFFLED):
        where = Places((order.argsort() + 2).view(4, 4), (0, 1, 18))
        assert where.back(where.map(tokens), tokens).equal(tokens)
