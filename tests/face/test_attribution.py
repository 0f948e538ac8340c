"""Attribution from Python: of a network made by hand, and of a trained one."""

from collections.abc import Callable

import pytest
import torch
from PIL import Image
from torch import nn

import microscope_atlas as ma
from microscope_atlas.errors import InvalidSetting, PicturesFailed, UnknownName

SIZE = 8


def toy() -> "ma.Trained":
    """Red and not red, then red and 0.25 less a third of not red, rectified; then the mean of the first."""
    first, second, third = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 1, 1)
    for conv in (first, second, third):
        nn.init.zeros_(conv.weight), nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    with torch.no_grad():
        first.weight[0, 0], first.weight[1, 1:] = 1.0, 1.0
        second.weight[0, :, 0, 0] = torch.tensor([1.0, -1.0])
        second.bias[0], second.bias[1] = 0.25, -5.0  # type: ignore[index]
        third.weight[0, 0] = 2.0
    layers = (first, nn.ReLU(), second, nn.ReLU(), third)
    return ma.Trained(nn.Sequential(*layers), input_size=SIZE, layers=("1", "3", "4"), license="CC0-1.0")


@pytest.fixture(scope="module")
def net() -> "ma.Net":
    return ma.load(toy(), device="cpu")


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """Black, with red (51 of 255 are 0.2) at row 1, column 2, and white at row 3, column 4."""
    made = Image.new("RGB", (SIZE, SIZE))
    made.putpixel((2, 1), (51, 0, 0))
    made.putpixel((4, 3), (255, 255, 255))
    return made


def test_a_place_is_explained_by_what_it_sees(net: "ma.Net", picture: Image.Image) -> None:
    why = ma.attribute(net, picture, ma.neuron("3", 0, (1, 2)), "1")
    assert why.target == pytest.approx(0.2 + 0.25)  # its bias is the rest
    assert why.units.tolist() == pytest.approx([0.2, 0])
    assert why.remainder == pytest.approx(0.25) and why.explained == pytest.approx(1)
    assert why.places.nonzero().tolist() == [[1, 2]]
    assert why.nonlinear == ()


def test_a_mean_is_explained_where_the_unit_fires_alone(net: "ma.Net", picture: Image.Image) -> None:
    why = ma.attribute(net, picture, ma.channel("3", 0), "1")
    # black gives 0.25 at 62 places, red 0.45, white 1 - 2 + 0.25 below zero, so nothing
    assert why.target == pytest.approx((62 * 0.25 + 0.45) / 64)
    assert why.units.tolist() == pytest.approx([0.2 / 64, 0])  # white is silenced, its -2 is not seen
    later = ma.attribute(net, picture, ma.channel("4", 0), "1")
    assert later.units.tolist() == pytest.approx([0.4 / 64, 0])


def test_what_speaks_for_one_rather_than_another(net: "ma.Net", picture: Image.Image) -> None:
    why = ma.attribute(net, picture, 3.0 * ma.neuron("4", 0, (1, 2)) - ma.neuron("4", 0, (0, 0)), "3")
    assert why.amounts[0, 1, 2].item() == pytest.approx(3 * 2 * 0.45)
    assert why.amounts[0, 0, 0].item() == pytest.approx(-2 * 0.25)
    assert why.total == pytest.approx(why.target) and why.remainder == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        (lambda net, it: ma.attribute(net, it, ma.channel("3", 0), "5"), UnknownName, "layer '5' is not in"),
        (lambda net, it: ma.attribute(net, it, ma.channel("3", 2), "1"), UnknownName, "unit 2 is not in"),
        (
            lambda net, it: ma.attribute(net, it, ma.channel("3", 0), "4"),
            InvalidSetting,
            r"layer '4' of \S+ does not lead to channel\(3, 0\); expected a layer before it, such as 1$",
        ),
        (
            lambda net, it: ma.attribute(net, it, ma.channel("1", 0), "1"),
            InvalidSetting,
            r"does not lead to channel\(1, 0\), and no layer does$",
        ),
        (
            lambda net, it: ma.attribute(net, it, ma.neuron("3", 0, (1, 8)), "1"),
            InvalidSetting,
            r"place \(1, 8\) of 3: the layer is a map of 8 rows and 8 columns here; rows and columns begin at 0$",
        ),
        (
            lambda net, it: ma.attribute(net, it, ma.channel("3", 1), "1"),
            InvalidSetting,
            r"^channel\(3, 1\) is 0 on this picture, and no unit of 1 moves it: it is silent or saturated$",
        ),
        (
            lambda net, it: ma.attribute(net, it, 1e60 * ma.channel("3", 0), "1"),
            InvalidSetting,
            "or what units of 1 give to it, is no finite number on this picture",
        ),
        (lambda net, it: ma.neuron("3", 0, 4), InvalidSetting, "place 4; expected a row and a column"),
        (lambda net, it: ma.neuron("3", 0, (0, -1)), InvalidSetting, "column of a place is -1, expected a whole"),
        (lambda net, it: ma.attribute(net, it, "3/0", "1"), InvalidSetting, "target '3/0'; expected an objective"),
        (
            lambda net, it: ma.attribute(net, Image.new("RGB", (9, 9), "red"), ma.channel("3", 0), "1"),
            PicturesFailed,
            "^this picture is all one colour: there is nothing in it that could be a reason$",
        ),
        (lambda net, it: ma.attribute(net, "no.png", ma.channel("3", 0), "1"), PicturesFailed, "cannot be read"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    net: "ma.Net", picture: Image.Image, asked: Callable[..., object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        asked(net, picture)


def test_of_a_trained_network_the_credited_units_matter_more_than_others() -> None:
    """EfficientNet-Lite0 takes the dog for a German shepherd, 0.98 of its softmax."""
    why = ma.attribute(ma.load("efficientnet_lite0", device="cpu"), "dog", ma.channel("logits", 235), "blocks_14")
    assert why.nonlinear == ()
    found = why.ablate(draws=4)
    assert found.drop > 5 * max(abs(found.random_drop), 0.1)
    assert found.attributed == pytest.approx(found.drop, rel=0.5)
