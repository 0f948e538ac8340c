"""What the networks of TF-slim share: names of variables, its pools and batch norms."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from microscope_atlas.models.architectures import slim
from microscope_atlas.models.architectures.inceptionv3_slim import INCEPTIONV3_SLIM
from microscope_atlas.models.architectures.inceptionv4_slim import INCEPTIONV4_SLIM
from microscope_atlas.models.architectures.resnetv2_slim import RESNETV2_50_SLIM
from microscope_atlas.models.networks.graph import Graph, fold_batch_norm
from microscope_atlas.models.networks.ops import SameMaxPool2d, UnscaledBatchNorm2d
from microscope_atlas.models.organism import Organism
from tests.references.graphdef import graphdef
from tests.references.slim.shared_weights import FOLDER, shared_weights


def test_variables_come_under_the_graphs_names() -> None:
    kernel = torch.arange(120).reshape(5, 3, 2, 4)
    matrix = torch.arange(42).reshape(6, 7)
    bias = torch.arange(7)
    found = slim.tensors(
        {
            "Net/conv/weights": kernel,
            "Net/conv/BatchNorm/beta": bias,
            "Net/conv/BatchNorm/gamma": bias + 1,
            "Net/conv/BatchNorm/moving_mean": bias + 2,
            "Net/conv/BatchNorm/moving_variance": bias + 3,
            "Net/logits/weights": matrix,
            "Net/logits/biases": bias,
            "Net/conv/BatchNorm/Const": bias,
            "global_step": torch.tensor(1),
        }
    )
    assert list(found) == [
        "Net/conv.weight",
        "Net/conv/BatchNorm.bias",
        "Net/conv/BatchNorm.weight",
        "Net/conv/BatchNorm.running_mean",
        "Net/conv/BatchNorm.running_var",
        "Net/logits.weight",
        "Net/logits.bias",
    ]
    assert found["Net/conv.weight"][3, 1, 4, 2] == kernel[4, 2, 1, 3]
    assert found["Net/logits.weight"][6, 5] == matrix[5, 6]
    norm = [found[f"Net/conv/BatchNorm.{name}"][0] for name in ("bias", "weight", "running_mean", "running_var")]
    assert norm == [0, 1, 2, 3]


def test_frozen_graph_comes_under_the_graphs_names(tmp_path: Path) -> None:
    constants = {
        "Net/conv/weights": np.arange(24, dtype=np.float32).reshape(1, 3, 2, 4),
        "Net/conv/BatchNorm/beta": np.ones(4, np.float32),
        "Net/Net/conv/BatchNorm/Const": np.ones(4, np.float32),
    }
    (tmp_path / "frozen.pb").write_bytes(graphdef(constants))
    found = slim.read_frozen_graph(tmp_path / "frozen.pb")
    assert list(found) == ["Net/conv.weight", "Net/conv/BatchNorm.bias"]
    assert found["Net/conv.weight"][3, 1, 0, 2] == constants["Net/conv/weights"][0, 2, 1, 3]


@pytest.mark.parametrize("organism", [INCEPTIONV3_SLIM, RESNETV2_50_SLIM], ids=lambda organism: organism.name)
def test_tf_slims_variables_are_the_ones_expected(organism: Organism) -> None:
    lines = [line.split() for line in np.load(FOLDER / f"{organism.name}.npz")["variables"]]
    variables = {name: torch.empty([int(n) for n in shape], device="meta") for name, *shape in lines}
    given = {name: [n for n in value.shape if n > 1] for name, value in slim.tensors(variables).items()}
    assert given == {name: [n for n in value.shape if n > 1] for name, value in shared_weights(organism).items()}


@pytest.mark.parametrize("organism", [INCEPTIONV3_SLIM, INCEPTIONV4_SLIM], ids=lambda organism: organism.name)
def test_inceptions_batch_norms_have_no_scale_to_load(organism: Organism) -> None:
    with torch.device("meta"):
        names = organism.build().state_dict()
    assert any(name.endswith("BatchNorm.bias") for name in names)
    assert not any(name.endswith("BatchNorm.weight") for name in names)


def test_unscaled_batch_norm_folds_into_its_convolution() -> None:
    graph = Graph()
    x = graph.add("conv", torch.nn.Conv2d(3, 4, 3, bias=False))
    graph.add("norm", UnscaledBatchNorm2d(4, eps=0.5), x)
    graph.eval()
    norm = graph.get_submodule("norm")
    assert isinstance(norm, UnscaledBatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        norm.running_mean.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
        norm.running_var.copy_(torch.tensor([0.5, 1.5, 3.5, 8.5]))
        pictures = torch.rand(2, 3, 6, 6)
        convolved, normed = graph(pictures, ["conv", "norm"])
        fold_batch_norm(graph)
        (folded,) = graph(pictures, ["norm"])
    by_hand = (convolved[:, 3] - 0.4) / 3 + 4
    assert torch.allclose(normed[:, 3], by_hand, atol=1e-6)
    assert torch.allclose(folded, normed, atol=1e-6)


def test_same_max_pool_of_an_even_size_pads_right_and_bottom_only() -> None:
    ramp = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert SameMaxPool2d(3, 2)(ramp).flatten().tolist() == [10, 11, 14, 15]


def test_same_max_pool_of_an_odd_size_pads_all_sides() -> None:
    ramp = torch.arange(25.0).reshape(1, 1, 5, 5)
    assert torch.equal(SameMaxPool2d(3, 2)(ramp), F.max_pool2d(ramp, 3, 2, padding=1))


def test_padding_never_wins_a_same_max_pool() -> None:
    below = -torch.rand(1, 1, 6, 6) - 1
    assert SameMaxPool2d(3, 2)(below).max() < -1
