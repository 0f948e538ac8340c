"""Expanded weights in closed form, against hand-made kernels and against gradients of a network made linear."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microscope_atlas.models import weights
from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.models.networks.expanded import composable, compose
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.ops import LocalResponseNorm, Preprocess, SameMaxPool2d, same_padding
from tests import toy


class Scale(nn.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class SameAveragePool(nn.Module):
    def __init__(self, kernel: int, stride: int):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        (top, bottom), (left, right) = same_padding(x.shape[2:], [self.kernel] * 2, [self.stride] * 2)
        return F.avg_pool2d(F.pad(x, (left, right, top, bottom)), self.kernel, self.stride)


def linear_twin(graph: Graph) -> Graph:
    """The same network with nothing in it that is not linear."""
    twin = deepcopy(graph)
    for name in twin.reads:
        match twin.get_submodule(name):
            case nn.ReLU() | nn.ReLU6():
                setattr(twin, name, nn.Identity())
            case SameMaxPool2d() as pool:
                setattr(twin, name, SameAveragePool(pool.kernel_size, pool.stride))
            case nn.MaxPool2d() as pool:
                setattr(twin, name, nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode))
            case LocalResponseNorm() as norm:
                setattr(twin, name, Scale(norm.k**-norm.beta))
    return twin


def gradients(graph: Graph, source: str, target: str, size: int, units: list[int]) -> Tensor:
    """Of the centre of some of the target's units, by the whole of the source's map."""
    picture = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(2)).requires_grad_(True)
    read, end = linear_twin(graph)(picture, [source, target])
    centre = end[0] if end.dim() == 2 else end[0, :, end.shape[2] // 2, end.shape[3] // 2]
    found = [torch.autograd.grad(centre[unit], read, retain_graph=True)[0][0] for unit in units]
    return torch.stack(found) if read.dim() == 4 else torch.stack(found)[:, :, None, None]


def reached(maps: Tensor) -> Tensor:
    """The part of maps that holds anything."""
    some = (maps.abs() > 1e-6 * maps.abs().max()).flatten(0, 1).any(0)
    rows, columns = (some.any(axis).nonzero().flatten() for axis in (1, 0))
    return maps[:, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def untrained(name: str) -> Graph:
    """An organism's network with random weights, and batch norms that scale."""
    organism = CATALOG[name]
    graph = organism.build().eval().requires_grad_(False)
    graph.load_state_dict(weights.random(organism).tensors, strict=False)
    stream = torch.Generator().manual_seed(1)
    for op in graph.modules():
        if isinstance(op, nn.BatchNorm2d):
            op.running_var.uniform_(0.5, 2.0, generator=stream)
            op.weight.uniform_(0.5, 2.0, generator=stream)
    assert isinstance(graph, Graph)
    return graph


def composed(graph: Graph, source: str, target: str, size: int, shown: tuple[str, ...] = (), batch: int = 7) -> Tensor:
    return torch.cat(list(compose(graph, source, target, shown, size, batch)))


def test_kernels_between_convolutions_are_the_later_ones() -> None:
    found = composed(toy.handmade(), "conv1", "conv2", 16)
    expected = torch.zeros(2, 3, 3, 3)
    expected[0, 0, 1, 1] = expected[0, 1, 1, 1] = 1
    expected[1, 0, 1, 0], expected[1, 1, 1, 1] = 2, -1
    torch.testing.assert_close(found, expected)


def test_a_mean_over_the_map_has_one_weight_everywhere() -> None:
    found = composed(toy.handmade(), "conv2", "logits", 6)
    expected = torch.tensor([[1.0, 0], [-1, 1]])[:, :, None, None].expand(2, 2, 6, 6) / 36
    torch.testing.assert_close(found, expected)


def test_a_flattened_map_keeps_its_places() -> None:
    g = Graph()
    x = g.add("conv", nn.ReLU(), g.add("conv_pre", nn.Conv2d(3, 2, 1), g.add("input", Preprocess((0.0, 0.0, 0.0)))))
    g.add("dense", nn.Linear(2 * 4 * 4, 5), g.add("flat", nn.Flatten(), x))
    g.requires_grad_(False)
    torch.testing.assert_close(composed(g, "conv", "dense", 4), g.get_submodule("dense").weight.view(5, 2, 4, 4))


@pytest.mark.parametrize(
    ("name", "source", "target", "extent"),
    [
        ("inceptionv1_caffe", "conv2_3x3", "inception_3a", 11),  # local response norm, strided pool
        ("inceptionv1_caffe", "inception_3a", "inception_3b", 5),
        ("inceptionv1", "conv2d0", "conv2d1", 3),  # a local response norm that scales
        ("inceptionv1", "mixed3b", "mixed4a", 11),  # a pool that pads one side
        ("inceptionv3_slim", "Mixed_5b", "Mixed_5c", 5),  # average pool
        ("resnetv2_50_slim", "block1_unit_2", "block1_unit_3", 3),  # strided sum, norm in front
        ("resnetv2_50_slim", "block2_unit_1_preact", "block2_unit_1", 3),  # projected shortcut
        ("efficientnet_lite0", "blocks_2", "blocks_3", 5),  # strided, each channel alone
        ("efficientnet_lite0", "blocks_3", "blocks_4", 5),  # with the sum
        ("efficientnet_lite0", "blocks_15", "head", 1),
        ("efficientnet_lite0", "head", "logits", 4),  # mean over all of the map
    ],
)
def test_closed_form_is_the_gradient_of_the_network_made_linear(
    name: str, source: str, target: str, extent: int
) -> None:
    graph, size = untrained(name), 128
    shown = tuple(each for each, layer in CATALOG[name].layers.items() if not layer.named_only)
    found = composed(graph, source, target, size, shown, batch=64)
    units = list(range(0, len(found), 1 + len(found) // 20))  # some of every branch
    assert max(found.shape[2:]) == extent
    expected = reached(gradients(graph, source, target, size, units))
    torch.testing.assert_close(found[units], expected, rtol=1e-4, atol=1e-5 * found.abs().max().item())


@pytest.mark.parametrize(
    ("source", "target", "size", "extent"),
    [("conv1", "mixed", 32, 7), ("conv1", "mixed", 9, 5), ("mixed", "logits", 32, 8)],  # the map of 5 x 5 is too small
)
def test_closed_form_is_the_gradient_in_a_small_network(source: str, target: str, size: int, extent: int) -> None:
    graph = toy.network()
    found = composed(graph, source, target, size)
    assert found.shape[2:] == (extent, extent)
    torch.testing.assert_close(found, reached(gradients(graph, source, target, size, list(range(len(found))))))


def test_a_map_is_padded_on_the_side_where_the_network_pads_it() -> None:
    graph = untrained("efficientnet_lite0")
    found = composed(graph, "blocks_2", "blocks_3", 16)  # a window of 5 on a map of 4, three rows of it padding
    assert found.shape[2:] == (3, 3)
    torch.testing.assert_close(found, reached(gradients(graph, "blocks_2", "blocks_3", 16, list(range(40)))))


def test_ways_through_a_third_layer_are_that_layers() -> None:
    graph = untrained("efficientnet_lite0")
    shown = ("blocks_3", "blocks_4/expand", "blocks_4")
    torch.testing.assert_close(composed(graph, "blocks_3", "blocks_4", 64, shown)[:, :, 0, 0], torch.eye(40))
    assert composed(graph, "blocks_3", "blocks_4", 64).shape[2:] == (5, 5)


def test_batch_does_not_change_what_kernels_hold() -> None:
    graph = toy.network()
    torch.testing.assert_close(composed(graph, "conv1", "mixed", 32, batch=5), composed(graph, "conv1", "mixed", 32))


@pytest.mark.parametrize("name", sorted(CATALOG))
def test_every_connection_in_the_catalog_has_a_closed_form(name: str) -> None:
    organism = CATALOG[name]
    with torch.device("meta"):
        graph = organism.build()
    assert isinstance(graph, Graph)
    assert all(composable(graph, source, target, organism.layers) for source, target in organism.edges)


def test_an_operation_that_is_not_known_has_no_closed_form() -> None:
    graph, shown = toy.network(), ["conv1", "mixed", "logits"]
    assert composable(graph, "mixed", "logits", shown)
    for op in (nn.AdaptiveAvgPool2d(2), nn.Sigmoid()):
        graph.flat = op
        assert composable(graph, "conv1", "mixed", shown)
        assert not composable(graph, "mixed", "logits", shown)
