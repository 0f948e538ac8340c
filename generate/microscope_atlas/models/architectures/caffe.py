"""What Caffe's networks have in common: the means they were trained with, and how their weights are filed.

Their trained weights are public in two forms: Caffe's own, and what caffe-tensorflow
(https://github.com/ethereon/caffe-tensorflow) made of them: dictionaries of NumPy's, and GraphDefs,
which are what Microscope ran.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from microscope_atlas.models.formats.caffemodel import read_caffemodel
from microscope_atlas.models.formats.form import Form, form
from microscope_atlas.models.formats.graphdef import dense, kernel, read_graphdef
from microscope_atlas.models.formats.npy import read_dictionary

IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)
PLACES365_MEAN_BGR = (104.051, 112.514, 116.676)  # https://github.com/CSAILVision/places365


def read_caffe(path: Path, nodes: Mapping[str, str]) -> dict[str, Tensor]:
    """A caffemodel's blobs under the graph's names; `nodes` maps Caffe's layers to nodes of another name.

    The first blob of a layer is its weight, the second its bias.
    """
    return {
        f"{nodes.get(layer, layer)}.{tensor}": blob
        for layer, blobs in read_caffemodel(path).items()
        for tensor, blob in zip(("weight", "bias"), blobs, strict=False)
    }


def read_caffe_tensorflow(path: Path, nodes: Mapping[str, str], map_sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """What caffe-tensorflow wrote, in either form, under the graph's names; `nodes` maps its scopes to nodes.

    `map_sizes`: of a dense layer that reads a flattened map, the map's height and width, by scope.
    """
    tensors = {}
    given = read_dictionary(path) if form(path) is Form.NPY_DICTIONARY else read_graphdef(path)
    for name, value in given.items():
        scope, _, variable = name.rpartition("/")
        node = nodes.get(scope, scope)
        if variable == "biases":
            tensors[f"{node}.bias"] = value
        elif variable == "weights":
            tensors[f"{node}.weight"] = kernel(value) if value.dim() == 4 else dense(value, map_sizes.get(scope, 1))
    return tensors
