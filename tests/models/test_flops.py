import pytest
import torch

from generate.models.catalog import CATALOG
from generate.models.flops import flops
from tests import toy

POSITIONS = 8 * 8  # of pictures of 8 px, which the handmade network's convolutions keep


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_handmade_network_costs_what_its_kernels_say(device: str) -> None:
    network = toy.handmade().to(device)
    conv1, conv2 = 2 * POSITIONS * 3 * 3 * 9, 2 * POSITIONS * 3 * 2 * 9
    assert flops(network, "conv1", 8) == 2 * conv1
    assert flops(network, "conv2", 8) == 2 * (conv1 + conv2)
    assert flops(network, "logits", 8) == 2 * (conv1 + conv2 + 2 * 2 * 2)
    assert flops(network, "input", 8) == 0


def test_weights_are_left_as_they_were_and_not_differentiated() -> None:
    network = toy.handmade()
    network.get_submodule("conv1_pre").requires_grad_(True)
    assert flops(network, "conv1", 8) == 2 * 2 * POSITIONS * 3 * 3 * 9
    assert {name for name, p in network.named_parameters() if p.requires_grad} == {"conv1_pre.weight", "conv1_pre.bias"}
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("name", ["inceptionv1_caffe", "efficientnet_lite0"])
def test_deeper_layers_cost_more(name: str) -> None:
    known = CATALOG[name]
    with torch.device("meta"):
        network = known.build()
    costs = [flops(network, layer, known.input_size) for layer in known.layers]
    assert costs == sorted(costs)


def test_vgg_costs_what_is_published() -> None:
    """19.6 billion multiply-adds forward: He et al. 2015, https://arxiv.org/abs/1512.03385, section 3.3."""
    with torch.device("meta"):
        network = CATALOG["vgg19_caffe"].build()
    assert flops(network, "fc8", 224) / 4 == pytest.approx(19.6e9, rel=0.01)
