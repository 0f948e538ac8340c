"""Reading frozen GraphDefs: the container, TensorFlow's layouts, and each network's names."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

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
from microscope_atlas.models.formats.numbers import BFLOAT16
from microscope_atlas.models.formats.protobuf import CHUNK, packed, varints
from microscope_atlas.models.organism import Organism
from tests.references.caffemodel import field, varint
from tests.references.graphdef import FLOAT_VAL, HALF_VAL, const, floats, proto
from tests.references.graphdef import graphdef as graphdef_of

Array = NDArray[np.generic]

BY_TENSORFLOW = Path(__file__).parents[2] / "references" / "graphdef.pb"  # see make_graphdef.py


def written(path: Path, constants: Mapping[str, Array]) -> Path:
    path.write_bytes(graphdef_of(constants))
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


def test_constants_are_what_tensorflow_froze() -> None:
    read = graphdef.read_graphdef(BY_TENSORFLOW)
    numbers = torch.arange(24.0).reshape(2, 3, 1, 4) / 8 - 1
    for dtype in ("float32", "float64", "float16", "bfloat16"):
        kept = torch.float64 if dtype == "float64" else torch.float32
        assert read[f"{dtype}/weights"].equal(numbers.to(kept)), dtype
        assert read[f"{dtype}/filled"].equal(torch.full((3, 5), -1.5, dtype=kept)), dtype
        assert read[f"{dtype}/pair"].equal(torch.tensor([0.5, -0.25], dtype=kept)), dtype
    assert read["shape"].tolist() == [-1, 8] and read["long"].item() == -(1 << 40)
    assert not {"words", "truth"} & set(read)


def test_half_and_bfloat16_constants_are_read_as_float32_of_the_same_value(tmp_path: Path) -> None:
    values = np.array([1.5, -2.25, 65504, 6e-8, np.inf], np.float16)
    upper = np.array([0x3FC0, 0xC010, 0x7F7F, 0x0001], np.uint16)  # 1.5, -2.25, the largest and the least
    listed = field(HALF_VAL, b"".join(map(varint, upper.tolist())))
    (tmp_path / "net.pb").write_bytes(
        graphdef_of({"half": values})
        + const("brain", proto(BFLOAT16, [4], content=upper.tobytes()))
        + const("listed", proto(BFLOAT16, [6], values=listed))
    )
    read = graphdef.read_graphdef(tmp_path / "net.pb")
    assert {value.dtype for value in read.values()} == {torch.float32}
    assert read["half"].equal(torch.from_numpy(values).float())
    brain = torch.from_numpy(upper.view(np.int16)).view(torch.bfloat16).float()
    assert read["brain"].equal(brain)
    assert read["listed"].equal(torch.cat([brain, brain[-1:], brain[-1:]]))


def test_values_that_are_not_stored_as_bytes_are_read_and_the_last_is_repeated(tmp_path: Path) -> None:
    lists = {"one": [7.0], "some": [1.0, 2.0], "all": [1.0, 2.0, 3.0, 4.0]}
    content = b"".join(floats(name, [4], values) for name, values in lists.items())
    each = b"".join(varint(FLOAT_VAL << 3 | 5) + np.float32(value).tobytes() for value in (5.0, 6.0))
    (tmp_path / "net.pb").write_bytes(content + const("each", proto(1, [4], values=each)))
    read = graphdef.read_graphdef(tmp_path / "net.pb")
    assert {name: value.tolist() for name, value in read.items()} == {
        "one": [7, 7, 7, 7],
        "some": [1, 2, 2, 2],
        "all": [1, 2, 3, 4],
        "each": [5, 6, 6, 6],
    }


def test_packed_numbers_are_the_same_many_at_a_time_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    values = [*rng.integers(0, 1 << 62, CHUNK // 6).tolist(), 0, 127, 128, 2**64 - 1]
    data = memoryview(b"".join(map(varint, values)))
    assert len(data) > CHUNK
    assert np.concatenate(list(packed(data))).tolist() == list(varints(data)) == values


def test_truncated_file_gives_weights_error_or_whole_tensors(tmp_path: Path) -> None:
    content, constants, refused = graphdef_of(some_constants()), some_constants(), 0
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
    content, rng = graphdef_of(some_constants()), np.random.default_rng(0)
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
    (tmp_path / "net.pb").write_bytes(floats("conv1_w", shape, values))
    with pytest.raises(WeightsError, match="conv1_w"):
        graphdef.read_graphdef(tmp_path / "net.pb")


def test_zip_archive_with_one_graph_is_read_and_any_other_gives_weights_error(tmp_path: Path) -> None:
    content, path = graphdef_of(some_constants()), tmp_path / "net.zip"
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
