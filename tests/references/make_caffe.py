"""Write the references of Caffe's networks: OpenCV's Caffe importer runs them with the organisms' random weights.

Run once, from the project's root, with opencv-python-headless 4.14.0 beside the project's own environment:
`python -m tests.references.make_caffe`. (OpenCV 5 has no Caffe importer.) The networks are written down here a second
time, as Caffe's prototxt, and reach OpenCV as such with a caffemodel.
"""

from collections.abc import Iterable

import cv2
import numpy as np

from microscope_atlas.models import weights
from microscope_atlas.models.catalog import CATALOG
from tests.references.caffemodel import caffemodel
from tests.references.sampled import picture, write

IMAGENET = (103.939, 116.779, 123.68)
GOOGLENET = (104.0, 117.0, 123.0)
PLACES365 = (104.051, 112.514, 116.676)


class Prototxt:
    """Layers one behind the other; each method returns the new layer's name."""

    def __init__(self, height: int, width: int):
        self.text = f'input: "data" input_dim: 1 input_dim: 3 input_dim: {height} input_dim: {width}\n'

    def layer(self, name: str, kind: str, bottoms: Iterable[str], parameters: str = "") -> str:
        reads = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        self.text += f'layer {{ name: "{name}" type: "{kind}" {reads} top: "{name}" {parameters} }}\n'
        return name

    def conv(self, name: str, x: str, out: int, kernel: int, rest: str = "", relu: str = "relu_{}") -> str:
        parameters = f"convolution_param {{ num_output: {out} kernel_size: {kernel} {rest} }}"
        return self.layer(relu.format(name), "ReLU", [self.layer(name, "Convolution", [x], parameters)])

    def pool(self, name: str, x: str, kernel: int, stride: int, rest: str = "", kind: str = "MAX") -> str:
        parameters = f"pooling_param {{ pool: {kind} kernel_size: {kernel} stride: {stride} {rest} }}"
        return self.layer(name, "Pooling", [x], parameters)

    def norm(self, name: str, x: str) -> str:
        return self.layer(name, "LRN", [x], "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")

    def dense(self, name: str, x: str, out: int) -> str:
        return self.layer(name, "InnerProduct", [x], f"inner_product_param {{ num_output: {out} }}")


def alexnet(net: Prototxt, classes: int, dense: bool, norm_first: bool) -> dict[str, str]:
    def norm_and_pool(stage: int, x: str) -> str:
        if norm_first:
            return net.pool(f"pool{stage}", net.norm(f"norm{stage}", x), 3, 2)
        return net.norm(f"norm{stage}", net.pool(f"pool{stage}", x, 3, 2))

    conv1 = net.conv("conv1", "data", 96, 11, "stride: 4")
    conv2 = net.conv("conv2", norm_and_pool(1, conv1), 256, 5, "pad: 2 group: 2")
    conv3 = net.conv("conv3", norm_and_pool(2, conv2), 384, 3, "pad: 1")
    conv4 = net.conv("conv4", conv3, 384, 3, "pad: 1 group: 2")
    conv5 = net.conv("conv5", conv4, 256, 3, "pad: 1 group: 2")
    layers = {"conv1": conv1, "conv2": conv2, "conv3": conv3, "conv4": conv4, "conv5": conv5}
    return layers | (three_dense(net, net.pool("pool5", conv5, 3, 2), classes) if dense else {})


def vgg19(net: Prototxt, classes: int, dense: bool) -> dict[str, str]:
    layers, x = {}, "data"
    for stage, (convolutions, out) in enumerate([(2, 64), (2, 128), (4, 256), (4, 512), (4, 512)], 1):
        for i in range(1, convolutions + 1):
            x = layers[f"conv{stage}_{i}"] = net.conv(f"conv{stage}_{i}", x, out, 3, "pad: 1")
        x = net.pool(f"pool{stage}", x, 2, 2)
    return layers | (three_dense(net, x, classes) if dense else {})


def three_dense(net: Prototxt, x: str, classes: int) -> dict[str, str]:
    fc6 = net.layer("relu6", "ReLU", [net.dense("fc6", x, 4096)])
    fc7 = net.layer("relu7", "ReLU", [net.dense("fc7", fc6, 4096)])
    return {"fc6": fc6, "fc7": fc7, "fc8": net.dense("fc8", fc7, classes)}


def googlenet(net: Prototxt, classes: int, dense: bool) -> dict[str, str]:
    conv1 = net.conv("conv1/7x7_s2", "data", 64, 7, "stride: 2 pad: 3")
    norm1 = net.norm("pool1/norm1", net.pool("pool1/3x3_s2", conv1, 3, 2))
    reduce = net.conv("conv2/3x3_reduce", norm1, 64, 1)
    conv2 = net.conv("conv2/3x3", reduce, 192, 3, "pad: 1")
    x = net.pool("pool2/3x3_s2", net.norm("conv2/norm2", conv2), 3, 2)
    layers = {"conv1_7x7_s2": conv1, "conv2_3x3_reduce": reduce, "conv2_3x3": conv2}
    modules = {
        "3a": (64, 96, 128, 16, 32, 32),
        "3b": (128, 128, 192, 32, 96, 64),
        "4a": (192, 96, 208, 16, 48, 64),
        "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128),
        "5a": (256, 160, 320, 32, 128, 128),
        "5b": (384, 192, 384, 48, 128, 128),
    }
    for name, (one, three_in, three, five_in, five, pool) in modules.items():
        m = f"inception_{name}"
        three_reduced = net.conv(f"{m}/3x3_reduce", x, three_in, 1)
        five_reduced = net.conv(f"{m}/5x5_reduce", x, five_in, 1)
        branches = [
            net.conv(f"{m}/1x1", x, one, 1),
            net.conv(f"{m}/3x3", three_reduced, three, 3, "pad: 1"),
            net.conv(f"{m}/5x5", five_reduced, five, 5, "pad: 2"),
            net.conv(f"{m}/pool_proj", net.pool(f"{m}/pool", x, 3, 1, "pad: 1"), pool, 1),
        ]
        x = layers[m] = net.layer(f"{m}/output", "Concat", branches)
        if name in ("3b", "4e"):
            x = net.pool(f"pool{name[0]}/3x3_s2", x, 3, 2)
    if dense:
        pooled = net.pool("pool5/7x7_s1", x, 7, 1, kind="AVE")
        layers["loss3_classifier"] = net.dense("loss3/classifier", pooled, classes)
    return layers


NETWORKS = {
    "alexnet": (alexnet, {"classes": 1000, "norm_first": True}, IMAGENET, (200, 173)),
    "alexnet_caffe_places365": (alexnet, {"classes": 365, "norm_first": False}, PLACES365, (200, 173)),
    "inceptionv1_caffe": (googlenet, {"classes": 1000}, GOOGLENET, (179, 146)),
    "inceptionv1_caffe_places365": (googlenet, {"classes": 365}, PLACES365, (179, 146)),
    "vgg19_caffe": (vgg19, {"classes": 1000}, IMAGENET, (118, 101)),
}


def main() -> None:
    for name, (describe, settings, mean, other_size) in NETWORKS.items():
        organism = CATALOG[name]
        random = weights.random(organism)
        blobs = {}
        for key, value in random.tensors.items():  # a weight comes before its bias
            blobs.setdefault(key.rpartition(".")[0].removesuffix("_pre_relu"), []).append(value.numpy())
        kinds = {layer: "InnerProduct" for layer in blobs if layer.startswith(("fc", "loss"))}
        model = np.frombuffer(caffemodel(blobs, kinds), np.uint8)
        maps = {}
        for height, width in ((organism.input_size, organism.input_size), other_size):
            prototxt = Prototxt(height, width)
            outputs = describe(prototxt, dense=height == organism.input_size, **settings)
            net = cv2.dnn.readNetFromCaffe(np.frombuffer(prototxt.text.encode(), np.uint8), model)
            net.enableFusion(False)
            rgb = picture(height, width).astype(np.float64)
            blue_green_red = 255 * rgb[[2, 1, 0]] - np.array(mean)[:, None, None]
            net.setInput(blue_green_red.astype(np.float32)[None])
            results = net.forward(list(outputs.values()))
            maps[height, width] = {layer: np.squeeze(r[0]) for layer, r in zip(outputs, results, strict=True)}
        write(name, random, maps)
        print(name, {size: len(layers) for size, layers in maps.items()})


if __name__ == "__main__":
    main()
