"""Write the reference of inceptionv1: TensorFlow's operations run it with the organism's random weights.

Run once, from the project's root, with tensorflow-cpu 2.21.0 beside the project's own environment:
`python -m tests.references.make_inceptionv1`. The network is written down here a second time, in TensorFlow's layout.
"""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from microscope_atlas.models import weights
from microscope_atlas.models.architectures.inceptionv1 import INCEPTIONV1
from tests.references.sampled import picture, write

MODULES = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")


class Network:
    """inception5h by its constants `conv2d0_w`, `mixed3a_1x1_b`, ... and tf.nn."""

    def __init__(self, constants: dict[str, NDArray[np.float32]]):
        self.constants = constants

    def conv(self, name: str, x: tf.Tensor, stride: int = 1) -> tf.Tensor:
        out = tf.nn.conv2d(x, self.constants[f"{name}_w"], stride, "SAME")
        return tf.nn.relu(out + self.constants[f"{name}_b"])

    def matmul(self, name: str, x: tf.Tensor) -> tf.Tensor:
        return x @ self.constants[f"{name}_w"] + self.constants[f"{name}_b"]

    def module(self, name: str, x: tf.Tensor, out: dict[str, tf.Tensor]) -> tf.Tensor:
        bottlenecks = {each: self.conv(each, x) for each in (f"{name}_3x3_bottleneck", f"{name}_5x5_bottleneck")}
        out |= bottlenecks
        three, five = (self.conv(each.removesuffix("_bottleneck"), values) for each, values in bottlenecks.items())
        pool = self.conv(f"{name}_pool_reduce", tf.nn.max_pool2d(x, 3, 1, "SAME"))
        return tf.concat([self.conv(f"{name}_1x1", x), three, five, pool], -1)

    def head(self, index: int, x: tf.Tensor, dense: bool) -> dict[str, tf.Tensor]:
        bottleneck = self.conv(f"head{index}_bottleneck", tf.nn.avg_pool2d(x, 5, 3, "VALID"))
        if not dense:
            return {f"head{index}_bottleneck": bottleneck}
        neurons = tf.nn.relu(self.matmul(f"nn{index}", tf.reshape(bottleneck, [-1, 2048])))
        logits = self.matmul(f"softmax{index}", neurons)
        return {f"head{index}_bottleneck": bottleneck, f"nn{index}": neurons, f"softmax{index}": logits}

    def layers(self, rgb: NDArray[np.float32], dense: bool) -> dict[str, NDArray[np.float32]]:
        """Activations by layer; channels first, as PyTorch has them."""
        out: dict[str, tf.Tensor] = {}
        x = tf.constant(rgb.transpose(1, 2, 0)[None] * 255 - 117)
        x = out["conv2d0"] = self.conv("conv2d0", x, stride=2)
        x = norm(tf.nn.max_pool2d(x, 3, 2, "SAME"))
        x = out["conv2d1"] = self.conv("conv2d1", x)
        x = out["conv2d2"] = self.conv("conv2d2", x)
        x = tf.nn.max_pool2d(norm(x), 3, 2, "SAME")
        for name in MODULES:
            x = out[f"mixed{name}"] = self.module(f"mixed{name}", x, out)
            if name in ("3b", "4e"):
                x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        out |= self.head(0, out["mixed4a"], dense) | self.head(1, out["mixed4d"], dense)
        if dense:
            out["softmax2"] = self.matmul("softmax2", tf.reshape(tf.nn.avg_pool2d(x, 7, 1, "VALID"), [-1, 1024]))
        return {k: np.moveaxis(v[0].numpy(), -1, 0) for k, v in out.items()}


def norm(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.local_response_normalization(x, depth_radius=5, bias=2.0, alpha=1e-4, beta=0.5)


def constants(tensors: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The organism's tensors under the GraphDef's names and in TensorFlow's layout."""
    found = {}
    for key, value in tensors.items():
        node, _, kind = key.rpartition(".")
        name = node.removesuffix("_pre_relu").removesuffix("_pre_activation")
        if value.ndim == 4:
            value = np.einsum("oihw->hwio", value)
        elif value.ndim == 2 and name in ("nn0", "nn1"):
            value = np.einsum("ochw->hwco", value.reshape(-1, 128, 4, 4)).reshape(2048, -1)
        elif value.ndim == 2:
            value = value.T
        found[f"{name}_{kind[0]}"] = value
    return found


def main() -> None:
    random = weights.random(INCEPTIONV1)
    network = Network(constants({key: value.numpy() for key, value in random.tensors.items()}))
    maps = {size: network.layers(picture(*size), dense=size == (224, 224)) for size in ((224, 224), (195, 166))}
    write("inceptionv1", random, maps)
    print({size: len(layers) for size, layers in maps.items()})


if __name__ == "__main__":
    main()
