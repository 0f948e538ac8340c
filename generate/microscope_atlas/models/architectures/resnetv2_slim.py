"""ResNet-50 v2 as TF-slim trained it: Microscope's resnetv2_50_slim.

He et al. 2016, https://arxiv.org/abs/1603.05027. Original code:
https://github.com/tensorflow/models/blob/master/research/slim/nets/resnet_v2.py

A unit normalises and rectifies its input before the convolutions, adds a shortcut behind them, and rectifies nothing
after: its layer has negative values too. Batch norms in front of convolutions stay; only those behind can be folded.

Unlike in other ResNets the last unit of a block takes the stride, not the first of the next. Strided convolutions pad
by half the kernel on all sides, whereas the pool behind the first convolution pads as TensorFlow's SAME does.
"""

from torch import nn

from microscope_atlas.atlas.classes import imagenet_behind_background
from microscope_atlas.models.architectures import slim
from microscope_atlas.models.formats.form import Form
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.ops import Add, GlobalAveragePool, Preprocess, SameMaxPool2d
from microscope_atlas.models.organism import Organism, Source

# block: channels of its inner convolutions, units, stride of the last; it gives four times the channels
BLOCKS = {
    "block1": (64, 3, 2),
    "block2": (128, 4, 2),
    "block3": (256, 6, 2),
    "block4": (512, 3, 1),
}
INSIDE = ("conv1", "conv2")  # a unit's convolutions that are rectified
ROOT = "resnet_v2_50"
EPSILON = 1e-5  # of the batch norms; the Inceptions have 1e-3


def build() -> Graph:
    g = Graph()
    x = g.add("input", Preprocess(mean=(127.5, 127.5, 127.5), std=127.5))
    x = g.add(f"{ROOT}/conv1", nn.Conv2d(3, 64, 7, stride=2, padding=3), x)
    x = g.add(f"{ROOT}/pool1", SameMaxPool2d(3, 2), x)
    for block, (width, units, stride) in BLOCKS.items():
        for unit in range(1, units + 1):
            x = _unit(g, block, unit, x, width, stride if unit == units else 1)
    x = _norm(g, f"{ROOT}/postnorm", x)
    x = g.add("postnorm", nn.ReLU(), x)
    x = g.add(f"{ROOT}/pool5", GlobalAveragePool(), x)
    x = g.add(f"{ROOT}/logits", nn.Linear(2048, slim.CLASSES), x)
    g.add("logits", nn.Identity(), x)
    return g


def _unit(g: Graph, block: str, unit: int, x: str, width: int, stride: int) -> str:
    """Bottleneck: normalise, rectify; narrow by 1x1, convolve 3x3, widen by 1x1; add the input, or its projection."""
    root, layer = f"{ROOT}/{block}/unit_{unit}/bottleneck_v2", f"{block}_unit_{unit}"
    inputs, out = slim.channels(g, x), 4 * width
    normed = _norm(g, f"{root}/preact", x)
    preact = g.add(f"{layer}_preact", nn.ReLU(), normed)
    if inputs != out:
        shortcut = g.add(f"{root}/shortcut", nn.Conv2d(inputs, out, 1, stride), preact)
    else:
        shortcut = g.add(f"{root}/shortcut", nn.MaxPool2d(1, stride), x) if stride > 1 else x
    residual = g.add(f"{root}/conv1", nn.Conv2d(inputs, width, 1, bias=False), preact)
    residual = g.add(f"{layer}_conv1", nn.ReLU(), _norm(g, f"{root}/conv1/BatchNorm", residual))
    residual = g.add(f"{root}/conv2", nn.Conv2d(width, width, 3, stride, padding=1, bias=False), residual)
    residual = g.add(f"{layer}_conv2", nn.ReLU(), _norm(g, f"{root}/conv2/BatchNorm", residual))
    residual = g.add(f"{root}/conv3", nn.Conv2d(width, out, 1), residual)
    return g.add(layer, Add(), shortcut, residual)


def _norm(g: Graph, name: str, x: str) -> str:
    return g.add(name, nn.BatchNorm2d(slim.channels(g, x), eps=EPSILON), x)


def _legacy_ops() -> dict[str, str | None]:
    """A block shows what its first unit's convolutions read, and every unit's convolutions and sum."""
    ops: dict[str, str | None] = {}
    for block, (_, units, _) in BLOCKS.items():
        ops[f"{block}_unit_1_preact"] = slim.legacy_op(f"{ROOT}/{block}/unit_1/bottleneck_v2/preact/Relu")
        for unit in range(1, units + 1):
            for conv in INSIDE:
                op = slim.legacy_op(f"{ROOT}/{block}/unit_{unit}/bottleneck_v2/{conv}/Relu")
                ops[f"{block}_unit_{unit}_{conv}"] = op
            ops[f"{block}_unit_{unit}"] = slim.legacy_op(f"{ROOT}/{block}/unit_{unit}/bottleneck_v2/add")
    ops["postnorm"] = slim.legacy_op(f"{ROOT}/postnorm/Relu")
    ops["logits"] = slim.legacy_op(f"{ROOT}/predictions/Softmax")  # their softmax: the same units
    return ops


def _named_only() -> frozenset[str]:
    units = ((block, unit) for block, (_, count, _) in BLOCKS.items() for unit in range(1, count + 1))
    return frozenset(f"{block}_unit_{unit}_{conv}" for block, unit in units for conv in INSIDE)


RESNETV2_50_SLIM = Organism(
    name="resnetv2_50_slim",
    title="ResNet-50 v2 (TF-slim)",
    paper="https://arxiv.org/abs/1603.05027",
    year=2016,
    dataset="ImageNet",
    input_size=224,
    build=build,
    legacy_ops=_legacy_ops(),
    named_only=_named_only(),
    sources=(
        Source(
            where="https://storage.googleapis.com/modelzoo/vision/slim_models/ResnetV2_50.pb",
            read=slim.read_frozen_graph,
            forms=(Form.GRAPH,),
            license="Apache-2.0",
        ),
        Source(
            where="http://download.tensorflow.org/models/resnet_v2_50_2017_04_14.tar.gz",
            read=slim.read_published_checkpoint,
            forms=(Form.CHECKPOINT,),
            license="Apache-2.0",
        ),
    ),
    name_classes=imagenet_behind_background,
)
