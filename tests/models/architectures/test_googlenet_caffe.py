from pathlib import Path

import numpy as np
import torch

from microscope_atlas.models.architectures.googlenet_caffe import (
    INCEPTIONV1_CAFFE,
    INCEPTIONV1_CAFFE_PLACES365,
    MODULES,
    read_googlenet,
)
from microscope_atlas.models.organism import Organism
from tests.references.caffemodel import caffemodel

UNITS = {
    "conv1_7x7_s2": 64,
    "conv2_3x3_reduce": 64,
    "conv2_3x3": 192,
    "inception_3a": 256,
    "inception_3b": 480,
    "inception_4a": 512,
    "inception_4b": 512,
    "inception_4c": 512,
    "inception_4d": 528,
    "inception_4e": 832,
    "inception_5a": 832,
    "inception_5b": 1024,
}


def test_table_of_layers() -> None:
    for organism, classes in ((INCEPTIONV1_CAFFE, 1000), (INCEPTIONV1_CAFFE_PLACES365, 365)):
        units = [(layer.name, layer.units) for layer in organism.layers.values()]
        assert units == [*UNITS.items(), ("loss3_classifier", classes)]
        assert organism.input_size == 224
        assert {name for name, layer in organism.layers.items() if layer.kind == "conv"} == set(UNITS)


def test_picture_becomes_bgr_minus_the_mean_of_the_training_set() -> None:
    def preprocessed(organism: Organism) -> list[float]:
        values: list[float] = organism.build().get_submodule("data")(pixel).flatten().tolist()
        return values

    pixel = torch.tensor([0.0, 0.2, 1.0]).view(1, 3, 1, 1)
    assert preprocessed(INCEPTIONV1_CAFFE) == [255 - 104, 51 - 117, 0 - 123]
    places = torch.tensor(preprocessed(INCEPTIONV1_CAFFE_PLACES365))
    torch.testing.assert_close(places, torch.tensor([255 - 104.051, 51 - 112.514, -116.676]))


def test_caffemodel_is_read_under_the_names_of_the_graph(tmp_path: Path) -> None:
    with torch.device("meta"):
        expected = INCEPTIONV1_CAFFE.build().state_dict()
    names = dict.fromkeys(name.rpartition(".")[0] for name in expected)
    blobs = {name: [np.ones((2, 3), np.float32), np.zeros(2, np.float32)] for name in names}
    (tmp_path / "net.caffemodel").write_bytes(caffemodel(blobs))
    assert set(read_googlenet(tmp_path / "net.caffemodel")) == set(expected)
    assert len(names) == 3 + 6 * len(MODULES) + 1
