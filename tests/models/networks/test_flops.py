import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.models.networks.flops import flops
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


def test_gradient_is_counted_as_it_is_computed() -> None:
    network = CATALOG["inceptionv1_caffe"].build().requires_grad_(False)
    picture = torch.zeros(1, 3, 64, 64, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        network(picture, ["inception_4c"])[0].sum().backward()
    assert flops(network, "inception_4c", 64) == counter.get_total_flops()


@pytest.mark.parametrize("name", ["inceptionv1_caffe", pytest.param("efficientnet_lite0", marks=pytest.mark.long)])
def test_deeper_layers_cost_more(name: str) -> None:
    known = CATALOG[name]
    with torch.device("meta"):
        network = known.build()
    costs = [flops(network, layer, known.input_size) for layer in known.layers]
    assert costs == sorted(costs)


def test_cost_of_a_picture_that_leaves_one_place_is_told() -> None:
    known = CATALOG["efficientnet_lite0"]
    assert 0 < known.flops("blocks_6", 32) < known.flops("blocks_6", 64)


def test_vgg_costs_what_is_published() -> None:
    """19.6 billion multiply-adds forward: He et al. 2015, https://arxiv.org/abs/1512.03385, section 3.3."""
    with torch.device("meta"):
        network = CATALOG["vgg19_caffe"].build()
    assert flops(network, "fc8", 224) / 4 == pytest.approx(19.6e9, rel=0.01)
