"""Reading frozen GraphDefs: the container, TensorFlow's layouts, and each network's names."""

import sys
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from microscope_atlas.errors import WeightsError
from microscope_atlas.models import weights
from microscope_atlas.models.architectures.alexnet import ALEXNET, ALEXNET_CAFFE_PLACES365
from microscope_atlas.models.architectures.googlenet_caffe import INCEPTIONV1_CAFFE, INCEPTIONV1_CAFFE_PLACES365
from microscope_atlas.models.architectures.inceptionv1 import HEAD_MAP, INCEPTIONV1
from microscope_atlas.models.architectures.vgg19 import VGG19_CAFFE
from microscope_atlas.models.formats import graphdef
from microscope_atlas.models.organism import Organism

Array = NDArray[np.generic]


@cache
def protobuf() -> Any:
    """TensorFlow's protobuf classes; the test is skipped where they are not installed."""
    return pytest.importorskip("tensorboard.compat.proto.graph_pb2", reason="tensorboard is not installed")


def serialized(constants: Mapping[str, Array]) -> bytes:
    """A frozen GraphDef with these constants, each read by an Identity, as freezing leaves them."""
    graph = protobuf().GraphDef()
    for name, value in constants.items():
        node = graph.node.add(name=name, op="Const")
        tensor = node.attr["value"].tensor
        tensor.dtype = {"float32": 1, "float64": 2, "int32": 3, "int64": 9}[value.dtype.name]
        for size in value.shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_content = value.tobytes()
        graph.node.add(name=f"{name}/read", op="Identity", input=[name])
    content: bytes = graph.SerializeToString()
    return content


def written(path: Path, constants: Mapping[str, Array]) -> Path:
    path.write_bytes(serialized(constants))
    return path


def some_constants() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {
        "conv1/weights": rng.standard_normal((3, 3, 2, 4)).astype(np.float32),
        "conv1/biases": rng.standard_normal(4).astype(np.float32),
        "reshape/shape": np.array([-1, 8], np.int32),
        "scale": np.array(0.5, np.float32),
        "wide": rng.standard_normal((2, 3)),
        "empty": np.zeros((0, 3), np.float32),
    }


def test_constants_come_back_as_they_were_written(tmp_path: Path) -> None:
    constants = some_constants()
    read = graphdef.read_graphdef(written(tmp_path / "net.pb", constants))
    assert list(read) == list(constants)
    for name, value in constants.items():
        assert torch.from_numpy(value).equal(read[name]), name


def test_values_that_are_not_stored_as_bytes_are_read_and_the_last_is_repeated(tmp_path: Path) -> None:
    graph = protobuf().GraphDef()
    for name, values in {"one": [7.0], "some": [1.0, 2.0], "all": [1.0, 2.0, 3.0, 4.0]}.items():
        tensor = graph.node.add(name=name, op="Const").attr["value"].tensor
        tensor.dtype = 1
        tensor.tensor_shape.dim.add(size=4)
        tensor.float_val.extend(values)
    (tmp_path / "net.pb").write_bytes(graph.SerializeToString())
    read = graphdef.read_graphdef(tmp_path / "net.pb")
    assert {name: value.tolist() for name, value in read.items()} == {
        "one": [7, 7, 7, 7],
        "some": [1, 2, 2, 2],
        "all": [1, 2, 3, 4],
    }


def test_truncated_file_gives_weights_error_or_whole_tensors(tmp_path: Path) -> None:
    content, constants, refused = serialized(some_constants()), some_constants(), 0
    for end in range(len(content)):
        (tmp_path / "net.pb").write_bytes(content[:end])
        try:
            read = graphdef.read_graphdef(tmp_path / "net.pb")
        except WeightsError:
            refused += 1
        else:  # cut between two nodes
            assert all(torch.from_numpy(constants[name]).equal(value) for name, value in read.items())
    assert refused > len(content) - 2 * len(constants) - 1


def test_damaged_file_gives_weights_error_and_nothing_else(tmp_path: Path) -> None:
    content, rng = serialized(some_constants()), np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), rng.integers(1, 5)):
            damaged[at] = rng.integers(256)
        (tmp_path / "net.pb").write_bytes(damaged)
        try:
            graphdef.read_graphdef(tmp_path / "net.pb")
        except WeightsError as error:
            assert "net.pb" in str(error)


@pytest.mark.parametrize("content", [b"", b"\x00", b"PK\x03\x04", b"<html>404</html>", bytes(range(256)) * 64])
def test_what_is_no_graphdef_gives_weights_error(tmp_path: Path, content: bytes) -> None:
    protobuf()
    (tmp_path / "net.pb").write_bytes(content)
    with pytest.raises(WeightsError, match=r"net\.pb"):
        graphdef.read_graphdef(tmp_path / "net.pb")


@pytest.mark.parametrize(
    ("shape", "values"),
    [([1 << 40], [1.0]), ([-1], [1.0]), ([2], [1.0, 2.0, 3.0]), ([2], []), ([1] * 1000, [1.0]), ([1 << 62, 8], [1.0])],
)
def test_shape_that_does_not_fit_its_values_gives_weights_error(
    tmp_path: Path, shape: list[int], values: list[float]
) -> None:
    graph = protobuf().GraphDef()
    tensor = graph.node.add(name="conv1_w", op="Const").attr["value"].tensor
    tensor.dtype = 1
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.float_val.extend(values)
    (tmp_path / "net.pb").write_bytes(graph.SerializeToString())
    with pytest.raises(WeightsError, match="conv1_w"):
        graphdef.read_graphdef(tmp_path / "net.pb")


def test_zip_archive_with_one_graph_is_read_and_any_other_gives_weights_error(tmp_path: Path) -> None:
    content, path = serialized(some_constants()), tmp_path / "net.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", "dummy")
        archive.writestr("graph.pb", content)
    assert list(graphdef.read_graphdef(path)) == list(some_constants())
    damaged = bytearray(path.read_bytes())
    damaged[200:260] = bytes(60)
    path.write_bytes(damaged)
    with pytest.raises(WeightsError, match=r"net\.zip"):
        graphdef.read_graphdef(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("labels.txt", "dummy")
    with pytest.raises(WeightsError, match=r"0 \.pb files"):
        graphdef.read_graphdef(path)


def test_without_tensorboard_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.graph_pb2", None)
    with pytest.raises(WeightsError, match="pip install tensorboard"):
        graphdef.read_graphdef(tmp_path / "net.pb")


def test_kernel_is_the_same_convolution_in_groups_too() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 5, 6)).astype(np.float32)  # height, width, channels
    hwio = rng.standard_normal((3, 3, 3, 4)).astype(np.float32)  # two groups of 3 channels in, 2 out
    expected = np.zeros((3, 3, 4), np.float32)
    for group in range(2):
        kernel, part = hwio[..., 2 * group : 2 * group + 2], x[..., 3 * group : 3 * group + 3]
        for row in range(3):
            for column in range(3):
                window = part[row : row + 3, column : column + 3]
                expected[row, column, 2 * group : 2 * group + 2] = np.einsum("hwi,hwio->o", window, kernel)
    out = nn.functional.conv2d(
        torch.from_numpy(x).permute(2, 0, 1)[None], graphdef.kernel(torch.from_numpy(hwio)), groups=2
    )
    torch.testing.assert_close(out[0].permute(1, 2, 0), torch.from_numpy(expected))


def test_dense_behind_a_flattened_map_is_the_same_function() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 4, 3)).astype(np.float32)  # height, width, channels
    matrix = rng.standard_normal((48, 5)).astype(np.float32)
    flattened = torch.from_numpy(x).permute(2, 0, 1).flatten()  # as PyTorch's graph does
    out = graphdef.dense(torch.from_numpy(matrix), map_size=4) @ flattened
    torch.testing.assert_close(out, torch.from_numpy(x.reshape(-1) @ matrix))


def tensorflows(organism: Organism, tensors: Mapping[str, torch.Tensor]) -> dict[str, Array]:
    """Tensors under the GraphDef's names and layouts, as the network's port had them."""
    maps = {"fc6_pre_relu": 7 if organism is VGG19_CAFFE else 6, "nn0_pre_relu": HEAD_MAP, "nn1_pre_relu": HEAD_MAP}
    constants: dict[str, Array] = {}
    for key, tensor in tensors.items():
        node, _, kind = key.rpartition(".")
        value = tensor.numpy()
        if value.ndim == 4:
            value = np.einsum("oihw->hwio", value)
        elif value.ndim == 2 and node in maps:
            size = maps[node]
            value = np.einsum("ochw->hwco", value.reshape(len(value), -1, size, size)).reshape(-1, len(value))
        elif value.ndim == 2:
            value = value.T
        stem = node.removesuffix("_pre_relu").removesuffix("_pre_activation").replace("/", "_")
        name = (
            f"{stem}_{kind[0]}" if organism is INCEPTIONV1 else f"{stem}/{'weights' if kind == 'weight' else 'biases'}"
        )
        constants[name] = np.ascontiguousarray(value)
    return constants


def small_tensors(organism: Organism) -> dict[str, torch.Tensor]:
    """A tensor for each of the network's, of its rank but few numbers; dense layers behind a map keep the map."""
    with torch.device("meta"):
        expected = organism.build().state_dict()
    generator, tensors = torch.Generator().manual_seed(0), {}
    for name, value in expected.items():
        inputs = {9216: 72, 25088: 98, 2048: 32}.get(value.shape[-1], 3)
        shape = {1: (2,), 2: (2, inputs), 4: (2, 3, 5, 4)}[value.dim()]
        tensors[name] = torch.randn(shape, generator=generator)
    return tensors


NETWORKS = (
    ALEXNET,
    ALEXNET_CAFFE_PLACES365,
    INCEPTIONV1,
    INCEPTIONV1_CAFFE,
    INCEPTIONV1_CAFFE_PLACES365,
    VGG19_CAFFE,
)


@pytest.mark.parametrize("organism", NETWORKS, ids=lambda organism: organism.name)
def test_every_tensor_of_the_network_is_found_in_its_port(organism: Organism, tmp_path: Path) -> None:
    (read,) = {source.read for source in organism.sources if source.where.endswith(".pb")}
    tensors = small_tensors(organism)
    found = read(written(tmp_path / "net.pb", tensorflows(organism, tensors)))
    assert set(found) == set(tensors)
    for name, value in tensors.items():
        assert found[name].equal(value), name


def test_alexnet_is_read_from_variables_in_the_order_of_layers(tmp_path: Path) -> None:
    tensors = small_tensors(ALEXNET)
    values = tensorflows(ALEXNET, tensors).values()
    constants = {f"Variable_{i}" if i else "Variable": value for i, value in enumerate(values)}
    (read,) = {source.read for source in ALEXNET.sources if source.where.endswith(".pb")}
    found = read(written(tmp_path / "net.pb", constants))
    assert set(found) == set(tensors)
    assert all(found[name].equal(value) for name, value in tensors.items())


def test_file_at_hand_is_read_by_its_ending_into_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path))
    random = weights.random(INCEPTIONV1)
    path = written(tmp_path / "graph.pb", tensorflows(INCEPTIONV1, random.tensors))
    taken = weights.take(INCEPTIONV1, path)
    assert taken.sha256 == random.sha256
    assert taken.provenance.source == "graph.pb" and not taken.provenance.official

    path = written(tmp_path / "caffenet.pb", {"conv1/weights": np.zeros((1, 1, 3, 96), np.float32)})
    with pytest.raises(WeightsError, match=r"conv1_pre_relu\.weight has shape"):  # read as a GraphDef, not a caffemodel
        weights.take(ALEXNET, path)
