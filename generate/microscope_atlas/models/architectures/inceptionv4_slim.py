"""Inception-v4 as TF-slim trained it: Microscope's inceptionv4_slim.

Szegedy et al. 2016, https://arxiv.org/abs/1602.07261. Original code:
https://github.com/tensorflow/models/blob/master/research/slim/nets/inception_v4.py
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

INCEPTION_A: tuple[Branch, ...] = (
    (Conv("Conv2d_0a_1x1", 96),),
    (Conv("Conv2d_0a_1x1", 64), Conv("Conv2d_0b_3x3", 96)),
    (Conv("Conv2d_0a_1x1", 64), Conv("Conv2d_0b_3x3", 96), Conv("Conv2d_0c_3x3", 96)),
    (AvgPool("AvgPool_0a_3x3"), Conv("Conv2d_0b_1x1", 96)),
)
INCEPTION_B: tuple[Branch, ...] = (
    (Conv("Conv2d_0a_1x1", 384),),
    (Conv("Conv2d_0a_1x1", 192), Conv("Conv2d_0b_1x7", 224), Conv("Conv2d_0c_7x1", 256)),
    (
        Conv("Conv2d_0a_1x1", 192),
        Conv("Conv2d_0b_7x1", 192),
        Conv("Conv2d_0c_1x7", 224),
        Conv("Conv2d_0d_7x1", 224),
        Conv("Conv2d_0e_1x7", 256),
    ),
    (AvgPool("AvgPool_0a_3x3"), Conv("Conv2d_0b_1x1", 128)),
)
INCEPTION_C: tuple[Branch, ...] = (
    (Conv("Conv2d_0a_1x1", 256),),
    (Conv("Conv2d_0a_1x1", 384), (Conv("Conv2d_0b_1x3", 256), Conv("Conv2d_0c_3x1", 256))),
    (
        Conv("Conv2d_0a_1x1", 384),
        Conv("Conv2d_0b_3x1", 448),
        Conv("Conv2d_0c_1x3", 512),
        (Conv("Conv2d_0d_1x3", 256), Conv("Conv2d_0e_3x1", 256)),
    ),
    (AvgPool("AvgPool_0a_3x3"), Conv("Conv2d_0b_1x1", 256)),
)

STEM = (
    Conv("Conv2d_1a_3x3", 32, stride=2, padded=False),
    Conv("Conv2d_2a_3x3", 32, padded=False),
    Conv("Conv2d_2b_3x3", 64),
)
MODULES: dict[str, tuple[Branch, ...]] = {
    "Mixed_3a": (
        (MaxPool("MaxPool_0a_3x3"),),
        (Conv("Conv2d_0a_3x3", 96, stride=2, padded=False),),
    ),
    "Mixed_4a": (
        (Conv("Conv2d_0a_1x1", 64), Conv("Conv2d_1a_3x3", 96, padded=False)),
        (
            Conv("Conv2d_0a_1x1", 64),
            Conv("Conv2d_0b_1x7", 64),
            Conv("Conv2d_0c_7x1", 64),
            Conv("Conv2d_1a_3x3", 96, padded=False),
        ),
    ),
    "Mixed_5a": (
        (Conv("Conv2d_1a_3x3", 192, stride=2, padded=False),),
        (MaxPool("MaxPool_1a_3x3"),),
    ),
    **{f"Mixed_5{letter}": INCEPTION_A for letter in "bcde"},
    "Mixed_6a": (
        (Conv("Conv2d_1a_3x3", 384, stride=2, padded=False),),
        (
            Conv("Conv2d_0a_1x1", 192),
            Conv("Conv2d_0b_3x3", 224),
            Conv("Conv2d_1a_3x3", 256, stride=2, padded=False),
        ),
        (MaxPool("MaxPool_1a_3x3"),),
    ),
    **{f"Mixed_6{letter}": INCEPTION_B for letter in "bcdefgh"},
    "Mixed_7a": (
        (Conv("Conv2d_0a_1x1", 192), Conv("Conv2d_1a_3x3", 192, stride=2, padded=False)),
        (
            Conv("Conv2d_0a_1x1", 256),
            Conv("Conv2d_0b_1x7", 256),
            Conv("Conv2d_0c_7x1", 320),
            Conv("Conv2d_1a_3x3", 320, stride=2, padded=False),
        ),
        (MaxPool("MaxPool_1a_3x3"),),
    ),
    **{f"Mixed_7{letter}": INCEPTION_C for letter in "bcd"},
}


def build() -> Graph:
    g = Graph()
    x = g.add("input", Preprocess(mean=(127.5, 127.5, 127.5), std=127.5))
    x = slim.stem(g, "InceptionV4", STEM, x)
    for name, branches in MODULES.items():
        x = slim.module(g, "InceptionV4", name, branches, x)
    x = g.add("InceptionV4/Logits/AvgPool_1a", GlobalAveragePool(), x)
    x = g.add("InceptionV4/Logits/Logits", nn.Linear(1536, slim.CLASSES), x)
    g.add("Logits", nn.Identity(), x)
    return g


A = ("branch0", "branch1.0", "branch1.1", "branch2.0", "branch2.1", "branch2.2", "branch3.1")
B = ("branch0", *(f"branch1.{n}" for n in range(3)), *(f"branch2.{n}" for n in range(5)), "branch3.1")
C = (
    *("branch0", "branch1_0", "branch1_1a", "branch1_1b"),
    *("branch2_0", "branch2_1", "branch2_2", "branch2_3a", "branch2_3b", "branch3.1"),
)
# timm's names of a module's convolutions, in the order of ours
TIMM: dict[str, tuple[str, ...]] = {
    "Mixed_3a": ("conv",),
    "Mixed_4a": ("branch0.0", "branch0.1", *(f"branch1.{n}" for n in range(4))),
    "Mixed_5a": ("conv",),
    **{f"Mixed_5{letter}": A for letter in "bcde"},
    "Mixed_6a": ("branch0", "branch1.0", "branch1.1", "branch1.2"),
    **{f"Mixed_6{letter}": B for letter in "bcdefgh"},
    "Mixed_7a": ("branch0.0", "branch0.1", *(f"branch1.{n}" for n in range(4))),
    **{f"Mixed_7{letter}": C for letter in "bcd"},
}


def read_timm(path: Path) -> dict[str, Tensor]:
    """The tensors of timm's inception_v4 under the graph's names: it numbers stem and modules in one row."""
    names = {step.scope: f"features.{number}" for number, step in enumerate(STEM)}
    for number, (module, branches) in enumerate(MODULES.items(), len(STEM)):
        own = [f"{module}/{scope}" for scope in slim.scopes(branches)]
        names |= zip(own, (f"features.{number}.{each}" for each in TIMM[module]), strict=True)
    return slim.read_timm(path, names, "InceptionV4", "InceptionV4/Logits/Logits", "last_linear")


LEGACY_OPS = {
    **{step.scope: slim.legacy_op(f"InceptionV4/InceptionV4/{step.scope}/Relu") for step in STEM},
    **{name: slim.legacy_op(f"InceptionV4/InceptionV4/{name}/concat") for name in MODULES},
    "Logits": slim.legacy_op("InceptionV4/Logits/Predictions"),  # its softmax: the same units
}

INCEPTIONV4_SLIM = Organism(
    name="inceptionv4_slim",
    title="Inception-v4 (TF-slim)",
    paper="https://arxiv.org/abs/1602.07261",
    year=2016,
    dataset="ImageNet",
    input_size=299,
    build=build,
    legacy_ops=LEGACY_OPS,
    sources=(
        Source(
            where="https://storage.googleapis.com/modelzoo/vision/slim_models/InceptionV4.pb",
            read=slim.read_frozen_graph,
            forms=(Form.GRAPH,),
            license="Apache-2.0",
        ),
        Source(
            where="http://download.tensorflow.org/models/inception_v4_2016_09_09.tar.gz",
            read=slim.read_published_checkpoint,
            forms=(Form.CHECKPOINT,),
            license="Apache-2.0",
        ),
        Source(
            where="hub:timm/inception_v4.tf_in1k/model.safetensors",
            read=read_timm,
            forms=(Form.SAFETENSORS, Form.STATE_DICT),
            license="Apache-2.0",
            lacks=slim.BACKGROUND,
        ),
    ),
    name_classes=imagenet_behind_background,
)
