"""AlexNet and CaffeNet: Microscope's alexnet and alexnet_caffe_places365.

Krizhevsky et al. 2012, https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks,
in Caffe's replication, https://github.com/BVLC/caffe/tree/master/models/bvlc_alexnet. The Places365 network is
CaffeNet, which pools before it normalises: https://github.com/CSAILVision/places365. Nodes have the prototxt's names;
there a layer is rectified in place, here what comes before its rectifier is a node `conv1_pre_relu`.

Microscope ran a port (https://github.com/huanzhang12/tensorflow-alexnet-model) of the same weights with a slip: its
normalisation has alpha 1e-5 on each square where Caffe's has 1e-4 / 5. Here alpha is what the network was trained with.
"""

from functools import partial
from pathlib import Path

from torch import Tensor, nn

from microscope_atlas.atlas.classes import imagenet
from microscope_atlas.atlas.organisms import Part
from microscope_atlas.models.architectures.caffe import (
    IMAGENET_MEAN_BGR,
    PLACES365_MEAN_BGR,
    read_caffe,
    read_caffe_tensorflow,
)
from microscope_atlas.models.formats.form import Form
from microscope_atlas.models.formats.graphdef import dense, kernel, read_graphdef
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.ops import LocalResponseNorm, Preprocess
from microscope_atlas.models.organism import Organism, Source

CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4", "conv5")
LAYERS = (*CONVOLUTIONS, "fc6", "fc7", "fc8")
NODES = {name: f"{name}_pre_relu" for name in LAYERS if name != "fc8"}  # layer -> the node with its weights
MAP_SIZES = {"fc6": 6}  # px on a side of the map that a dense layer reads flattened


def build(
    classes: int = 1000,
    mean_bgr: tuple[float, float, float] = IMAGENET_MEAN_BGR,
    norm_first: bool = True,  # normalise, then pool, as AlexNet does; CaffeNet does it the other way round
) -> Graph:
    g = Graph()
    x = g.add("data", Preprocess(mean_bgr, bgr=True))
    x = _rectified(g, "conv1", nn.Conv2d(3, 96, 11, stride=4), x)
    x = _norm_and_pool(g, 1, x, norm_first)
    x = _rectified(g, "conv2", nn.Conv2d(96, 256, 5, padding=2, groups=2), x)
    x = _norm_and_pool(g, 2, x, norm_first)
    x = _rectified(g, "conv3", nn.Conv2d(256, 384, 3, padding=1), x)
    x = _rectified(g, "conv4", nn.Conv2d(384, 384, 3, padding=1, groups=2), x)
    x = _rectified(g, "conv5", nn.Conv2d(384, 256, 3, padding=1, groups=2), x)
    x = g.add("pool5", nn.MaxPool2d(3, 2, ceil_mode=True), x)
    x = g.add("pool5/flat", nn.Flatten(), x)
    x = _rectified(g, "fc6", nn.Linear(256 * 6 * 6, 4096), x)
    x = _rectified(g, "fc7", nn.Linear(4096, 4096), x)
    g.add("fc8", nn.Linear(4096, classes), x)
    return g


def _rectified(g: Graph, name: str, op: nn.Module, x: str) -> str:
    return g.add(name, nn.ReLU(), g.add(NODES[name], op, x))


def _norm_and_pool(g: Graph, stage: int, x: str, norm_first: bool) -> str:
    norm = (f"norm{stage}", LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0))
    pool = (f"pool{stage}", nn.MaxPool2d(3, 2, ceil_mode=True))
    for name, op in (norm, pool) if norm_first else (pool, norm):
        x = g.add(name, op, x)
    return x


def read_caffemodel(path: Path) -> dict[str, Tensor]:
    """A caffemodel's blobs under the graph's names."""
    return read_caffe(path, NODES)


def read_caffe_tensorflow_port(path: Path) -> dict[str, Tensor]:
    """The constants of caffe-tensorflow's port under the graph's names."""
    return read_caffe_tensorflow(path, NODES, MAP_SIZES)


def read_alexnet_graphdef(path: Path) -> dict[str, Tensor]:
    """A port's constants under the graph's names: named as by caffe-tensorflow, or `Variable`, `Variable_1`, ..."""
    tensors = read_caffe_tensorflow(path, NODES, MAP_SIZES)
    if tensors:
        return tensors
    constants = read_graphdef(path)
    names = [f"{NODES.get(layer, layer)}.{tensor}" for layer in LAYERS for tensor in ("weight", "bias")]
    for i, name in enumerate(names):
        value = constants.get(f"Variable_{i}" if i else "Variable")
        if value is not None:
            tensors[name] = kernel(value) if value.dim() == 4 else dense(value, 6 if name.startswith("fc6") else 1)
    return tensors


ALEXNET = Organism(
    name="alexnet",
    title="AlexNet (BVLC, Caffe)",
    paper="https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks",
    year=2012,
    dataset="ImageNet",
    input_size=227,
    build=build,
    legacy_ops={
        **{name: f"{name}_1_0" for name in CONVOLUTIONS},
        "fc6": "Relu_0",
        "fc7": "Relu_1_0",
        "fc8": "Softmax_0",
    },
    sources=(
        Source(
            where="http://dl.caffe.berkeleyvision.org/bvlc_alexnet.caffemodel",
            read=read_caffemodel,
            forms=(Form.CAFFEMODEL,),
            license="unrestricted use",
            sha1="9116a64c0fbe4459d18f4bb6b56d647b63920377",
        ),
        Source(
            where="https://storage.googleapis.com/modelzoo/vision/other_models/AlexNet.pb",
            read=read_alexnet_graphdef,
            forms=(Form.GRAPH,),
            license="unrestricted use",
        ),
        Source(
            where="http://www.cs.toronto.edu/~guerzhoy/tf_alexnet/bvlc_alexnet.npy",
            read=read_caffe_tensorflow_port,
            forms=(Form.NPY_DICTIONARY,),
            license="unrestricted use",
        ),
    ),
    # before their rectifiers; a convolution's two groups were operations of their own
    legacy_parts={
        "Conv2D_0": Part("conv1", 0, 96),
        "Conv2D_1_0": Part("conv2", 0, 128),
        "Conv2D_2_0": Part("conv2", 128, 256),
        "Conv2D_3_0": Part("conv3", 0, 384),
        "Conv2D_4_0": Part("conv4", 0, 192),
        "Conv2D_5_0": Part("conv4", 192, 384),
        "Conv2D_6_0": Part("conv5", 0, 128),
        "Conv2D_7_0": Part("conv5", 128, 256),
        "concat_0": Part("conv2", 0, 256),
        "concat_1_0": Part("conv4", 0, 384),
        "concat_2_0": Part("conv5", 0, 256),
    },
    name_classes=imagenet,
)

ALEXNET_CAFFE_PLACES365 = Organism(
    name="alexnet_caffe_places365",
    title="AlexNet (Places365, Caffe)",
    paper="https://doi.org/10.1109/TPAMI.2017.2723009",
    year=2017,
    dataset="Places365",
    input_size=227,
    build=partial(build, classes=365, mean_bgr=PLACES365_MEAN_BGR, norm_first=False),
    legacy_ops={name: f"{name}_{name}_0" for name in LAYERS},
    sources=(
        Source(
            where="http://places2.csail.mit.edu/models_places365/alexnet_places365.caffemodel",
            read=read_caffemodel,
            forms=(Form.CAFFEMODEL,),
            license="CC BY",
        ),
        Source(
            where="https://storage.googleapis.com/modelzoo/vision/caffe_models/AlexNet_places365.pb",
            read=read_caffe_tensorflow_port,
            forms=(Form.GRAPH, Form.NPY_DICTIONARY),
            license="CC BY",
        ),
    ),
    legacy_parts={
        # before their rectifiers; a convolution's two groups were operations of their own
        "conv1_Conv2D_0": Part("conv1", 0, 96),
        "conv2_Conv2D_0": Part("conv2", 0, 128),
        "conv2_Conv2D_1_0": Part("conv2", 128, 256),
        "conv3_Conv2D_0": Part("conv3", 0, 384),
        "conv4_Conv2D_0": Part("conv4", 0, 192),
        "conv4_Conv2D_1_0": Part("conv4", 192, 384),
        "conv5_Conv2D_0": Part("conv5", 0, 128),
        "conv5_Conv2D_1_0": Part("conv5", 128, 256),
        "conv2_concat_0": Part("conv2", 0, 256),
        "conv4_concat_0": Part("conv4", 0, 384),
        "conv5_concat_0": Part("conv5", 0, 256),
        "prob_0": Part("fc8", 0, 365),
    },
    classes_in="https://raw.githubusercontent.com/CSAILVision/places365/master/categories_places365.txt",
)
