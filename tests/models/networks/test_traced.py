"""Modules read by hooks, against the same sums written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microscope_atlas.errors import NetworkFailed, UnknownName
from microscope_atlas.models.adapters.trained import Trained
from microscope_atlas.models.networks.graph import edges
from microscope_atlas.models.networks.traced import Traced
from microscope_atlas.rendering.relu import RedirectedReLU
from tests.models import own_networks
from tests.models.own_networks import Small

PICTURES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def traced(trained: Trained) -> Traced:
    return Traced(trained.module, trained.mean, trained.std, trained.input_size, trained.layers)


def by_hand(module: Small, x: Tensor) -> dict[str, Tensor]:
    """Every value on the way, nothing in place."""
    conv, norm, _ = module.stem
    v = {"stem_0": conv(x)}
    v["stem/pre_relu"] = norm(v["stem_0"])
    v["stem"] = v["stem/pre_relu"].clamp(0, 6)
    pooled = module.pool(v["stem"])
    v["block_conv1"] = module.block.conv1(pooled)
    v["block_conv2"] = module.block.conv2(v["block_conv1"].relu())
    v["block/pre_relu"] = v["block_conv2"] + pooled
    v["block"] = v["block/pre_relu"].relu()
    v["mixer"] = F.conv2d(v["block"], module.mixer.weight[:, :, None, None], module.mixer.bias)
    v["logits"] = module.logits(v["mixer"].mean((2, 3)))
    return v


def test_layers_are_convolutions_and_dense_layers_in_the_order_they_are_computed() -> None:
    table = traced(own_networks.small()).table(32)
    assert [(layer.name, layer.kind, layer.units) for layer in table.values()] == [
        ("stem_0", "conv", 8),
        ("block_conv1", "conv", 8),
        ("block_conv2", "conv", 8),
        ("block", "conv", 8),
        ("mixer", "conv", 6),
        ("logits", "dense", 4),
    ]


def test_fields_are_those_of_the_kernels_on_the_way() -> None:
    table = traced(own_networks.small()).table(32)
    assert [(table[name].receptive_field, table[name].stride) for name in ("stem_0", "block_conv1", "block_conv2")] == [
        (5, 2),
        (5 + 2 * 2 + 2 * 4, 4),  # the pool, then the convolution
        (5 + 2 * 2 + 4 * 4, 4),
    ]
    assert table["logits"].receptive_field is None
    # half a kernel before the picture: 5 // 2; the pool 1 and the convolution 1 more, of 2 and 4 px
    assert [table[name].origin for name in ("stem_0", "block_conv1", "block_conv2")] == [-2, -2 - 2 - 4, -2 - 2 - 4 * 2]


def test_padding_before_a_convolution_is_part_of_what_it_sees() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(4, 4, 4))
    table = Traced(module, (0.0,) * 3, (1.0,) * 3, 16).table(16)
    assert [layer.origin for layer in table.values()] == [0, -2]


def test_every_layer_is_what_the_module_computes_from_its_own_input_range() -> None:
    trained = own_networks.small()
    network = traced(trained)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (trained.mean, trained.std))
    expected = by_hand(trained.module, (PICTURES - mean) / std)
    names = list(network.table(32))
    for name, alone, together in zip(
        names, (network(PICTURES, [n])[0] for n in names), network(PICTURES, names), strict=True
    ):
        torch.testing.assert_close(alone, expected[name])
        assert alone.equal(together)


def test_visitor_is_shown_each_target_as_the_network_gives_it_and_before_the_next_is_made() -> None:
    network = traced(own_networks.chosen())
    targets = ["block/pre_relu", "block", "stem", "block_conv2"]
    ran: list[str] = []
    seen: dict[str, Tensor] = {}
    network.trace()
    network.module.mixer.register_forward_hook(lambda *_: ran.append("mixer"))
    network.visit(PICTURES, [*targets, "stem"], lambda node, value: seen.update({node: value.clone()}))
    assert list(seen) == ["stem", "block_conv2", "block/pre_relu", "block"]
    assert ran == []
    for target, value in zip(targets, network(PICTURES, targets), strict=True):
        assert value.equal(seen[target])


def test_what_follows_in_place_does_not_change_a_layer() -> None:
    network = traced(own_networks.small())
    assert network(PICTURES, ["block_conv1", "logits"])[0].min() < 0  # rectified in place behind


def test_chosen_layer_ends_with_its_rectifier_and_has_what_it_reads() -> None:
    trained = own_networks.chosen()
    network = traced(trained)
    expected = by_hand(trained.module, PICTURES)
    assert (network.preactivation("block"), network.preactivation("stem")) == ("block/pre_relu", "stem/pre_relu")
    assert (network.rectified("block"), network.rectified("stem"), network.rectified("block_conv2")) == (
        *(True, False),  # a ReLU, a ReLU6
        False,
    )
    assert network.preactivation("block_conv2") == "block_conv2"
    targets = ["stem/pre_relu", "stem", "block/pre_relu", "block", "block_conv2"]
    for target, value in zip(targets, network(PICTURES, targets), strict=True):
        torch.testing.assert_close(value, expected[target])
    with RedirectedReLU():
        torch.testing.assert_close(network(PICTURES, ["block/pre_relu"])[0], expected["block/pre_relu"])


def test_edges_lead_round_a_block() -> None:
    network = traced(own_networks.small())
    assert edges(network, network.table(32)) == [
        ("stem_0", "block_conv1"),
        ("block_conv1", "block_conv2"),
        ("block_conv2", "mixer"),
        ("stem_0", "mixer"),
        ("mixer", "logits"),
    ]


def test_module_is_left_behind_the_last_target() -> None:
    ran: list[str] = []
    trained = own_networks.small()
    network = traced(trained)
    network.trace()
    trained.module.mixer.register_forward_hook(lambda *_: ran.append("mixer"))
    network(PICTURES, ["block_conv1"])
    assert ran == []
    network(PICTURES, ["logits"])
    assert ran == ["mixer"]


def test_gradient_reaches_the_picture() -> None:
    picture = PICTURES.clone().requires_grad_(True)
    traced(own_networks.small())(picture, ["block_conv2"])[0].sum().backward()
    assert picture.grad is not None and picture.grad.abs().sum() > 0


def test_names_are_fit_for_keys_and_each_is_there_once() -> None:
    convolutions = nn.ModuleDict({"a_b": nn.Conv2d(3, 3, 1), "a-b": nn.Conv2d(3, 3, 1)})

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = convolutions

        def forward(self, x: Tensor) -> Tensor:
            for conv in self.inner.values():
                x = conv(x)
            return x

    assert list(Traced(Chain(), (0, 0, 0), (1, 1, 1), 8).table(8)) == ["inner_a_b", "inner_a_b_2"]


@pytest.mark.parametrize(
    ("trained", "error", "reason"),
    [
        (own_networks.never_called, NetworkFailed, "layer unused has no output"),
        (own_networks.no_map, NetworkFailed, "layer 1 is no map: tokens whose places are not"),
        (own_networks.no_such_module, UnknownName, "module 'block.conv3' is not in the network; nearest: block.conv"),
    ],
)
def test_chosen_module_that_cannot_be_a_layer_is_refused(trained, error, reason) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=reason):
        traced(trained()).table(32)


def test_unknown_target_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="node 'block_conv' is not in the network; nearest: block_conv"):
        traced(own_networks.small())(PICTURES, ["block_conv"])
