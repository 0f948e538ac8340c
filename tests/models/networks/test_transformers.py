"""Transformers of libraries, small ones and in long tests public ones: every layer against plain hooks."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from microscope_atlas.models.adapters import timm as timm_adapter
from microscope_atlas.models.adapters import torchvision as torchvision_adapter
from microscope_atlas.models.networks.places import UNPROVEN
from microscope_atlas.models.networks.traced import Traced
from tests.models.networks.transformers import seeded

pytestmark = [
    pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed"),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # of the libraries', at building
]

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 5}


def _timm(name: str, **settings: Any) -> nn.Module:
    module: nn.Module = timm_adapter.imported().create_model(name, pretrained=False, **settings)
    return module


def _torchvision(name: str, **settings: Any) -> nn.Module:
    module: nn.Module = getattr(torchvision_adapter.imported().models, name)(**settings)
    return module


def _mixer() -> nn.Module:
    timm_adapter.imported()
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(num_classes=5, img_size=32, patch_size=8, num_blocks=2, embed_dim=16)


VIT = partial(_torchvision, "VisionTransformer")
SWIN = {"img_size": 32, "patch_size": 2, "embed_dim": 8, "depths": (2, 2), "num_heads": (2, 2), "window_size": 4}

# network -> what leads, of its first block or two; and the labels of tokens that are no place
SHOWN: dict[str, tuple[Callable[[], nn.Module], int, list[str], list[str]]] = {
    "torchvision vit": (
        partial(VIT, image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5),
        32,
        [f"encoder_layers_encoder_layer_1{part}" for part in ("_heads", "_mlp", "")],
        ["cls"],
    ),
    "timm vit": (
        partial(_timm, "vit_tiny_patch16_224", **SMALL),
        32,
        ["blocks_1_heads", "blocks_1_mlp", "blocks_1"],
        ["cls"],
    ),
    "timm deit distilled": (
        partial(_timm, "deit_tiny_distilled_patch16_224", **SMALL),
        32,
        ["blocks_1_heads", "blocks_1_mlp", "blocks_1"],
        ["cls", "dist"],
    ),
    "timm deit3": (
        partial(_timm, "deit3_small_patch16_224", **SMALL),
        32,
        ["blocks_1_heads", "blocks_1_mlp", "blocks_1"],
        ["cls"],
    ),
    "timm dinov2 with registers": (
        partial(_timm, "vit_small_patch14_reg4_dinov2", **SMALL),
        32,
        ["blocks_1_heads", "blocks_1_mlp", "blocks_1"],
        ["cls", "reg0", "reg1", "reg2", "reg3"],
    ),
    "timm dinov3": (
        partial(_timm, "vit_small_patch16_dinov3", **SMALL),
        32,
        ["blocks_1_heads", "blocks_1_mlp", "blocks_1"],
        ["cls", "reg0", "reg1", "reg2", "reg3"],
    ),
    "timm eva02": (
        partial(_timm, "eva02_tiny_patch14_224", **SMALL),
        32,
        ["blocks_1_heads", "blocks_1_mlp", "blocks_1"],
        ["cls"],
    ),
    "timm siglip": (
        partial(_timm, "vit_base_patch16_siglip_224", **SMALL),
        32,
        ["blocks_1_heads", "blocks_1_mlp", "blocks_1"],
        [],
    ),
    "timm mixer": (
        _mixer,
        32,
        ["blocks_1_mlp_channels", "blocks_1"],
        [],
    ),
    "timm swin": (
        partial(_timm, "swin_tiny_patch4_window7_224", **SWIN, num_classes=5),
        32,
        ["layers_0_blocks_1_mlp", "layers_0_blocks_1", "layers_1_blocks_1_mlp", "layers_1_blocks_1"],
        [],
    ),
}


def raw(network: Traced, pictures: Tensor) -> dict[str, Tensor]:
    """What plain hooks see at every module that a layer is taken at."""
    seen: dict[str, Tensor] = {}
    handles = []
    for name, tap in network.taps.items():
        if tap.reads:
            hook = partial(lambda name, module, given: seen.setdefault(name, given[0]), name)
            handles.append(tap.module.register_forward_pre_hook(lambda *of, hook=hook: (hook(*of), None)[1]))
        else:
            hook = partial(lambda name, module, given, output: seen.setdefault(name, output), name)
            handles.append(tap.module.register_forward_hook(lambda *of, hook=hook: (hook(*of), None)[1]))
    with torch.no_grad():
        network.module(pictures)
    for handle in handles:
        handle.remove()
    return seen


def check(network: Traced, size: int) -> None:
    """Every layer equals what plain hooks see, to 1e-5, in the order of rows."""
    pictures = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    seen = raw(network, pictures)
    table = network.table(size)
    with torch.no_grad():
        shown = dict(zip(table, network(pictures, list(table)), strict=True))
    for name, layer in table.items():
        if name not in seen:
            continue  # tokens that are no place, below
        value, expected = shown[name], seen[name]
        if layer.kind == "tokens":
            height, width = value.shape[2:]
            rest = expected.shape[1] - height * width
            for at in range(rest):
                label = next((each for each in table if network._apart.get(each) == (name, at)), None)
                if label is not None:
                    torch.testing.assert_close(shown[label], expected[:, at], atol=1e-5, rtol=0)
            expected = expected[:, rest:].transpose(1, 2).unflatten(2, (height, width))
        elif network.taps[name].units_last and expected.dim() == 4:
            expected = expected.permute(0, 3, 1, 2)
        torch.testing.assert_close(value, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SHOWN)
def test_layers_equal_plain_hooks(name: str) -> None:
    build, size, leading, labels = SHOWN[name]
    network = Traced(seeded(build), (0.0,), (1.0,), size)
    table = network.table(size)
    assert not set(leading) - {each for each, layer in table.items() if not layer.named_only}
    apart = [each for each in table if network._apart.get(each, ("", 0))[0] == leading[-1]]
    assert apart == [f"{leading[-1]}_{label}" for label in labels]
    check(network, size)


def test_windows_of_swin_are_refused_and_what_stands_in_rows_is_shown() -> None:
    build, size, _, _ = SHOWN["timm swin"]
    network = Traced(seeded(build), (0.0,), (1.0,), size)
    told = network.not_shown()
    assert set(told.values()) == {"parts of pictures"} and all(".attn." in path for path in told)


def test_dense_layers_over_positions_of_mixer_are_refused() -> None:
    build, size, _, _ = SHOWN["timm mixer"]
    told = Traced(seeded(build), (0.0,), (1.0,), size).not_shown()
    assert set(told.values()) == {UNPROVEN} and all(".mlp_tokens." in path for path in told)


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        *("vit_tiny_patch16_224", "deit3_small_patch16_224", "vit_small_patch14_reg4_dinov2", "eva02_tiny_patch14_224"),
        *("swin_tiny_patch4_window7_224", "mixer_s16_224", "vit_small_patch16_dinov3", "xcit_nano_12_p16_224"),
    ],
)
def test_layers_of_public_networks_equal_plain_hooks(name: str) -> None:
    module = seeded(partial(_timm, name))
    size = module.pretrained_cfg["input_size"][1]  # type: ignore[index, union-attr]
    network = Traced(module, (0.0,), (1.0,), size)
    assert sum(layer.kind == "tokens" for layer in network.table(size).values()) > 8
    check(network, size)


@pytest.mark.long
def test_layers_of_torchvisions_vit_equal_plain_hooks() -> None:
    network = Traced(seeded(partial(_torchvision, "vit_b_16")), (0.0,), (1.0,), 224)
    check(network, 224)
