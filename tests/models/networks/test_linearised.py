"""Networks differentiated as if they were linear, against kernels composed by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microscope_atlas.errors import NetworkFailed
from microscope_atlas.models.adapters.trained import Trained
from microscope_atlas.models.networks.expanded import compose
from microscope_atlas.models.networks.graph import edges
from microscope_atlas.models.networks.linearised import Linearised, differentiate
from tests import toy
from tests.models import own_networks
from tests.models.networks.test_expanded import untrained
from tests.models.networks.test_traced import traced

MODULE = own_networks.small().module


def expanded(source: str, target: str, trained: Trained | None = None) -> Tensor:
    network = traced(trained or own_networks.small())
    shown = [name for name, layer in network.table(32).items() if not layer.named_only]
    return torch.cat(list(differentiate(network, source, target, shown, 32, 3)))


def stem_pooled() -> Tensor:
    """From the stem's convolution through its norm and pool: (8, 8, 3, 3)."""
    norm = MODULE.stem[1]
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return torch.diag(scale)[:, :, None, None].expand(8, 8, 3, 3) / 9


def test_a_rectifier_between_convolutions_is_the_identity() -> None:
    torch.testing.assert_close(expanded("block_conv1", "block_conv2"), MODULE.block.conv2.weight)


def test_a_max_pool_is_the_average_over_its_windows_and_a_norm_its_scale() -> None:
    expected = F.conv_transpose2d(MODULE.block.conv1.weight, stem_pooled(), stride=2)
    assert expected.shape[2:] == (7, 7)
    torch.testing.assert_close(expanded("stem_0", "block_conv1"), expected)


def test_ways_through_a_third_layer_are_that_layers() -> None:
    expected = F.conv_transpose2d(MODULE.mixer.weight[:, :, None, None], stem_pooled())
    torch.testing.assert_close(expanded("stem_0", "mixer"), expected)


def test_a_dense_layer_on_maps_is_a_convolution() -> None:
    torch.testing.assert_close(expanded("block_conv2", "mixer"), MODULE.mixer.weight[:, :, None, None])
    torch.testing.assert_close(
        expanded("mixer", "logits"), MODULE.logits.weight[:, :, None, None].expand(4, 6, 8, 8) / 64
    )


def test_every_edge_of_a_network_has_weights() -> None:
    network = traced(own_networks.small())
    found = edges(network, network.table(32))
    assert ("stem_0", "mixer") in found
    assert all(expanded(source, target).abs().sum() > 0 for source, target in found)


@pytest.mark.parametrize(("source", "target"), [("blocks_2", "blocks_3"), ("blocks_3", "blocks_4")])
def test_gradient_is_the_closed_form(source: str, target: str) -> None:
    graph, shown = untrained("efficientnet_lite0"), ("blocks_2", "blocks_3", "blocks_4")
    closed = torch.cat(list(compose(graph, source, target, shown, 96, 64)))
    found = torch.cat(list(differentiate(graph, source, target, shown, 96, 64)))
    torch.testing.assert_close(found, closed, rtol=1e-4, atol=1e-6)


def test_gradient_is_the_closed_form_where_maps_become_one_position() -> None:
    found = torch.cat(list(differentiate(toy.handmade(), "conv2", "logits", toy.HANDMADE_LAYERS, 32, 3)))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0], [-1, 1]])[:, :, None, None].expand(2, 2, 32, 32) / 32**2)


def test_dense_layers_have_one_position() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5), nn.ReLU(), nn.Linear(5, 4))
    found = expanded("1", "3", Trained(module, input_size=32))
    torch.testing.assert_close(found, module[3].weight[:, :, None, None])


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        return self.b(a * a.sigmoid())


def test_what_else_is_not_linear_has_its_slope_at_a_grey_picture() -> None:
    module = Gated()
    a = module.a(torch.full((1, 3, 1, 1), 0.5)).detach().requires_grad_(True)
    (slope,) = torch.autograd.grad((a * a.sigmoid()).sum(), a)
    found = expanded("a", "b", Trained(module, input_size=32))
    torch.testing.assert_close(found, module.b.weight * slope.view(1, 2, 1, 1))


@pytest.mark.parametrize(
    "function",
    [
        *(F.relu, torch.relu, Tensor.relu, Tensor.relu_, F.relu6, F.silu, F.gelu, F.hardswish, F.mish, F.elu),
        *(F.leaky_relu, torch.tanh, F.softplus, nn.ReLU(inplace=True), nn.Hardtanh(), nn.GELU(approximate="tanh")),
    ],
)
def test_activation_functions_give_their_values_and_have_slope_one(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.linspace(-8, 8, 15, requires_grad=True)
    expected = function(x.detach().clone())
    with Linearised():
        value = function(x.clone())
    torch.testing.assert_close(value, expected)
    assert torch.equal(torch.autograd.grad(value.sum(), x)[0], torch.ones(15))


@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), nn.AdaptiveMaxPool2d(1)]
)
def test_max_pools_give_their_values_and_have_an_averages_slopes(pool: Any) -> None:
    x = torch.rand(1, 2, 8, 8, requires_grad=True)
    average = nn.AdaptiveAvgPool2d(1) if isinstance(pool, nn.AdaptiveMaxPool2d) else None
    average = average or nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode)
    weights = torch.rand_like(pool(x))
    with Linearised():
        value = pool(x)
    torch.testing.assert_close(value, pool(x))
    found, expected = (torch.autograd.grad((weights * y).sum(), x)[0] for y in (value, average(x)))
    torch.testing.assert_close(found, expected)


def test_padding_with_minus_infinity_counts_as_zero() -> None:
    x = torch.rand(1, 1, 4, 4, requires_grad=True)
    with Linearised():
        value = F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-torch.inf), 2)
    (found,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(found, torch.full((1, 1, 4, 4), 0.25))


def test_a_dilated_max_pool_is_refused() -> None:
    with pytest.raises(NetworkFailed, match="dilation 2"), Linearised():
        F.max_pool2d(torch.rand(1, 1, 8, 8), 2, dilation=2)
