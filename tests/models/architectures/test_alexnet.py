from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from microscope_atlas.models.architectures.alexnet import ALEXNET, ALEXNET_CAFFE_PLACES365, read_caffemodel
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.organism import Organism
from tests.references.caffemodel import caffemodel

CONVOLUTIONS = {"conv1": 96, "conv2": 256, "conv3": 384, "conv4": 384, "conv5": 256}


def on_meta(organism: Organism) -> Graph:
    with torch.device("meta"):
        return organism.build()


def shapes(graph: Graph, nodes: list[str], height: int, width: int) -> dict[str, tuple[int, ...]]:
    outputs = graph(torch.empty(1, 3, height, width, device="meta"), nodes)
    return {name: tuple(output.shape[1:]) for name, output in zip(nodes, outputs, strict=True)}


@pytest.fixture(scope="module")
def alexnet() -> Graph:
    return ALEXNET.build()


@pytest.fixture(scope="module")
def caffenet() -> Graph:
    return ALEXNET_CAFFE_PLACES365.build()


def preprocessed(graph: Graph) -> Tensor:
    """What the network's first node makes of one pixel of RGB (0.1, 0.5, 0.9)."""
    out: Tensor = graph(torch.tensor([0.1, 0.5, 0.9]).view(1, 3, 1, 1), ["data"])[0]
    return out.flatten()


def test_table_of_layers() -> None:
    units = {name: layer.units for name, layer in ALEXNET.layers.items()}
    assert units == CONVOLUTIONS | {"fc6": 4096, "fc7": 4096, "fc8": 1000}
    assert list(units) == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
    places = {name: layer.units for name, layer in ALEXNET_CAFFE_PLACES365.layers.items()}
    assert places == units | {"fc8": 365}
    for organism in (ALEXNET, ALEXNET_CAFFE_PLACES365):
        assert organism.input_size == 227
        assert {layer.name for layer in organism.layers.values() if layer.kind == "conv"} == set(CONVOLUTIONS)


def test_picture_becomes_bgr_minus_the_mean_of_the_training_set(alexnet: Graph, caffenet: Graph) -> None:
    torch.testing.assert_close(preprocessed(alexnet), torch.tensor([229.5 - 103.939, 127.5 - 116.779, 25.5 - 123.68]))
    torch.testing.assert_close(preprocessed(caffenet), torch.tensor([229.5 - 104.051, 127.5 - 112.514, 25.5 - 116.676]))


def test_alexnet_normalises_then_pools_and_caffenet_pools_then_normalises(alexnet: Graph, caffenet: Graph) -> None:
    for stage in (1, 2):
        assert alexnet.reads[f"norm{stage}"] == (f"conv{stage}",) and alexnet.reads[f"pool{stage}"] == (f"norm{stage}",)
        assert caffenet.reads[f"pool{stage}"] == (f"conv{stage}",)
        assert caffenet.reads[f"norm{stage}"] == (f"pool{stage}",)


def test_first_convolution_has_no_padding_and_pools_round_up() -> None:
    nodes = ["conv1", "pool1", "conv2", "pool2", "conv5", "pool5"]
    assert [s[1:] for s in shapes(on_meta(ALEXNET), nodes, 227, 227).values()] == [
        (55, 55),
        (27, 27),
        (27, 27),
        (13, 13),
        (13, 13),
        (6, 6),
    ]
    # 48 rows: windows start at 0, 2, ..., 44, and one more, cut at the border, at 46
    assert shapes(on_meta(ALEXNET), ["conv1", "pool1"], 200, 227) == {"conv1": (96, 48, 55), "pool1": (96, 24, 27)}


def test_a_group_sees_its_half_of_the_channels(alexnet: Graph) -> None:
    for name in ("conv2", "conv4", "conv5"):
        conv = alexnet.get_submodule(f"{name}_pre_relu")
        assert isinstance(conv, nn.Conv2d)
        half_in, half_out = conv.in_channels // 2, conv.out_channels // 2
        x = torch.randn(1, conv.in_channels, 5, 5, generator=torch.Generator().manual_seed(0))
        changed = x.clone()
        changed[:, :half_in] += 1
        with torch.no_grad():
            differs = (conv(changed) - conv(x)).abs().amax((0, 2, 3)) > 0
        assert differs[:half_out].all() and not differs[half_out:].any()


def test_links_to_a_group_lead_to_its_half_of_the_layer() -> None:
    assert ALEXNET.legacy_parts["Conv2D_2_0"] == ("conv2", 128, 256)
    assert ALEXNET.legacy_parts["Conv2D_5_0"] == ("conv4", 192, 384)
    assert ALEXNET.legacy_parts["Conv2D_7_0"] == ("conv5", 128, 256)
    assert ALEXNET.legacy_ops["conv3"] == "conv3_1_0"  # microscope.openai.com/models/alexnet/conv3_1_0/348


def test_caffemodel_is_read_under_the_names_of_the_graph(tmp_path: Path) -> None:
    names = [*CONVOLUTIONS, "fc6", "fc7", "fc8"]
    blobs = {name: [np.full((2, 3), i, np.float32), np.full(2, -i, np.float32)] for i, name in enumerate(names, 1)}
    (tmp_path / "net.caffemodel").write_bytes(caffemodel(blobs))
    tensors = read_caffemodel(tmp_path / "net.caffemodel")
    assert set(tensors) == set(on_meta(ALEXNET).state_dict())
    assert tensors["conv1_pre_relu.weight"].eq(1).all() and tensors["conv1_pre_relu.bias"].eq(-1).all()
    assert tensors["fc8.weight"].eq(8).all() and tensors["fc8.bias"].eq(-8).all()
