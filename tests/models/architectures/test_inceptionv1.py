import numpy as np
import pytest
import torch

from microscope_atlas.models.architectures.inceptionv1 import INCEPTIONV1
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.ops import SameMaxPool2d

UNITS = {
    "conv2d0": 64,
    "conv2d1": 64,
    "conv2d2": 192,
    "mixed3a": 256,
    "mixed3b": 480,
    "mixed4a": 508,
    "mixed4b": 512,
    "mixed4c": 512,
    "mixed4d": 528,
    "mixed4e": 832,
    "mixed5a": 832,
    "mixed5b": 1024,
    "head0_bottleneck": 128,
    "nn0": 1024,
    "softmax0": 1008,
    "head1_bottleneck": 128,
    "nn1": 1024,
    "softmax1": 1008,
    "softmax2": 1008,
}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return INCEPTIONV1.build().requires_grad_(False)


def test_table_of_layers() -> None:
    shown = [layer for layer in INCEPTIONV1.layers.values() if not layer.named_only]
    assert [(layer.name, layer.units) for layer in shown] == list(UNITS.items())
    assert INCEPTIONV1.input_size == 224
    assert sum(layer.units for layer in shown if layer.kind == "conv") == 5804 + 256
    assert {layer.name for layer in INCEPTIONV1.layers.values() if layer.kind == "dense"} == {
        *("nn0", "softmax0", "nn1", "softmax1", "softmax2")
    }


def test_bottlenecks_are_layers_where_they_are_named() -> None:
    inner = {name: layer.units for name, layer in INCEPTIONV1.layers.items() if layer.named_only}
    assert len(inner) == 18
    assert (inner["mixed3a_3x3_bottleneck"], inner["mixed5a_5x5_bottleneck"]) == (96, 48)
    assert not [edge for edge in INCEPTIONV1.edges if inner.keys() & {*edge}]


def test_branches_of_a_module_are_1x1_3x3_5x5_pool() -> None:
    assert INCEPTIONV1.layer("mixed4c").branches == {
        "mixed4c_1x1": (0, 128),
        "mixed4c_3x3": (128, 384),
        "mixed4c_5x5": (384, 448),
        "mixed4c_pool_reduce": (448, 512),
    }
    assert INCEPTIONV1.layer("mixed4a").branches["mixed4a_3x3"] == (192, 396)


def test_links_to_a_branch_lead_to_its_units_in_the_module() -> None:
    assert INCEPTIONV1.legacy_parts["mixed4d_5x5_0"] == ("mixed4d", 400, 464)
    for name in ("mixed3a", "mixed4a", "mixed5b"):
        for branch, (start, stop) in INCEPTIONV1.layer(name).branches.items():
            assert INCEPTIONV1.legacy_parts[f"{branch}_0"] == (name, start, stop)


def test_picture_becomes_rgb_minus_117(graph: Graph) -> None:
    (x,) = graph(torch.tensor([0.0, 0.2, 1.0]).view(1, 3, 1, 1), ["input"])
    torch.testing.assert_close(x.flatten(), torch.tensor([-117.0, -66.0, 138.0]))


def test_preactivation_of_a_module_is_its_join_before_the_rectifier(graph: Graph) -> None:
    assert graph.preactivation("mixed4c") == "mixed4c_pre_relu"
    x = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    before, after = graph(x, ["mixed3a_pre_relu", "mixed3a"])
    assert before.min() < 0
    assert after.equal(before.relu())


@pytest.mark.parametrize("name", ["localresponsenorm0", "localresponsenorm1"])
def test_normalisation_is_tensorflows_with_radius_5_bias_2_alpha_1e4_beta_half(graph: Graph, name: str) -> None:
    x = 100 * np.random.default_rng(0).standard_normal((1, 20, 2, 2)).astype(np.float32)
    expected = np.empty_like(x)
    for c in range(20):
        near = x[:, max(0, c - 5) : c + 6]
        expected[:, c] = x[:, c] / np.sqrt(2 + 1e-4 * (near**2).sum(1))
    out = graph.get_submodule(name)(torch.from_numpy(x))
    torch.testing.assert_close(out, torch.from_numpy(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([5, 1, 2, 3, 9, 4], [5, 9, 9]),  # even: windows 0-2, 2-4, 4-6; the last is cut
        ([5, 1, 2, 3, 9], [5, 3, 9]),  # odd: windows -1-1, 1-3, 3-5; first and last are cut
        ([-5, -1, -2, -3, -9], [-1, -1, -3]),  # what pads is never the maximum
    ],
)
def test_same_max_pool_pads_as_tensorflow_does(row: list[int], expected: list[int]) -> None:
    rows = torch.tensor(row, dtype=torch.float32).view(1, 1, 1, -1).expand(1, 1, 4, -1)
    assert SameMaxPool2d(3, 2)(rows)[0, 0, 0].tolist() == expected
    columns = SameMaxPool2d(3, 2)(rows.transpose(2, 3))
    assert columns[0, 0, :, 0].tolist() == expected


def test_sizes_are_halved_and_rounded_up() -> None:
    with torch.device("meta"):
        graph = INCEPTIONV1.build()
    nodes = ["conv2d0", "maxpool0", "maxpool1", "maxpool4", "maxpool10", "head0_pool", "head1_bottleneck"]
    for size, expected in {224: [112, 56, 28, 14, 7, 4, 4], 195: [98, 49, 25, 13, 7, 3, 3]}.items():
        outputs = graph(torch.empty(1, 3, size, size, device="meta"), nodes)
        assert [x.shape[3] for x in outputs] == expected
