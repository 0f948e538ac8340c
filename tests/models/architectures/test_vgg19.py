from pathlib import Path

import numpy as np
import torch

from microscope_atlas.models.architectures.vgg19 import VGG19_CAFFE, read_caffemodel
from microscope_atlas.models.networks.graph import Graph
from tests.references.caffemodel import caffemodel

UNITS = {
    "conv1_1": 64,
    "conv1_2": 64,
    "conv2_1": 128,
    "conv2_2": 128,
    "conv3_1": 256,
    "conv3_2": 256,
    "conv3_3": 256,
    "conv3_4": 256,
    "conv4_1": 512,
    "conv4_2": 512,
    "conv4_3": 512,
    "conv4_4": 512,
    "conv5_1": 512,
    "conv5_2": 512,
    "conv5_3": 512,
    "conv5_4": 512,
    "fc6": 4096,
    "fc7": 4096,
    "fc8": 1000,
}


def on_meta() -> Graph:
    with torch.device("meta"):
        return VGG19_CAFFE.build()


def test_table_of_layers() -> None:
    assert [(layer.name, layer.units) for layer in VGG19_CAFFE.layers.values()] == list(UNITS.items())
    assert VGG19_CAFFE.input_size == 224
    assert sum(layer.units for layer in VGG19_CAFFE.layers.values() if layer.kind == "conv") == 5504


def test_pools_round_up() -> None:
    pictures = torch.empty(1, 3, 118, 101, device="meta")
    pooled = on_meta()(pictures, ["pool1", "pool2", "pool3", "pool4", "pool5"])
    assert [tuple(x.shape[2:]) for x in pooled] == [(59, 51), (30, 26), (15, 13), (8, 7), (4, 4)]


def test_links_of_microscope() -> None:
    assert VGG19_CAFFE.legacy_ops["conv5_4"] == "conv5_4_conv5_4_0"


def test_caffemodel_is_read_under_the_names_of_the_graph(tmp_path: Path) -> None:
    blobs = {name: [np.full((2, 3), i, np.float32), np.full(2, -i, np.float32)] for i, name in enumerate(UNITS)}
    (tmp_path / "net.caffemodel").write_bytes(caffemodel(blobs))
    tensors = read_caffemodel(tmp_path / "net.caffemodel")
    assert set(tensors) == set(on_meta().state_dict())
    assert tensors["conv1_2_pre_relu.weight"].eq(1).all() and tensors["fc8.bias"].eq(-18).all()
