"""GoogLeNet as Google trained it and released with a TensorFlow tutorial (inception5h): Microscope's inceptionv1.

Szegedy et al. 2014, https://arxiv.org/abs/1409.4842, with the two auxiliary heads; 4a has four channels less than in
the paper, and 5a a 5x5 bottleneck of 48 for 32. Node names are the GraphDef's, with two liberties: a module's four
branches are joined before they are rectified, not after, so its branches `mixed4c_5x5` have negative values and its
pre-activation is one node `mixed4c_pre_relu`; and the layers softmax0, softmax1, softmax2 are the logits that the
softmax reads.
"""

from pathlib import Path

from torch import Tensor, nn

from microscope_atlas.atlas.organisms import Part
from microscope_atlas.models.formats.form import Form
from microscope_atlas.models.formats.graphdef import dense, kernel, read_graphdef
from microscope_atlas.models.formats.state_dict import read_tensors
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.ops import Concat, LocalResponseNorm, Preprocess, SameConv2d, SameMaxPool2d
from microscope_atlas.models.organism import UNSTATED, Organism, Source

# module: input, 1x1, 3x3 bottleneck, 3x3, 5x5 bottleneck, 5x5, pool reduce
MODULES = {
    "mixed3a": (192, 64, 96, 128, 16, 32, 32),
    "mixed3b": (256, 128, 128, 192, 32, 96, 64),
    "mixed4a": (480, 192, 96, 204, 16, 48, 64),
    "mixed4b": (508, 160, 112, 224, 24, 64, 64),
    "mixed4c": (512, 128, 128, 256, 24, 64, 64),
    "mixed4d": (512, 112, 144, 288, 32, 64, 64),
    "mixed4e": (528, 256, 160, 320, 32, 128, 128),
    "mixed5a": (832, 256, 160, 320, 48, 128, 128),
    "mixed5b": (832, 384, 192, 384, 48, 128, 128),
}
POOLED = {"mixed3b": "maxpool4", "mixed4e": "maxpool10"}  # modules that a pool follows
CLASSES = 1008  # the thousand of ImageNet, and eight that are not used
MEAN = (117.0, 117.0, 117.0)
HEAD_MAP = 4  # px on a side of a head's bottleneck at the input size


def build() -> Graph:
    g = Graph()
    x = g.add("input", Preprocess(MEAN))
    x = _conv(g, "conv2d0", x, 3, 64, size=7, stride=2)
    x = g.add("maxpool0", SameMaxPool2d(3, 2), x)
    x = g.add("localresponsenorm0", _norm(), x)
    x = _conv(g, "conv2d1", x, 64, 64)
    x = _conv(g, "conv2d2", x, 64, 192, size=3)
    x = g.add("localresponsenorm1", _norm(), x)
    x = g.add("maxpool1", SameMaxPool2d(3, 2), x)
    for name, widths in MODULES.items():
        x = _inception(g, name, x, *widths)
        if name in POOLED:
            x = g.add(POOLED[name], SameMaxPool2d(3, 2), x)
    x = g.add("avgpool0", nn.AvgPool2d(7, 1), x)
    x = g.add("avgpool0/reshape", nn.Flatten(), x)
    _head(g, 0, "mixed4a", 508)
    _head(g, 1, "mixed4d", 528)
    _logits(g, "softmax2", x)
    return g


def _norm() -> LocalResponseNorm:
    """TensorFlow's depth_radius 5, bias 2, alpha 1e-4, beta 0.5: it does not divide alpha by the window."""
    return LocalResponseNorm(11, alpha=11e-4, beta=0.5, k=2.0)


def _conv(g: Graph, name: str, x: str, width: int, out: int, size: int = 1, stride: int = 1) -> str:
    return g.add(name, nn.ReLU(), g.add(f"{name}_pre_relu", _convolution(width, out, size, stride), x))


def _convolution(width: int, out: int, size: int, stride: int = 1) -> nn.Conv2d:
    """With SAME padding, which at stride 1 is the same on all sides, whatever the input's size."""
    if stride == 1:
        return nn.Conv2d(width, out, size, padding=size // 2)
    return SameConv2d(width, out, size, stride)


def _inception(
    g: Graph, name: str, x: str, width: int, one: int, three_in: int, three: int, five_in: int, five: int, pool: int
) -> str:
    branches = [g.add(f"{name}_1x1", _convolution(width, one, 1), x)]
    for size, narrow, wide in ((3, three_in, three), (5, five_in, five)):
        bottleneck = _conv(g, f"{name}_{size}x{size}_bottleneck", x, width, narrow)
        branches.append(g.add(f"{name}_{size}x{size}", _convolution(narrow, wide, size), bottleneck))
    pooled = g.add(f"{name}_pool", nn.MaxPool2d(3, 1, padding=1), x)
    branches.append(g.add(f"{name}_pool_reduce", _convolution(width, pool, 1), pooled))
    return g.add(name, nn.ReLU(), g.add(f"{name}_pre_relu", Concat(), *branches))


def _head(g: Graph, index: int, x: str, width: int) -> None:
    """Auxiliary classifier: its own loss brought gradients to the middle of the network during training."""
    x = g.add(f"head{index}_pool", nn.AvgPool2d(5, 3), x)
    x = _conv(g, f"head{index}_bottleneck", x, width, 128)
    x = g.add(f"head{index}_bottleneck/reshape", nn.Flatten(), x)
    x = g.add(f"nn{index}_pre_relu", nn.Linear(128 * HEAD_MAP * HEAD_MAP, 1024), x)
    x = g.add(f"nn{index}", nn.ReLU(), x)
    _logits(g, f"softmax{index}", x)


def _logits(g: Graph, name: str, x: str) -> None:
    g.add(name, nn.Identity(), g.add(f"{name}_pre_activation", nn.Linear(1024, CLASSES), x))


def _weight_nodes() -> dict[str, str]:
    """The stem of a constant's name, as in `conv2d0_w` -> the node it belongs to."""
    nodes = {f"conv2d{i}": f"conv2d{i}_pre_relu" for i in range(3)}
    for name in MODULES:
        nodes |= {f"{name}_{branch}": f"{name}_{branch}" for branch in BRANCHES}
        nodes |= {f"{name}_{k}_bottleneck": f"{name}_{k}_bottleneck_pre_relu" for k in ("3x3", "5x5")}
    for i in range(2):
        nodes |= {f"head{i}_bottleneck": f"head{i}_bottleneck_pre_relu", f"nn{i}": f"nn{i}_pre_relu"}
    return nodes | {f"softmax{i}": f"softmax{i}_pre_activation" for i in range(3)}


def read_inception5h(path: Path) -> dict[str, Tensor]:
    """The GraphDef's constants under the graph's names: `mixed3a_1x1_w` is `mixed3a_1x1.weight`, `..._b` its bias."""
    nodes, tensors = _weight_nodes(), {}
    for name, value in read_graphdef(path).items():
        stem, _, variable = name.rpartition("_")
        node = nodes.get(stem)
        if node and variable == "b":
            tensors[f"{node}.bias"] = value
        elif node and variable == "w":
            map_size = HEAD_MAP if stem in ("nn0", "nn1") else 1
            tensors[f"{node}.weight"] = kernel(value) if value.dim() == 4 else dense(value, map_size)
    return tensors


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of inception5h.pth under the graph's names, without their `_pre_relu_conv`."""
    nodes, tensors = _weight_nodes(), {}
    for name, value in read_tensors(path).items():
        module, _, tensor = name.rpartition(".")
        stem = module.removesuffix("_pre_relu_conv").removesuffix("_pre_activation_matmul")
        if node := nodes.get(stem):
            tensors[f"{node}.{tensor}"] = value
    return tensors


BRANCHES = ("1x1", "3x3", "5x5", "pool_reduce")
BOTTLENECKS = ("3x3_bottleneck", "5x5_bottleneck")  # within a module: Microscope showed them too
INSIDE = frozenset(f"{name}_{bottleneck}" for name in MODULES for bottleneck in BOTTLENECKS)

LAYERS = (
    *("conv2d0", "conv2d1", "conv2d2"),
    *(each for name in MODULES for each in (*(f"{name}_{bottleneck}" for bottleneck in BOTTLENECKS), name)),
    *("head0_bottleneck", "nn0", "softmax0", "head1_bottleneck", "nn1", "softmax1", "softmax2"),
)


def _branch_ops() -> dict[str, Part]:
    """A branch's name in Microscope's links -> its units in the module."""
    parts = {}
    for name, (_, one, _, three, _, five, pool) in MODULES.items():
        start = 0
        for branch, width in zip(BRANCHES, (one, three, five, pool), strict=True):
            parts[f"{name}_{branch}_0"] = Part(name, start, start + width)
            start += width
    return parts


INCEPTIONV1 = Organism(
    name="inceptionv1",
    title="InceptionV1 (GoogLeNet, TensorFlow)",
    paper="https://arxiv.org/abs/1409.4842",
    year=2014,
    dataset="ImageNet",
    input_size=224,
    build=build,
    legacy_ops={name: f"{name}_0" for name in LAYERS},
    named_only=INSIDE,
    sources=(
        Source(
            where="https://storage.googleapis.com/download.tensorflow.org/models/inception5h.zip",
            read=read_inception5h,
            forms=(Form.GRAPH,),
            license="Apache-2.0",
        ),
        Source(
            where="https://storage.googleapis.com/modelzoo/vision/other_models/InceptionV1.pb",
            read=read_inception5h,
            forms=(Form.GRAPH,),
            license="Apache-2.0",
        ),
        Source(
            where="https://github.com/ProGamerGov/pytorch-old-tensorflow-models/raw/master/inception5h.pth",
            read=read_state_dict,
            forms=(Form.STATE_DICT, Form.SAFETENSORS),
            license=UNSTATED,
            lacks="inception5h.pth, which Lucent reads, lacks the auxiliary heads",
        ),
    ),
    classes_in="imagenet_comp_graph_label_strings.txt",
    spare_classes=8,
    legacy_parts=_branch_ops(),
)
