"""Inception-v4 against the facts known of it, and against timm's port of TF-slim's."""

import pytest
import torch

from microscope_atlas.models.architectures.inceptionv4_slim import INCEPTIONV4_SLIM
from tests.references.slim.shared_weights import disagreements

LAYERS = {
    "Conv2d_1a_3x3": 32,
    "Conv2d_2a_3x3": 32,
    "Conv2d_2b_3x3": 64,
    "Mixed_3a": 160,
    "Mixed_4a": 192,
    "Mixed_5a": 384,
    "Mixed_5b": 384,
    "Mixed_5c": 384,
    "Mixed_5d": 384,
    "Mixed_5e": 384,
    "Mixed_6a": 1024,
    "Mixed_6b": 1024,
    "Mixed_6c": 1024,
    "Mixed_6d": 1024,
    "Mixed_6e": 1024,
    "Mixed_6f": 1024,
    "Mixed_6g": 1024,
    "Mixed_6h": 1024,
    "Mixed_7a": 1536,
    "Mixed_7b": 1536,
    "Mixed_7c": 1536,
    "Mixed_7d": 1536,
    "Logits": 1001,
}


def test_layers_are_the_ones_microscope_showed() -> None:
    assert {name: layer.units for name, layer in INCEPTIONV4_SLIM.layers.items()} == LAYERS
    assert list(INCEPTIONV4_SLIM.layers) == list(LAYERS)


def test_only_the_logits_are_dense_and_convolutional_units_sum_up() -> None:
    conv = [layer for layer in INCEPTIONV4_SLIM.layers.values() if layer.kind == "conv"]
    assert [layer.name for layer in conv] == list(LAYERS)[:-1]
    assert sum(layer.units for layer in conv) == 16736


def test_legacy_ops_are_lucids() -> None:
    ops = {name: layer.legacy_op for name, layer in INCEPTIONV4_SLIM.layers.items()}
    assert ops["Conv2d_2b_3x3"] == "InceptionV4_InceptionV4_Conv2d_2b_3x3_Relu_0"
    assert ops["Mixed_5d"] == "InceptionV4_InceptionV4_Mixed_5d_concat_0"
    assert ops["Logits"] == "InceptionV4_Logits_Predictions_0"


def test_receptive_field_is_the_published_one() -> None:
    """2071 px: Araujo et al. 2019, distill.pub/2019/computing-receptive-fields."""
    assert INCEPTIONV4_SLIM.layer("Mixed_7d").receptive_field == 2071
    assert INCEPTIONV4_SLIM.layer("Mixed_7d").stride == 32


@pytest.mark.parametrize("size", [299, 160])
def test_every_layer_agrees_with_timm(size: int) -> None:
    far_off = {layer: off for layer, off in disagreements(INCEPTIONV4_SLIM, size).items() if not off < 1e-4}
    assert not far_off


def test_every_layer_is_compared() -> None:
    assert list(disagreements(INCEPTIONV4_SLIM, 160)) == list(LAYERS)


def test_branches_stand_in_slims_order() -> None:
    starts = {node.split("/")[2]: start for node, (start, _) in INCEPTIONV4_SLIM.layer("Mixed_6b").branches.items()}
    assert starts == {"Branch_0": 0, "Branch_1": 384, "Branch_2": 640, "Branch_3": 896}


def test_average_pool_leaves_out_its_padding() -> None:
    graph = INCEPTIONV4_SLIM.build()
    flat = torch.full((2, 384, 5, 5), 3.0)
    assert torch.equal(graph.get_submodule("InceptionV4/Mixed_5b/Branch_3/AvgPool_0a_3x3")(flat), flat)


def test_input_goes_from_minus_one_to_one() -> None:
    graph = INCEPTIONV4_SLIM.build()
    pictures = torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])
    pictures[0, 2] = 0.75
    (given,) = graph(pictures, ["input"])
    assert given[:, :, 0, 0].tolist() == [[-1.0, -1.0, 0.5], [1.0, 1.0, 1.0]]


def test_each_module_has_its_preactivation_in_one_node() -> None:
    graph = INCEPTIONV4_SLIM.build()
    modules = [name for name in LAYERS if name.startswith("Mixed")]
    assert [graph.preactivation(name) for name in modules] == [f"InceptionV4/{name}/concat" for name in modules]
