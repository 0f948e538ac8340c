"""Which steps are known to be piecewise linear."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.models.networks.ops import LocalResponseNorm, SameConv2d, SameMaxPool2d
from microscope_atlas.rendering.piecewise_linear import nonlinear


def given() -> Tensor:
    return torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0)).requires_grad_(True)


def layers(*made: nn.Module) -> nn.Module:
    return nn.Sequential(*made).eval().requires_grad_(False)


@pytest.mark.parametrize(
    "step",
    [
        layers(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 3)),
        layers(nn.ZeroPad2d(1), nn.ReLU6(), nn.AvgPool2d(2), nn.Dropout(), nn.LeakyReLU(), nn.PReLU()),
        lambda x: torch.cat([x, x.mean((2, 3), keepdim=True).expand_as(x)], 1).permute(0, 2, 3, 1).reshape(2, -1) / 3,
        lambda x: (x + 1).abs() - x.amax(1, keepdim=True) * 2 + x[:, :1].clamp(0, 1),
        lambda x: F.interpolate(F.pixel_shuffle(x, 2), scale_factor=2).roll(1, 2),
        lambda x: (x.flatten(2) @ torch.ones(36, 5)).max(2).values.unbind(1)[0],
        layers(SameConv2d(4, 4, 3, stride=2), SameMaxPool2d(3, 2)),
        lambda x: torch.stack([x[0, 1, 2, 3], x[:, 2].mean()]).float().sum(),
    ],
)
def test_piecewise_linear_steps_are_known(step: Callable[[Tensor], Tensor]) -> None:
    assert nonlinear(step(given())) == ()


@pytest.mark.parametrize(
    ("step", "names"),
    [
        (lambda x: F.gelu(x).softmax(1), ("Gelu", "Softmax")),
        (lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(), ("Mul", "Sigmoid")),
        (lambda x: x / (1 + x.sum()), ("Div",)),
        (lambda x: x.flatten(2) @ x.flatten(2).transpose(1, 2), ("Bmm",)),
        (lambda x: F.layer_norm(x, (6,)), ("NativeLayerNorm",)),
        (nn.BatchNorm2d(4), ("NativeBatchNorm",)),  # while it learns
        (LocalResponseNorm(5, 1e-2, 0.75, 1.0), ("Lrn",)),
        (lambda x: x.square().mean(), ("Pow",)),
    ],
)
def test_others_are_named(step: Callable[[Tensor], Tensor], names: tuple[str, ...]) -> None:
    assert nonlinear(step(given())) == names


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("efficientnet_lite0", ()),
        ("vgg19_caffe", ()),
        ("inceptionv1_caffe", ("Lrn",)),
        *(
            pytest.param(name, names, marks=pytest.mark.long)
            for name, names in {
                **dict.fromkeys(("inceptionv3_slim", "inceptionv4_slim", "resnetv2_50_slim"), ()),
                **dict.fromkeys(("alexnet", "inceptionv1"), ("Lrn",)),
                "contrastive_rn50": ("Mul", "Softmax"),  # its attention pool
            }.items()
        ),
    ],
)
def test_of_the_catalogs_networks_all_else_is_known(name: str, names: tuple[str, ...]) -> None:
    known = CATALOG[name]
    pictures = torch.zeros(2, 3, known.input_size, known.input_size, device="meta", requires_grad=True)
    (ended,) = known.blank().requires_grad_(False).eval()(pictures, [list(known.layers)[-1]])
    assert nonlinear(ended) == names
