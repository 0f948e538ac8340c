"""ResNet-50 v2 against the facts known of it, and against TF-slim's own."""

import pytest
import torch

from microscope_atlas.models.architectures.resnetv2_slim import RESNETV2_50_SLIM
from tests.references.slim.shared_weights import disagreements

LAYERS = {
    "block1_unit_1_preact": 64,
    "block1_unit_1": 256,
    "block1_unit_2": 256,
    "block1_unit_3": 256,
    "block2_unit_1_preact": 256,
    "block2_unit_1": 512,
    "block2_unit_2": 512,
    "block2_unit_3": 512,
    "block2_unit_4": 512,
    "block3_unit_1_preact": 512,
    "block3_unit_1": 1024,
    "block3_unit_2": 1024,
    "block3_unit_3": 1024,
    "block3_unit_4": 1024,
    "block3_unit_5": 1024,
    "block3_unit_6": 1024,
    "block4_unit_1_preact": 1024,
    "block4_unit_1": 2048,
    "block4_unit_2": 2048,
    "block4_unit_3": 2048,
    "postnorm": 2048,
    "logits": 1001,
}


def test_layers_are_the_ones_microscope_showed() -> None:
    shown = {name: layer.units for name, layer in RESNETV2_50_SLIM.layers.items() if not layer.named_only}
    assert list(shown.items()) == list(LAYERS.items())


def test_convolutions_within_units_are_layers_where_they_are_named() -> None:
    inner = {name: layer.units for name, layer in RESNETV2_50_SLIM.layers.items() if layer.named_only}
    assert len(inner) == 2 * (3 + 4 + 6 + 3)
    assert (inner["block2_unit_1_conv2"], inner["block4_unit_3_conv1"]) == (128, 512)
    op = "resnet_v2_50_block2_unit_1_bottleneck_v2_conv2_Relu_0"
    assert RESNETV2_50_SLIM.layer("block2_unit_1_conv2").legacy_op == op


def test_only_the_logits_are_dense_and_convolutional_units_sum_up() -> None:
    shown = [layer for layer in RESNETV2_50_SLIM.layers.values() if not layer.named_only]
    conv = [layer for layer in shown if layer.kind == "conv"]
    assert [layer.name for layer in conv] == list(LAYERS)[:-1]
    assert sum(layer.units for layer in conv) == 19008


def test_legacy_ops_are_lucids() -> None:
    ops = {name: layer.legacy_op for name, layer in RESNETV2_50_SLIM.layers.items()}
    assert ops["block1_unit_1_preact"] == "resnet_v2_50_block1_unit_1_bottleneck_v2_preact_Relu_0"
    assert ops["block3_unit_6"] == "resnet_v2_50_block3_unit_6_bottleneck_v2_add_0"
    assert ops["postnorm"] == "resnet_v2_50_postnorm_Relu_0"
    assert ops["logits"] == "resnet_v2_50_predictions_Softmax_0"


def test_receptive_field_is_the_published_one() -> None:
    """483 px: Araujo et al. 2019, distill.pub/2019/computing-receptive-fields, for slim's v1 with the same windows."""
    assert RESNETV2_50_SLIM.layer("postnorm").receptive_field == 483


def test_last_unit_of_a_block_takes_the_stride() -> None:
    strides = {name: layer.stride for name, layer in RESNETV2_50_SLIM.layers.items()}
    assert [strides[f"block1_unit_{unit}"] for unit in (1, 2, 3)] == [4, 4, 8]
    assert [strides[f"block2_unit_{unit}"] for unit in (1, 2, 3, 4)] == [8, 8, 8, 16]
    assert [strides[f"block3_unit_{unit}"] for unit in (1, 5, 6)] == [16, 16, 32]
    assert [strides[f"block4_unit_{unit}"] for unit in (1, 2, 3)] == [32, 32, 32]


@pytest.mark.parametrize("size", [224, 193])
def test_every_layer_agrees_with_tf_slim(size: int) -> None:
    far_off = {layer: off for layer, off in disagreements(RESNETV2_50_SLIM, size).items() if not off < 1e-4}
    assert not far_off


def test_every_layer_is_compared() -> None:
    assert list(disagreements(RESNETV2_50_SLIM, 193)) == list(LAYERS)


def test_input_goes_from_minus_one_to_one() -> None:
    graph = RESNETV2_50_SLIM.build()
    pictures = torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])
    pictures[0, 2] = 0.75
    (given,) = graph(pictures, ["input"])
    assert given[:, :, 0, 0].tolist() == [[-1.0, -1.0, 0.5], [1.0, 1.0, 1.0]]


def test_unit_shows_the_sum_unrectified() -> None:
    graph = RESNETV2_50_SLIM.build()
    assert graph.preactivation("block2_unit_3") == "block2_unit_3"
    assert graph.preactivation("block2_unit_1_preact") == "resnet_v2_50/block2/unit_1/bottleneck_v2/preact"
