"""What positions see, measured, against what kernels, strides and paddings say."""

from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn

from microscope_atlas.atlas.organisms import Field
from microscope_atlas.errors import NetworkFailed
from microscope_atlas.models.catalog import CATALOG, organism
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.measured import OUT_OF_ORDER, sights
from microscope_atlas.models.networks.traced import Traced
from tests import toy

torchvision = pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
timm = pytest.mark.skipif(
    find_spec("torchvision") is None or find_spec("timm") is None, reason="torchvision or timm is not installed"
)


def traced(module: nn.Module, size: int = 32, layers: tuple[str, ...] = ()) -> Traced:
    return Traced(module, (0.0,) * 3, (1.0,) * 3, size, layers)


def square(network: Traced, size: int = 32) -> dict[str, tuple[int | None, int, int]]:
    table = network.table(size)
    assert all(layer.vertical is None for layer in table.values())
    return {name: (layer.receptive_field, layer.stride, layer.origin) for name, layer in table.items()}


def differences(build: Callable[[], Graph], size: int) -> dict[str, object]:
    """Nodes that the measure and the kernels disagree about, of those with more positions than one."""
    with torch.device("meta"):
        graph = build().eval()
        shapes = graph._shapes(list(graph.reads), size)
        maps = {name for name, shape in shapes.items() if max((0, *shape[1:])) > 1}
        # nodes of an attention pool are for one size alone: tokens, which are no map of the picture
        table = {name: layer for name, layer in graph.table(size).items() if name in maps and not layer.fixed_size}
    found = sights(graph, {name: graph.get_submodule(name) for name in table}, size)
    assert not any(sight.fault for sight in found.values())
    return {
        name: (found[name], layer.sides)
        for name, layer in table.items()
        if (found[name].vertical, found[name].horizontal) != layer.sides
    }


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet_lite0",
        *(pytest.param(name, marks=pytest.mark.long) for name in CATALOG if name != "efficientnet_lite0"),
    ],
)
def test_organisms_see_what_their_kernels_say(name: str) -> None:
    known = CATALOG[name]
    assert not differences(known.build, known.input_size)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [64, 67])
def test_toy_sees_what_its_kernels_say(size: int) -> None:
    assert not differences(toy.network_to_be_initialised, size)


def test_height_and_width_are_kept_apart() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, (1, 7), padding=(0, 3)), nn.ReLU(), nn.Conv2d(4, 4, (3, 1), (2, 1)), nn.MaxPool2d(2)
    )
    module.append(nn.Conv2d(4, 4, 3, dilation=(1, 2)))
    table = traced(module).table(32)
    assert [layer.sides for layer in table.values()] == [
        (Field(1, 1, 0), Field(7, 1, -3)),
        (Field(3, 2, 0), Field(7, 1, -3)),
        (Field(3 + 2 + 2 * 4, 4, 0), Field(7 + 1 + 4 * 2, 2, -3)),
    ]
    assert [layer.receptive_field for layer in table.values()] == [7, 7, 16]


class Gated(nn.Module):
    """Squeeze and excitation, however it is written."""

    def __init__(self, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool
        self.before = nn.Conv2d(3, 4, 3, stride=2)
        self.gate = nn.Conv2d(4, 4, 1)
        self.behind = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        return self.behind(x * self.gate(self.pool(x)).sigmoid())  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "pool",
    [
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveMaxPool2d((1, 1)),
        lambda x: x.mean((2, 3), keepdim=True),
        lambda x: torch.amax(x, dim=(2, 3), keepdim=True),
        lambda x: x.norm(p=2, dim=(2, 3), keepdim=True),
        lambda x: nn.functional.avg_pool2d(x, x.shape[2:]),
    ],
)
def test_gates_are_held_constant_and_see_the_whole_picture(pool: Callable[[Tensor], Tensor]) -> None:
    assert square(traced(Gated(pool))) == {"before": (3, 2, 0), "gate": (None, 2, 0), "behind": (7, 2, 0)}


class LastNorm(nn.LayerNorm):
    """Over channels, as ConvNeXt has it."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LayerNorm((4, 30, 30)), LastNorm(4), nn.BatchNorm2d(4)]
)
def test_norms_leave_fields_as_they_are(norm: nn.Module) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.GELU(), nn.Conv2d(4, 4, 3, stride=2))
    assert list(square(traced(module)).values()) == [(3, 1, 0), (5, 2, 0)]


def test_chosen_layers_far_apart_see_what_all_between_them_see() -> None:
    convolutions = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(24)]
    assert square(traced(nn.Sequential(*convolutions), layers=("23",))) == {"23": (49, 1, -24)}


class Windows(nn.Module):
    """Windows x positions in place of rows x columns, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 4, stride=4)
        self.dense = nn.Linear(4, 4)
        self.behind = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)  # (batch, 4, 16, 16)
        parts = x.unflatten(3, (4, 4)).unflatten(2, (4, 4)).permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)
        parts = self.dense(parts)  # (batch, 16, 16, 4)
        parts = parts.unflatten(2, (4, 4)).unflatten(1, (4, 4)).permute(0, 5, 1, 3, 2, 4)
        return self.behind(parts.flatten(4, 5).flatten(2, 3))  # type: ignore[no-any-return]


def test_windows_are_no_map_and_what_follows_them_is() -> None:
    network = traced(Windows(), 64)
    assert square(network, 64) == {"conv": (4, 4, 0), "behind": (12, 4, -4)}
    assert network.not_shown() == {"dense": OUT_OF_ORDER}
    with pytest.raises(NetworkFailed, match="layer dense is no map: positions in another order than the picture's"):
        traced(Windows(), 64, ("dense",)).table(64)


def test_network_that_fails_on_other_weights_sees_the_whole_picture() -> None:
    class Moody(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            if self.weight.min() > 0:
                raise ValueError("all above zero")
            return super().forward(input)

    module = Moody(3, 4, 3)
    with torch.no_grad():
        module.weight[0, 0, 0, 0] = -1
    assert list(square(traced(module)).values()) == [(None, 1, 0)]


LONG = [torchvision, pytest.mark.long]

# layer -> what kernels, strides and paddings give by hand or in the papers; gates without number
KNOWN = [
    pytest.param("torchvision:mobilenet_v3_small", "features_12_0", 639, 18, marks=torchvision),
    pytest.param("torchvision:shufflenet_v2_x0_5", "conv5_0", 527, 0, marks=torchvision),
    pytest.param("torchvision:regnet_y_400mf", "trunk_output_block4_block4_5_f_c_0", 575, 32, marks=torchvision),
    pytest.param("timm:ghostnet_050", "blocks_9_0_conv", 1171, 15, marks=timm),
    pytest.param("torchvision:resnet18", "layer4_1_conv2", 435, 0, marks=torchvision),
    pytest.param("torchvision:convnext_tiny", "features_7_2_block_5", 1688, 0, marks=[torchvision, pytest.mark.long]),
    pytest.param("timm:nfnet_l0", "final_conv", 807, 24, marks=[timm, pytest.mark.long]),
    pytest.param(
        "torchvision:inception_v3", "Mixed_6b_branch7x7_3_conv", 255, 0, marks=[torchvision, pytest.mark.long]
    ),
    pytest.param("torchvision:inception_v3", "Mixed_6e_branch1x1_conv", 735, 0, marks=[torchvision, pytest.mark.long]),
]


@pytest.mark.parametrize(("name", "layer", "field", "gates"), KNOWN)
def test_fields_of_networks_from_libraries(name: str, layer: str, field: int, gates: int) -> None:
    table = organism(name).layers
    assert table[layer].receptive_field == field
    unknown = [each for each in table.values() if each.kind == "conv" and each.receptive_field is None]
    assert len(unknown) == gates


@torchvision
def test_windows_of_maxvit_are_not_shown_as_maps() -> None:
    from torchvision.models.maxvit import MaxVit

    module = MaxVit((64, 64), 8, 4, [8, 8], [1, 1], 4, 0.0)
    network = traced(module, 64)
    inside = [path for path, why in network.not_shown().items() if why == OUT_OF_ORDER]
    assert len(inside) == 2 * 2 * 4  # blocks, windows and grids, dense layers of each
    assert all(".attn_layer." in path or ".mlp_layer." in path for path in inside)
    table = network.table(64)
    assert not any("attention" in name for name in table)
    assert [table[name].stride for name in table if name.endswith("MBconv_layers_conv_c")] == [4, 8]
