"""Make graphdef.pb, a graph frozen by TensorFlow 2.21, with constants in every form that the reader knows.

In an environment of its own: pip install tensorflow-cpu==2.21.0. Then, from the repository's root:
python -m tests.references.make_graphdef
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

FILE = Path(__file__).with_name("graphdef.pb")


def main() -> None:
    numbers = np.arange(24, dtype=np.float32).reshape(2, 3, 1, 4) / 8 - 1  # the half types hold them all
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        for dtype in (tf.float32, tf.float64, tf.float16, tf.bfloat16):
            variable = tf.compat.v1.get_variable(f"{dtype.name}/weights", initializer=tf.cast(numbers, dtype))
            tf.identity(variable, f"{dtype.name}/used")
            tf.constant(-1.5, dtype, [3, 5], f"{dtype.name}/filled")  # one number, said to be repeated
            tf.constant([0.5, -0.25], dtype, name=f"{dtype.name}/pair")
        tf.constant([-1, 8], tf.int32, name="shape")
        tf.constant(-(1 << 40), tf.int64, name="long")
        tf.constant(["a", "b"], name="words")
        tf.constant([True], name="truth")
        session.run(tf.compat.v1.global_variables_initializer())
        asked = [node.name for node in graph.as_graph_def().node if node.op in ("Identity", "Const")]
        frozen = tf.compat.v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), asked)
        FILE.write_bytes(frozen.SerializeToString())


if __name__ == "__main__":
    main()
