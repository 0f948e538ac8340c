import weakref

import pytest
import torch
from torch import nn

from microscope_atlas.atlas.organisms import Field
from microscope_atlas.errors import UnknownName
from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.models.networks.graph import Graph, fold_batch_norm, receptive_fields
from microscope_atlas.models.networks.ops import Add, Concat, GlobalAveragePool, SameConv2d
from tests import toy


def counted() -> tuple[Graph, list[str]]:
    """A chain with a side branch; the list tells which operations ran."""
    ran: list[str] = []

    class Noted(nn.Identity):
        def __init__(self, name: str):
            super().__init__()
            self.name = name

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            ran.append(self.name)
            return input + 1

    g = Graph()
    g.add("a", Noted("a"))
    g.add("b", Noted("b"), "a")
    g.add("side", Noted("side"), "a")
    g.add("c", Noted("c"), "b")
    return g, ran


def test_network_is_cut_behind_the_target() -> None:
    g, ran = counted()
    assert g(torch.zeros(1), ["b"])[0].item() == 2
    assert ran == ["a", "b"]


def test_several_targets_share_what_leads_to_them() -> None:
    g, ran = counted()
    assert [value.item() for value in g(torch.zeros(1), ["c", "side", "a"])] == [3, 2, 1]
    assert sorted(ran) == ["a", "b", "c", "side"]


def test_visitor_is_shown_each_target_once_in_order_of_computation() -> None:
    g, _ = counted()
    seen: list[tuple[str, float]] = []
    g.visit(torch.zeros(1), ["c", "side", "a"], lambda node, value: seen.append((node, value.item())))
    assert seen == [("a", 1), ("side", 2), ("c", 3)]


def test_values_are_let_go_of_when_nothing_reads_them_any_more() -> None:
    g, _ = counted()
    values: dict[str, weakref.ref[torch.Tensor]] = {}
    left: dict[str, list[str]] = {}

    def see(node: str, value: torch.Tensor) -> None:
        values[node] = weakref.ref(value)
        left[node] = [other for other, each in values.items() if each() is not None]

    g.visit(torch.zeros(1), ["a", "b", "side", "c"], see)
    assert left == {"a": ["a"], "b": ["a", "b"], "side": ["a", "b", "side"], "c": ["b", "c"]}


def test_unknown_node_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="node 'mixed_pr' is not in the network; nearest: mixed_pre"):
        toy.network()(torch.zeros(1, 3, 32, 32), ["mixed_pr"])


def test_preactivation_is_before_the_rectifier_and_the_layer_itself_without_one() -> None:
    g = toy.network()
    assert g.preactivation("mixed") == "mixed_pre"
    assert g.preactivation("logits") == "logits"


def test_table_of_layers_knows_kind_units_branches_and_field() -> None:
    with torch.device("meta"):
        table = toy.network_to_be_initialised().table(32)
    mixed, logits = table["mixed"], table["logits"]
    assert (mixed.kind, mixed.units) == ("conv", 32)
    assert mixed.branches == {"mixed_1x1": (0, 8), "mixed_3x3": (8, 32)}
    assert (mixed.receptive_field, mixed.stride) == (17, 4)  # 5, +2*2 by the pool, +2*4 by the 3x3
    assert (logits.kind, logits.units, logits.receptive_field, logits.branches) == ("dense", 10, None, {})


def test_receptive_field_is_what_the_gradient_reaches() -> None:
    g = toy.network()
    with torch.device("meta"):
        table = toy.network_to_be_initialised().table(64)
    picture = torch.rand(1, 3, 64, 64, requires_grad=True)
    acts = g(picture, ["mixed_3x3"])[0]
    acts[0, :, 8, 8].sum().backward()
    assert picture.grad is not None
    reached = picture.grad[0].abs().sum(0).nonzero()
    extent = (reached.max(0).values - reached.min(0).values + 1).tolist()
    # a max pool hands its gradient to one of its nine, so what is reached lies within the field
    field = table["mixed_3x3"]
    assert max(extent) <= field.receptive_field == 17
    first = field.origin + 8 * field.stride
    assert first <= reached.min() <= reached.max() < first + 17


def test_field_of_a_sum_is_the_larger_and_of_a_global_pool_the_whole() -> None:
    g = Graph()
    g.add("a", nn.Conv2d(1, 1, 3, stride=2))
    g.add("b", nn.Conv2d(1, 1, 5), "a")
    g.add("sum", Add(), "a", "b")
    g.add("pool", GlobalAveragePool(), "sum")
    found = receptive_fields(g, 32, dict.fromkeys(g.reads, (1, 15, 15)))
    square = {"a": Field(3, 2), "b": Field(11, 2), "sum": Field(11, 2), "pool": Field(None, 2)}
    assert found == {name: (field, field) for name, field in square.items()}


def test_fields_of_long_kernels_keep_height_and_width_apart() -> None:
    def build() -> Graph:
        g = Graph()
        g.add("wide", nn.Conv2d(3, 2, (1, 7), stride=(1, 2), padding=(0, 3)))
        g.add("high", SameConv2d(2, 2, (5, 1), (2, 1)), "wide")
        g.add("apart", nn.Conv2d(2, 2, 3, dilation=(1, 4)), "high")
        g.add("pool", nn.AvgPool2d((3, 2), (1, 2), (1, 0)), "apart")
        return g

    with torch.device("meta"):
        table = build().table(64)
    assert table["wide"].sides == (Field(1, 1, 0), Field(7, 2, -3))
    assert table["high"].sides == (Field(5, 2, -1), Field(7, 2, -3))
    assert table["apart"].sides == (Field(5 + 2 * 2, 2, -1), Field(7 + 8 * 2, 2, -3))
    assert table["pool"].sides == (Field(9 + 2 * 2, 2, -1 - 2), Field(23 + 2, 4, -3))
    long = table["apart"]
    assert (long.receptive_field, long.stride, long.origin) == (23, 2, -3)
    g = build()
    for name, layer in table.items():
        picture = torch.rand(1, 3, 64, 64, requires_grad=True)
        acts = g(picture, [name])[0]
        y, x = acts.shape[2] // 2, acts.shape[3] // 2
        (gradient,) = torch.autograd.grad(acts[0, :, y, x].sum(), picture)
        for axis, (side, at) in enumerate(zip(layer.sides, (y, x), strict=True)):
            reached = gradient[0].abs().sum((0, 2 - axis)).nonzero()
            first = side.origin + at * side.stride
            assert side.size is not None
            assert (reached.min(), reached.max()) == (first, first + side.size - 1), (name, axis)


@pytest.mark.parametrize("size", [32, 33])
def test_field_begins_where_the_gradient_does(size: int) -> None:
    """TensorFlow's padding adds one row less before a picture of even size."""

    def build() -> Graph:
        g = Graph()
        x = g.add("a", SameConv2d(3, 1, 3, stride=2))
        x = g.add("b", nn.Conv2d(1, 1, 5, padding=2), x)
        g.add("both", Concat(), x, g.add("c", SameConv2d(1, 1, 7, stride=1), x))
        g.add("d", SameConv2d(2, 1, 3, stride=2), "both")
        return g

    with torch.device("meta"):
        table = build().table(size)
    torch.manual_seed(0)
    g = build()
    for name, layer in table.items():
        picture = torch.rand(1, 3, size, size, requires_grad=True)
        acts = g(picture, [name])[0]
        at = acts.shape[-1] // 2
        (gradient,) = torch.autograd.grad(acts[..., at, at].sum(), picture)
        reached = gradient[0].abs().sum((0, 1)).nonzero()
        first = layer.origin + at * layer.stride
        assert layer.receptive_field is not None
        expected = (max(first, 0), min(first + layer.receptive_field, size) - 1)
        assert (reached.min(), reached.max()) == expected, name


def test_folded_batch_norm_is_the_same_function() -> None:
    torch.manual_seed(0)
    g = Graph()
    g.add("conv", nn.Conv2d(3, 8, 3))
    norm = nn.BatchNorm2d(8, eps=0.1)
    g.add("norm", norm, "conv")
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        assert tensor is not None
        tensor.uniform_(0.5, 2)
    g.eval()
    picture = torch.rand(2, 3, 9, 9)
    before = g(picture, ["norm"])[0]
    fold_batch_norm(g)
    assert isinstance(g.get_submodule("norm"), nn.Identity)
    torch.testing.assert_close(g(picture, ["norm"])[0], before)


def test_batch_norm_is_left_where_something_else_reads_the_convolution() -> None:
    g = Graph()
    g.add("conv", nn.Conv2d(3, 8, 3))
    g.add("norm", nn.BatchNorm2d(8), "conv")
    g.add("both", Concat(), "conv", "norm")
    fold_batch_norm(g.eval())
    assert isinstance(g.get_submodule("norm"), nn.BatchNorm2d)


def test_excited_behind_the_rectifier_and_silenced_before_it() -> None:
    graph = toy.network()
    assert graph.objective_node("mixed", 1) == "mixed"
    assert graph.objective_node("mixed", -1) == "mixed_pre"
    assert graph.objective_node("logits", -1) == "logits"
    lite = CATALOG["efficientnet_lite0"].build()
    assert lite.objective_node("head", 1) == lite.objective_node("head", -1) == "head/bn"
