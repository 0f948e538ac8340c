"""A network cut behind a layer: what lies behind is a function of the layer's activations, and nothing else changes."""

import pytest
import torch
from torch import nn

from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.networks.ops import Add, Concat
from microscope_atlas.models.networks.traced import Traced
from tests import toy
from tests.models import own_networks
from tests.models.networks.transformers import Transformer, seeded

PICTURES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def around() -> Graph:
    """Two ways around its middle layer: a sum and a concatenation."""
    g = Graph()
    first = g.add("first", nn.Conv2d(3, 4, 1))
    middle = g.add("middle", nn.ReLU(), g.add("middle_pre", nn.Conv2d(4, 4, 3, padding=1), first))
    total = g.add("sum", Add(), middle, first)
    g.add("both", Concat(), total, first)
    g.add("aside", nn.Conv2d(4, 2, 1), first)
    return g.eval().requires_grad_(False)


def traced(module: nn.Module, size: int = 32) -> Traced:
    return Traced(module, (0.5,), (0.25,), size)


@pytest.fixture(scope="module")
def small() -> Traced:
    given = own_networks.small()
    return Traced(given.module, given.mean, given.std, 32)


@pytest.fixture(scope="module")
def transformer() -> Traced:
    made = traced(seeded(lambda: Transformer(order=range(15, -1, -1))))
    made.table(32)
    return made


def same(network: Network, layer: str, targets: list[str]) -> None:
    with torch.no_grad():
        expected = network(PICTURES, [layer, *targets])
        acts, onwards = network.cut(PICTURES, layer, targets)
        for own, other in zip([acts, *onwards(acts)], expected, strict=True):
            torch.testing.assert_close(own, other)


def test_its_own_activations_lead_to_what_the_network_gives(small: Traced, transformer: Traced) -> None:
    same(toy.network(), "conv1", ["mixed_pre", "logits", "conv1_pre"])
    same(around(), "middle", ["both", "aside", "middle"])
    same(small, "block_conv1", ["block/pre_relu", "block", "mixer", "stem_0", "logits"])
    same(small, "mixer", ["logits"])
    for layer in ("blocks_0", "blocks_0_mlp", "blocks_0_heads", "blocks_0_prefix0"):
        same(transformer, layer, ["blocks_1_mlp", "head", "blocks_1_prefix0"])


def test_others_lead_to_what_follows_from_them_alone() -> None:
    network = around()
    acts, onwards = network.cut(PICTURES[:1], "middle", ["both", "aside"])
    first, aside = network(PICTURES[:1], ["first", "aside"])
    for given in (acts * 2, torch.cat([acts, acts + 1, acts * 0])):  # of one picture, any batch
        both, still = onwards(given)
        torch.testing.assert_close(both, torch.cat([given + first, first.expand_as(given)], 1))
        assert still.equal(aside.expand(len(given), -1, -1, -1))


def test_a_module_goes_on_with_what_it_is_given(small: Traced, transformer: Traced) -> None:
    for network, layer, target in (
        (small, "block_conv1", "mixer"),
        (small, "mixer", "logits"),
        (transformer, "blocks_0", "head"),
        (transformer, "blocks_0_prefix0", "head"),
        (transformer, "blocks_0_mlp", "blocks_1"),
    ):
        acts, onwards = network.cut(PICTURES[:1], layer, [target])
        given = torch.cat([acts, acts * 0, acts**2]).requires_grad_(True)
        (ended,) = onwards(given)
        assert len(ended) == 3
        torch.testing.assert_close(ended[:1], network(PICTURES[:1], [target])[0])
        assert not ended[1].allclose(ended[0]) and not ended[2].allclose(ended[0])
        (gradient,) = torch.autograd.grad(ended.flatten(1)[:, 0].sum(), given)
        assert gradient.any() and gradient.shape == given.shape
        # as far as a step along the gradient changes it
        step = 1e-2 * gradient[:1] / gradient[:1].norm()
        changed = onwards(given[:1].detach() + step)[0].flatten()[0] - ended.flatten(1)[0, 0]
        torch.testing.assert_close(changed, (gradient[:1] * step).sum(), rtol=0.1, atol=1e-5)


def test_hooks_are_gone_afterwards(small: Traced) -> None:
    before = small(PICTURES, ["logits"])[0]
    acts, onwards = small.cut(PICTURES, "block", ["logits"])
    onwards(acts * 0)
    assert small(PICTURES, ["logits"])[0].equal(before)


def test_a_target_that_comes_first_has_no_gradient(small: Traced) -> None:
    for network, layer, target in ((small, "mixer", "stem_0"), (toy.network(), "mixed", "conv1")):
        acts, onwards = network.cut(PICTURES, layer, [target])
        assert not onwards(acts.requires_grad_(True))[0].requires_grad


def test_ways_around_are_held() -> None:
    acts, onwards = around().cut(PICTURES[:1], "middle", ["both"])
    given = acts.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(onwards(given)[0].sum(), given)
    assert gradient.eq(1).all()  # through the sum alone, not through what `first` gives beside
