"""Make checkpoint.tar.gz and bundle.tar.gz, TensorFlow checkpoints of both versions, with TensorFlow 2.21.

In an environment of its own: pip install tensorflow-cpu==2.21.0. Then, from the repository's root:
python -m tests.references.slim.make_checkpoint
"""

import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tensorflow as tf

FOLDER = Path(__file__).parent
KERNEL = np.arange(3 * 5 * 2 * 4, dtype=np.float32).reshape(3, 5, 2, 4) / 7
VALUES = {
    "Net/conv/weights": KERNEL,
    "Net/conv/BatchNorm/beta": np.array([1.5, -2, 0, 1e-8], np.float32),
    "Net/scalar": np.float32(0.25),
    "Net/stripes": np.tile(np.arange(7, dtype=np.float32), 10001),  # fills a block alone, so there are two
    "global_step": np.int64(123),
}
OTHER_TYPES = {"Net/half": np.array([0.5, -3], np.float16), "Net/double": np.array([0.25, 1e3], np.float64)}


def main() -> None:
    with TemporaryDirectory() as folder:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            save(session, f"{folder}/net.ckpt", VALUES, tf.compat.v1.train.SaverDef.V1)
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            save(session, f"{folder}/model.ckpt-7", {**VALUES, **OTHER_TYPES}, tf.compat.v1.train.SaverDef.V2)
        archive("checkpoint.tar.gz", folder, ["net.ckpt"])
        archive("bundle.tar.gz", folder, ["model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001"])


def save(session: tf.compat.v1.Session, path: str, values: dict[str, np.ndarray], version: int) -> None:
    variables = [tf.compat.v1.get_variable(name, initializer=value) for name, value in values.items()]
    session.run(tf.compat.v1.global_variables_initializer())
    tf.compat.v1.train.Saver(variables, write_version=version).save(session, path, write_meta_graph=False)


def archive(name: str, folder: str, files: list[str]) -> None:
    with tarfile.open(FOLDER / name, "w:gz") as made:
        for file in files:
            made.add(f"{folder}/{file}", file)


if __name__ == "__main__":
    main()
