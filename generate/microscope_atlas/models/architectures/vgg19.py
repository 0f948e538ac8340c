"""VGG19 as its authors trained it in Caffe: Microscope's vgg19_caffe.

Simonyan and Zisserman 2014, https://arxiv.org/abs/1409.1556, configuration E. Nodes have the prototxt's names; there a
layer is rectified in place, here what comes before its rectifier is a node `conv1_1_pre_relu`.
"""

from pathlib import Path

from torch import Tensor, nn

from microscope_atlas.atlas.classes import imagenet
from microscope_atlas.atlas.organisms import Part
from microscope_atlas.models.architectures.caffe import IMAGENET_MEAN_BGR, read_caffe, read_caffe_tensorflow
from microscope_atlas.models.formats.form import Form
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.ops import Preprocess
from microscope_atlas.models.organism import Organism, Source

STAGES = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))  # convolutions, their channels; a pool follows each stage
CONVOLUTIONS = tuple(f"conv{stage}_{i + 1}" for stage, (n, _) in enumerate(STAGES, 1) for i in range(n))
LAYERS = (*CONVOLUTIONS, "fc6", "fc7", "fc8")
NODES = {name: f"{name}_pre_relu" for name in LAYERS if name != "fc8"}  # layer -> the node with its weights
MAP_SIZES = {"fc6": 7}  # px on a side of the map that a dense layer reads flattened


def build() -> Graph:
    g = Graph()
    x = g.add("data", Preprocess(IMAGENET_MEAN_BGR, bgr=True))
    width = 3
    for stage, (convolutions, out) in enumerate(STAGES, 1):
        for i in range(convolutions):
            x = _rectified(g, f"conv{stage}_{i + 1}", nn.Conv2d(width, out, 3, padding=1), x)
            width = out
        x = g.add(f"pool{stage}", nn.MaxPool2d(2, 2, ceil_mode=True), x)
    x = g.add("pool5/flat", nn.Flatten(), x)
    x = _rectified(g, "fc6", nn.Linear(512 * 7 * 7, 4096), x)
    x = _rectified(g, "fc7", nn.Linear(4096, 4096), x)
    g.add("fc8", nn.Linear(4096, 1000), x)
    return g


def _rectified(g: Graph, name: str, op: nn.Module, x: str) -> str:
    return g.add(name, nn.ReLU(), g.add(NODES[name], op, x))


def read_caffemodel(path: Path) -> dict[str, Tensor]:
    """A caffemodel's blobs under the graph's names."""
    return read_caffe(path, NODES)


def read_graphdef(path: Path) -> dict[str, Tensor]:
    """The constants of caffe-tensorflow's port under the graph's names."""
    return read_caffe_tensorflow(path, NODES, MAP_SIZES)


VGG19_CAFFE = Organism(
    name="vgg19_caffe",
    title="VGG19 (Oxford, Caffe)",
    paper="https://arxiv.org/abs/1409.1556",
    year=2014,
    dataset="ImageNet",
    input_size=224,
    build=build,
    legacy_ops={name: f"{name}_{name}_0" for name in LAYERS},
    sources=(
        Source(
            where="https://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/VGG_ILSVRC_19_layers.caffemodel",
            read=read_caffemodel,
            forms=(Form.CAFFEMODEL,),
            license="CC BY 4.0",
        ),
        Source(
            where="https://storage.googleapis.com/modelzoo/vision/caffe_models/VGG19.pb",
            read=read_graphdef,
            forms=(Form.GRAPH, Form.NPY_DICTIONARY),
            license="CC BY 4.0",
        ),
    ),
    legacy_parts={"prob_0": Part("fc8", 0, 1000)},
    name_classes=imagenet,
)
