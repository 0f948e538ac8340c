"""Networks of transformer families at a small width, few blocks deep: the library's own code, to try lenses on.

`own:benchmarks.narrow.beit`. Of the smallest networks that libraries name, some are as wide as ViT-B, where connections
alone would take an hour; which lenses take a network does not depend on its width.
"""

from typing import Any

import torch
from torch import nn

from microscope_atlas import Trained
from microscope_atlas.models.adapters import timm, torchvision

WIDTH, HEADS, DEPTH = 96, 3, 4
SMALL = {"embed_dim": WIDTH, "num_heads": HEADS, "depth": DEPTH}


def _seeded(build: Any, **settings: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module: nn.Module = build(**settings)
        return module


def _timm(name: str, size: int = 224, **settings: Any) -> Trained:
    return Trained(_seeded(timm.imported().create_model, model_name=name, pretrained=False, **settings), size)


def vit_torchvision() -> Trained:
    kind = torchvision.imported().models.VisionTransformer
    sizes = {"image_size": 224, "patch_size": 32, "num_layers": DEPTH, "num_heads": HEADS}
    return Trained(_seeded(kind, **sizes, hidden_dim=WIDTH, mlp_dim=4 * WIDTH), 224)


def swin_torchvision() -> Trained:
    kind = torchvision.imported().models.SwinTransformer
    sizes = {"patch_size": [4, 4], "embed_dim": 48, "depths": [2, 2, 2, 2], "num_heads": [3, 6, 12, 24]}
    return Trained(_seeded(kind, **sizes, window_size=[7, 7]), 224)


def vit() -> Trained:
    return _timm("vit_tiny_patch16_224", **SMALL)


def deit() -> Trained:
    return _timm("deit_tiny_patch16_224", **SMALL)


def deit_distilled() -> Trained:
    return _timm("deit_tiny_distilled_patch16_224", **SMALL)


def eva02() -> Trained:
    return _timm("eva02_tiny_patch14_224", **SMALL)


def deit3() -> Trained:
    return _timm("deit3_small_patch16_224", **SMALL)


def dinov2() -> Trained:
    return _timm("vit_small_patch14_reg4_dinov2", img_size=224, **SMALL)


def dinov3() -> Trained:
    return _timm("vit_small_patch16_dinov3", 256, **SMALL)


def siglip() -> Trained:
    return _timm("vit_base_patch32_siglip_256", 256, **SMALL)


def clip() -> Trained:
    return _timm("vit_base_patch32_clip_224", **SMALL)


def beit() -> Trained:
    return _timm("beit_base_patch16_224", **SMALL)


def aimv2() -> Trained:
    return _timm("aimv2_large_patch14_224", **SMALL)


def sam() -> Trained:
    return _timm("samvit_base_patch16_224", **SMALL)


def swin() -> Trained:
    return _timm("swin_tiny_patch4_window7_224", embed_dim=48, depths=(2, 2, 2, 2))


def swin_v2() -> Trained:
    return _timm("swinv2_tiny_window8_256", 256, embed_dim=48, depths=(2, 2, 2, 2))


def hiera() -> Trained:
    return _timm("hiera_tiny_224", embed_dim=48, stages=(1, 2, 3, 2))


def mixer() -> Trained:
    kind = timm.imported().models.mlp_mixer.MlpMixer
    return Trained(_seeded(kind, patch_size=32, embed_dim=WIDTH, num_blocks=DEPTH), 224)


def mvit_v2() -> Trained:
    """Ten classes: its later blocks are not shown, so that connections lead through all of them."""
    models = timm.imported().models.mvitv2
    sizes = models.MultiScaleVitCfg(depths=(1, 1, 1, 1), embed_dim=WIDTH // 2)
    return Trained(_seeded(models.MultiScaleVit, cfg=sizes, img_size=(224, 224), num_classes=10), 224)
