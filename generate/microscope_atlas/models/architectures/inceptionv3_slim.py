"""Inception-v3 as TF-slim trained it: Microscope's inceptionv3_slim.

Szegedy et al. 2015, https://arxiv.org/abs/1512.00567. Original code:
https://github.com/tensorflow/models/blob/master/research/slim/nets/inception_v3.py; the scopes' oddities are its own.
"""

from pathlib import Path

from torch import Tensor, nn

from microscope_atlas.atlas.classes import imagenet_behind_background
from microscope_atlas.models.architectures import slim
from microscope_atlas.models.architectures.slim import AvgPool, Branch, Conv, MaxPool
from microscope_atlas.models.formats.form import Form
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.ops import GlobalAveragePool, Preprocess
from microscope_atlas.models.organism import Organism, Source


def _mixed_5(pool: int, five: tuple[str, str] = ("Conv2d_0a_1x1", "Conv2d_0b_5x5")) -> tuple[Branch, ...]:
    return (
        (Conv("Conv2d_0a_1x1", 64),),
        (Conv(five[0], 48), Conv(five[1], 64)),
        (Conv("Conv2d_0a_1x1", 64), Conv("Conv2d_0b_3x3", 96), Conv("Conv2d_0c_3x3", 96)),
        (AvgPool("AvgPool_0a_3x3"), Conv("Conv2d_0b_1x1", pool)),
    )


def _mixed_6(narrow: int) -> tuple[Branch, ...]:
    return (
        (Conv("Conv2d_0a_1x1", 192),),
        (Conv("Conv2d_0a_1x1", narrow), Conv("Conv2d_0b_1x7", narrow), Conv("Conv2d_0c_7x1", 192)),
        (
            Conv("Conv2d_0a_1x1", narrow),
            Conv("Conv2d_0b_7x1", narrow),
            Conv("Conv2d_0c_1x7", narrow),
            Conv("Conv2d_0d_7x1", narrow),
            Conv("Conv2d_0e_1x7", 192),
        ),
        (AvgPool("AvgPool_0a_3x3"), Conv("Conv2d_0b_1x1", 192)),
    )


def _mixed_7(three: str) -> tuple[Branch, ...]:
    return (
        (Conv("Conv2d_0a_1x1", 320),),
        (Conv("Conv2d_0a_1x1", 384), (Conv("Conv2d_0b_1x3", 384), Conv(three, 384))),
        (
            Conv("Conv2d_0a_1x1", 448),
            Conv("Conv2d_0b_3x3", 384),
            (Conv("Conv2d_0c_1x3", 384), Conv("Conv2d_0d_3x1", 384)),
        ),
        (AvgPool("AvgPool_0a_3x3"), Conv("Conv2d_0b_1x1", 192)),
    )


MODULES: dict[str, tuple[Branch, ...]] = {
    "Mixed_5b": _mixed_5(pool=32),
    "Mixed_5c": _mixed_5(pool=64, five=("Conv2d_0b_1x1", "Conv_1_0c_5x5")),
    "Mixed_5d": _mixed_5(pool=64),
    "Mixed_6a": (
        (Conv("Conv2d_1a_1x1", 384, kernel=(3, 3), stride=2, padded=False),),
        (
            Conv("Conv2d_0a_1x1", 64),
            Conv("Conv2d_0b_3x3", 96),
            Conv("Conv2d_1a_1x1", 96, kernel=(3, 3), stride=2, padded=False),
        ),
        (MaxPool("MaxPool_1a_3x3"),),
    ),
    "Mixed_6b": _mixed_6(128),
    "Mixed_6c": _mixed_6(160),
    "Mixed_6d": _mixed_6(160),
    "Mixed_6e": _mixed_6(192),
    "Mixed_7a": (
        (Conv("Conv2d_0a_1x1", 192), Conv("Conv2d_1a_3x3", 320, stride=2, padded=False)),
        (
            Conv("Conv2d_0a_1x1", 192),
            Conv("Conv2d_0b_1x7", 192),
            Conv("Conv2d_0c_7x1", 192),
            Conv("Conv2d_1a_3x3", 192, stride=2, padded=False),
        ),
        (MaxPool("MaxPool_1a_3x3"),),
    ),
    "Mixed_7b": _mixed_7("Conv2d_0b_3x1"),
    "Mixed_7c": _mixed_7("Conv2d_0c_3x1"),
}

STEM = (
    Conv("Conv2d_1a_3x3", 32, stride=2, padded=False),
    Conv("Conv2d_2a_3x3", 32, padded=False),
    Conv("Conv2d_2b_3x3", 64),
    MaxPool("MaxPool_3a_3x3"),
    Conv("Conv2d_3b_1x1", 80),
    Conv("Conv2d_4a_3x3", 192, padded=False),
    MaxPool("MaxPool_5a_3x3"),
)


def build() -> Graph:
    g = Graph()
    x = g.add("input", Preprocess(mean=(127.5, 127.5, 127.5), std=127.5))
    x = slim.stem(g, "InceptionV3", STEM, x)
    for name, branches in MODULES.items():
        x = slim.module(g, "InceptionV3", name, branches, x)
    x = g.add("InceptionV3/Logits/AvgPool_1a_8x8", GlobalAveragePool(), x)
    x = g.add("InceptionV3/Logits/Conv2d_1c_1x1", nn.Linear(2048, slim.CLASSES), x)
    g.add("Logits", nn.Identity(), x)
    return g


# timm's names of a module's convolutions, in the order of ours
TIMM: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("Mixed_5b", "Mixed_5c", "Mixed_5d"),
        ("branch1x1", "branch5x5_1", "branch5x5_2", *(f"branch3x3dbl_{n}" for n in (1, 2, 3)), "branch_pool"),
    ),
    "Mixed_6a": ("branch3x3", *(f"branch3x3dbl_{n}" for n in (1, 2, 3))),
    **dict.fromkeys(
        ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
        (
            "branch1x1",
            *(f"branch7x7_{n}" for n in (1, 2, 3)),
            *(f"branch7x7dbl_{n}" for n in range(1, 6)),
            "branch_pool",
        ),
    ),
    "Mixed_7a": ("branch3x3_1", "branch3x3_2", *(f"branch7x7x3_{n}" for n in (1, 2, 3, 4))),
    **dict.fromkeys(
        ("Mixed_7b", "Mixed_7c"),
        (
            *("branch1x1", "branch3x3_1", "branch3x3_2a", "branch3x3_2b"),
            *("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3a", "branch3x3dbl_3b", "branch_pool"),
        ),
    ),
}


def read_timm(path: Path) -> dict[str, Tensor]:
    """The tensors of timm's inception_v3 under the graph's names."""
    names = {step.scope: step.scope for step in STEM if isinstance(step, Conv)}
    for module, branches in MODULES.items():
        own = [f"{module}/{scope}" for scope in slim.scopes(branches)]
        names |= zip(own, (f"{module}.{each}" for each in TIMM[module]), strict=True)
    return slim.read_timm(path, names, "InceptionV3", "InceptionV3/Logits/Conv2d_1c_1x1", "fc")


LEGACY_OPS = {
    **{s.scope: slim.legacy_op(f"InceptionV3/InceptionV3/{s.scope}/Relu") for s in STEM if isinstance(s, Conv)},
    **{name: slim.legacy_op(f"InceptionV3/InceptionV3/{name}/concat") for name in MODULES},
    "Logits": slim.legacy_op("InceptionV3/Predictions/Softmax"),  # its softmax: the same units
}

INCEPTIONV3_SLIM = Organism(
    name="inceptionv3_slim",
    title="Inception-v3 (TF-slim)",
    paper="https://arxiv.org/abs/1512.00567",
    year=2015,
    dataset="ImageNet",
    input_size=299,
    build=build,
    legacy_ops=LEGACY_OPS,
    sources=(
        Source(
            where="https://storage.googleapis.com/modelzoo/vision/slim_models/InceptionV3.pb",
            read=slim.read_frozen_graph,
            forms=(Form.GRAPH,),
            license="Apache-2.0",
        ),
        Source(
            where="http://download.tensorflow.org/models/inception_v3_2016_08_28.tar.gz",
            read=slim.read_published_checkpoint,
            forms=(Form.CHECKPOINT,),
            license="Apache-2.0",
        ),
        Source(
            where="hub:timm/inception_v3.tf_in1k/model.safetensors",
            read=read_timm,
            forms=(Form.SAFETENSORS, Form.STATE_DICT),
            license="Apache-2.0",
            lacks=slim.BACKGROUND,
        ),
    ),
    name_classes=imagenet_behind_background,
)
