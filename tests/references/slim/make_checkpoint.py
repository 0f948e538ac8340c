"""Make checkpoint.tar.gz, a TensorFlow checkpoint of the first version, with TensorFlow 2.21.

In an environment of its own: pip install tensorflow-cpu==2.21.0. Then, from the repository's root:
python -m tests.references.slim.make_checkpoint
"""

import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tensorflow as tf

FOLDER = Path(__file__).parent


def main() -> None:
    kernel = np.arange(3 * 5 * 2 * 4, dtype=np.float32).reshape(3, 5, 2, 4) / 7
    with tf.Graph().as_default(), tf.compat.v1.Session() as session, TemporaryDirectory() as folder:
        values = {
            "Net/conv/weights": kernel,
            "Net/conv/BatchNorm/beta": np.array([1.5, -2, 0, 1e-8], np.float32),
            "Net/scalar": np.float32(0.25),
            "Net/stripes": np.tile(np.arange(7, dtype=np.float32), 10001),  # fills a block alone, so there are two
            "global_step": np.int64(123),
        }
        variables = [tf.compat.v1.get_variable(name, initializer=value) for name, value in values.items()]
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver(variables, write_version=tf.compat.v1.train.SaverDef.V1)
        saver.save(session, f"{folder}/net.ckpt", write_meta_graph=False)
        with tarfile.open(FOLDER / "checkpoint.tar.gz", "w:gz") as archive:
            archive.add(f"{folder}/net.ckpt", "net.ckpt")


if __name__ == "__main__":
    main()
