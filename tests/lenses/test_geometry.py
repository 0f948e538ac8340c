import pytest
import torch
from torch import nn

from microscope_atlas.atlas.organisms import Field, Layer
from microscope_atlas.lenses.geometry import field_centre, shift, unit_size
from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.organism import Organism
from tests import toy

CPU = torch.device("cpu")
TOY = Organism("toy", "", "", 2026, "", 32, toy.network_to_be_initialised, {"conv1": None, "mixed": None}, ())


def layer(field: int | None) -> Layer:
    return Layer("l", "conv", 1, field, 1, {}, None)


def test_views_shift_no_further_than_a_quarter_of_the_field() -> None:
    assert [shift(layer(field), 12.0) for field in (4, 20, 100, None)] == [1.0, 5.0, 12.0, 12.0]


def test_views_shift_no_further_than_the_shorter_side_allows() -> None:
    long = Layer("l", "conv", 1, None, 1, {}).seeing(Field(8, 1), Field(80, 1))
    assert shift(long, 12.0) == 2.0
    assert unit_size(long, 224, None) == 96


def test_canvas_is_as_large_as_the_layer_needs() -> None:
    assert [unit_size(layer(field), 224, 112) for field in (3, 32, 33, 91, 700)] == [48, 48, 64, 112, 112]
    assert [unit_size(layer(field), 224, None) for field in (3, 91, 700)] == [48, 112, 224]
    assert unit_size(layer(None), 224, 112) == 224


def centre(organism: Organism, network: Network, layer: str, size: int) -> float:
    down, across = field_centre(lambda pictures: network(pictures, [layer])[0], organism, layer, size, CPU)
    assert down == across
    return across


@pytest.mark.parametrize(
    ("layer", "size", "expected"),
    [
        ("conv1", 48, 24.5),  # position 12 of 24, stride 2, padded alike on both sides: the middle of pixel 24
        ("conv1", 46, 22.5),  # position 11 of 23
        ("mixed", 48, 24.5),  # position 6 of 12, stride 4
        ("mixed", 16, 8.5),  # a field of 17 px, cut by the picture's border
        ("mixed", 8, 4.5),
    ],
)
def test_field_centre_is_that_of_the_centre_position(layer: str, size: int, expected: float) -> None:
    assert centre(TOY, toy.network(), layer, size) == expected


def test_padding_at_one_side_moves_the_field() -> None:
    lite = CATALOG["efficientnet_lite0"]  # TensorFlow's SAME: an even picture is padded at the right alone
    assert centre(lite, lite.build().eval(), "stem", 48) == 25.5  # position 12 reads pixels 24, 25 and 26
    assert centre(lite, lite.build().eval(), "stem", 47) == 24.5  # 23, 24 and 25: an odd one at both
    google = CATALOG["inceptionv1_caffe"]  # Caffe's pool starts at the border: position 6 reads 12, 13 and 14 of conv1
    assert centre(google, google.build().eval(), "conv2_3x3_reduce", 48) == 26.5


def test_field_of_the_whole_picture_is_centred_on_it() -> None:
    google = CATALOG["inceptionv1_caffe"]
    assert centre(google, google.build(), "loss3_classifier", 224) == 112


def test_centre_of_a_long_field_is_told_along_both_axes() -> None:
    def build() -> Graph:
        g = Graph()
        g.add("long", nn.Conv2d(3, 2, (3, 9), stride=(1, 2), padding=(1, 0)))
        return g

    long = Organism("long", "", "", 2026, "", 32, build, {"long": None}, ())
    network = build()
    found = field_centre(lambda pictures: network(pictures, ["long"])[0], long, "long", 32, CPU)
    assert found == (16.5, 12 // 2 * 2 + 4.5)  # 32 rows; 12 columns, of which position 6 reads pixels 12 to 20


def test_gradient_is_spread_about_the_field_centre() -> None:
    network = toy.network()
    picture = torch.rand(1, 3, 48, 48, requires_grad=True)
    network(picture, ["mixed_pre"])[0][0, :, 6, 6].sum().backward()
    assert picture.grad is not None
    reached = (picture.grad[0].abs().sum((0, 1)) > 0).nonzero()
    assert reached.min() >= 24.5 - 17 / 2
    assert reached.max() + 1 <= 24.5 + 17 / 2
