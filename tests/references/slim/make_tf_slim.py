"""Make the references of inceptionv3_slim and resnetv2_50_slim with TF-slim.

In an environment of its own: pip install torch==2.13.0 tensorflow-cpu==2.21.0 tf-slim==1.1.0 safetensors, and
pip install --no-deps tf-keras==2.21.0. Then, from the repository's root: python -m tests.references.slim.make_tf_slim

Layers are found by their legacy ops, so those are proven to be names that TF-slim gives; of the last, which is a
softmax, the logits are kept.
"""

import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
import tf_keras.src.legacy_tf_layers
import torch
from torch import Tensor

# TF-slim looks for these where older versions of Keras had them
sys.modules["tf_keras.legacy_tf_layers"] = tf_keras.src.legacy_tf_layers
tf_keras.legacy_tf_layers = tf_keras.src.legacy_tf_layers

import tf_slim  # noqa: E402
from tf_slim.nets import inception_v3, resnet_v2  # noqa: E402

from microscope_atlas.models.architectures.inceptionv3_slim import INCEPTIONV3_SLIM  # noqa: E402
from microscope_atlas.models.architectures.resnetv2_slim import RESNETV2_50_SLIM  # noqa: E402
from microscope_atlas.models.architectures.slim import TENSORS  # noqa: E402
from microscope_atlas.models.organism import Organism  # noqa: E402
from tests.references.slim.shared_weights import picture, shared_weights, write_reference  # noqa: E402


def build_inception(inputs: Any) -> Any:
    with tf_slim.arg_scope(inception_v3.inception_v3_arg_scope()):
        return inception_v3.inception_v3(
            inputs, num_classes=1001, is_training=False, create_aux_logits=False, spatial_squeeze=False
        )[0]


def build_resnet(inputs: Any) -> Any:
    with tf_slim.arg_scope(resnet_v2.resnet_arg_scope()):
        return resnet_v2.resnet_v2_50(inputs, num_classes=1001, is_training=False)[0]


def activations(organism: Organism, build: Callable[[Any], Any], size: int) -> dict[str, Tensor]:
    """What TF-slim's network computes at each layer, channels first."""
    weights = shared_weights(organism)
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        inputs = tf.compat.v1.placeholder(tf.float32, (1, size, size, 3))
        logits = build(inputs)
        for variable in tf.compat.v1.global_variables():
            scope, _, leaf = variable.op.name.rpartition("/")
            value = weights.pop(f"{scope}.{TENSORS[leaf]}")
            if leaf == "weights":
                value = value.reshape(*value.shape, *[1] * (4 - value.dim())).permute(2, 3, 1, 0)
            variable.load(value.numpy(), session)
        assert not weights, f"TF-slim has no {list(weights)}"
        named = {operation.name.replace("/", "_") + "_0": operation for operation in graph.get_operations()}
        tensors = {layer: named[op].outputs[0] for layer, op in organism.legacy_ops.items()}
        tensors[list(tensors)[-1]] = logits
        values = session.run(tensors, {inputs: picture(size).permute(0, 2, 3, 1).numpy() * 2 - 1})
    found = {layer: torch.from_numpy(value).permute(0, 3, 1, 2) for layer, value in values.items() if value.ndim == 4}
    last = list(tensors)[-1]
    return found | {last: torch.from_numpy(values[last]).reshape(1, 1001)}


def variables(build: Callable[[Any], Any], size: int) -> np.ndarray:
    """Names and shapes of TF-slim's variables, `InceptionV3/Conv2d_1a_3x3/weights 3 3 3 32`."""
    with tf.Graph().as_default():
        build(tf.compat.v1.placeholder(tf.float32, (1, size, size, 3)))
        return np.array([" ".join(map(str, (v.op.name, *v.shape))) for v in tf.compat.v1.global_variables()])


def main() -> None:
    versions = f"tensorflow {tf.__version__}, tf-slim {version('tf-slim')}, torch {torch.__version__}"
    for organism, build, sizes in (
        (INCEPTIONV3_SLIM, build_inception, (299, 160)),
        (RESNETV2_50_SLIM, build_resnet, (224, 193)),
    ):
        computed = {size: activations(organism, build, size) for size in sizes}
        write_reference(organism, versions, computed, variables=variables(build, sizes[0]))


if __name__ == "__main__":
    main()
