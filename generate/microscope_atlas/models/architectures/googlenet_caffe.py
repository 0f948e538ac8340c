"""GoogLeNet as it was trained in Caffe: Microscope's inceptionv1_caffe and inceptionv1_caffe_places365.

Szegedy et al. 2014, https://arxiv.org/abs/1409.4842, trained on ImageNet by Sergio Guadarrama at BVLC:
https://github.com/BVLC/caffe/tree/master/models/bvlc_googlenet, and on Places365 by Zhou et al. 2017:
https://github.com/CSAILVision/places365. Node names are the prototxt's. A module's four branches are joined before they
are rectified, not after, which is the same and leaves its pre-activation in one place.
"""

from functools import partial
from pathlib import Path

from torch import Tensor, nn

from microscope_atlas.atlas.classes import imagenet
from microscope_atlas.atlas.organisms import Part
from microscope_atlas.models.architectures.caffe import PLACES365_MEAN_BGR, read_caffe, read_caffe_tensorflow
from microscope_atlas.models.formats.form import Form
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.ops import Concat, LocalResponseNorm, Preprocess
from microscope_atlas.models.organism import Organism, Source

# module: input, 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection (table 1 of the paper)
MODULES = {
    "inception_3a": (192, 64, 96, 128, 16, 32, 32),
    "inception_3b": (256, 128, 128, 192, 32, 96, 64),
    "inception_4a": (480, 192, 96, 208, 16, 48, 64),
    "inception_4b": (512, 160, 112, 224, 24, 64, 64),
    "inception_4c": (512, 128, 128, 256, 24, 64, 64),
    "inception_4d": (512, 112, 144, 288, 32, 64, 64),
    "inception_4e": (528, 256, 160, 320, 32, 128, 128),
    "inception_5a": (832, 256, 160, 320, 32, 128, 128),
    "inception_5b": (832, 384, 192, 384, 48, 128, 128),
}
MEAN_BGR = (104.0, 117.0, 123.0)  # what it was trained with; not the more exact 103.939, 116.779, 123.68


def build(classes: int = 1000, mean_bgr: tuple[float, float, float] = MEAN_BGR) -> Graph:
    g = Graph()
    x = g.add("data", Preprocess(mean_bgr, bgr=True))
    x = _conv(g, "conv1/7x7_s2", x, 3, 64, kernel=7, stride=2)
    x = g.add("conv1_7x7_s2", nn.ReLU(), x)
    x = g.add("pool1/3x3_s2", nn.MaxPool2d(3, 2, ceil_mode=True), x)
    x = g.add("pool1/norm1", LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0), x)
    x = _conv(g, "conv2/3x3_reduce", x, 64, 64)
    x = g.add("conv2_3x3_reduce", nn.ReLU(), x)
    x = _conv(g, "conv2/3x3", x, 64, 192, kernel=3)
    x = g.add("conv2_3x3", nn.ReLU(), x)
    x = g.add("conv2/norm2", LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0), x)
    x = g.add("pool2/3x3_s2", nn.MaxPool2d(3, 2, ceil_mode=True), x)
    for name, widths in MODULES.items():
        x = _inception(g, name, x, *widths)
        if name in ("inception_3b", "inception_4e"):
            x = g.add(f"pool{name[-2]}/3x3_s2", nn.MaxPool2d(3, 2, ceil_mode=True), x)
    x = g.add("pool5/7x7_s1", nn.AvgPool2d(7, 1), x)
    x = g.add("pool5/flat", nn.Flatten(), x)
    g.add("loss3/classifier", nn.Linear(1024, classes), x)
    g.add("loss3_classifier", nn.Identity(), "loss3/classifier")
    return g


def _conv(g: Graph, name: str, x: str, width: int, out: int, kernel: int = 1, stride: int = 1) -> str:
    return g.add(name, nn.Conv2d(width, out, kernel, stride, padding=kernel // 2), x)


def _inception(
    g: Graph, name: str, x: str, width: int, one: int, three_in: int, three: int, five_in: int, five: int, pool: int
) -> str:
    branches = [_conv(g, f"{name}/1x1", x, width, one)]
    for kernel, narrow, wide in ((3, three_in, three), (5, five_in, five)):
        reduced = _conv(g, f"{name}/{kernel}x{kernel}_reduce", x, width, narrow)
        rectified = g.add(f"{name}/relu_{kernel}x{kernel}_reduce", nn.ReLU(), reduced)
        branches.append(_conv(g, f"{name}/{kernel}x{kernel}", rectified, narrow, wide, kernel))
    pooled = g.add(f"{name}/pool", nn.MaxPool2d(3, 1, padding=1), x)
    branches.append(_conv(g, f"{name}/pool_proj", pooled, width, pool))
    joined = g.add(f"{name}/output", Concat(), *branches)
    return g.add(name, nn.ReLU(), joined)


def read_googlenet(path: Path) -> dict[str, Tensor]:
    """A caffemodel's blobs under the graph's names."""
    return read_caffe(path, {})


def read_googlenet_graphdef(path: Path) -> dict[str, Tensor]:
    """The constants of caffe-tensorflow's port under the graph's names: its scopes have `_` for `/`."""
    convolutions = [f"{module}/{branch}" for module in MODULES for branch in BRANCHES]
    names = ("conv1/7x7_s2", "conv2/3x3_reduce", "conv2/3x3", *convolutions, "loss3/classifier")
    return read_caffe_tensorflow(path, {name.replace("/", "_"): name for name in names}, {})


BRANCHES = ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj")

LEGACY_OPS = {
    "conv1_7x7_s2": "conv1_7x7_s2_conv1_7x7_s2_0",
    "conv2_3x3_reduce": "conv2_3x3_reduce_conv2_3x3_reduce_0",
    "conv2_3x3": "conv2_3x3_conv2_3x3_0",
    **{name: f"{name}_output_0" for name in MODULES},
    "loss3_classifier": "loss3_classifier_loss3_classifier_0",
}

INCEPTIONV1_CAFFE = Organism(
    name="inceptionv1_caffe",
    title="GoogLeNet (BVLC, Caffe)",
    paper="https://arxiv.org/abs/1409.4842",
    year=2014,
    dataset="ImageNet",
    input_size=224,
    build=build,
    legacy_ops=LEGACY_OPS,
    sources=(
        Source(
            where="http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel",
            read=read_googlenet,
            forms=(Form.CAFFEMODEL,),
            license="unrestricted use",
            sha1="405fc5acd08a3bb12de8ee5e23a96bec22f08204",
        ),
        Source(
            where="https://storage.googleapis.com/modelzoo/vision/caffe_models/InceptionV1.pb",
            read=read_googlenet_graphdef,
            forms=(Form.GRAPH, Form.NPY_DICTIONARY),
            license="unrestricted use",
        ),
    ),
    legacy_parts={"prob_0": Part("loss3_classifier", 0, 1000)},
    name_classes=imagenet,
)

INCEPTIONV1_CAFFE_PLACES365 = Organism(
    name="inceptionv1_caffe_places365",
    title="GoogLeNet (Places365, Caffe)",
    paper="https://doi.org/10.1109/TPAMI.2017.2723009",
    year=2017,
    dataset="Places365",
    input_size=224,
    build=partial(build, classes=365, mean_bgr=PLACES365_MEAN_BGR),
    legacy_ops=LEGACY_OPS,
    sources=(
        Source(
            where="http://places2.csail.mit.edu/models_places365/googlenet_places365.caffemodel",
            read=read_googlenet,
            forms=(Form.CAFFEMODEL,),
            license="CC BY",
        ),
        Source(
            where="https://storage.googleapis.com/modelzoo/vision/caffe_models/InceptionV1_places365.pb",
            read=read_googlenet_graphdef,
            forms=(Form.GRAPH, Form.NPY_DICTIONARY),
            license="CC BY",
        ),
    ),
    legacy_parts={"prob_0": Part("loss3_classifier", 0, 365)},
    classes_in="https://raw.githubusercontent.com/CSAILVision/places365/master/categories_places365.txt",
)
