"""Numbers as TensorFlow writes them, in bytes and by its DataType.

https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/framework/types.proto.
"""

from typing import NamedTuple

import numpy as np

BFLOAT16, HALF = 14, 19  # read as float32, which holds all their numbers


class Stored(NamedTuple):
    """How a TensorProto holds numbers of a type: their bytes in `tensor_content`, or each in a field of the type."""

    dtype: str  # NumPy's
    field: int
    varints: bool = False  # that field holds numbers of up to 64 bits, not the bytes

    @property
    def size(self) -> int:
        """Bytes of a number."""
        return np.dtype(self.dtype).itemsize


TYPES = {
    1: Stored("<f4", 5),
    2: Stored("<f8", 6),
    3: Stored("<i4", 7, varints=True),
    9: Stored("<i8", 10, varints=True),
    BFLOAT16: Stored("<u2", 13, varints=True),  # NumPy has no such type
    HALF: Stored("<f2", 13, varints=True),
}
FLOATS = (1, 2, BFLOAT16, HALF)


def numbers(kind: int, held: bytes | bytearray | memoryview) -> np.ndarray:
    """The numbers in bytes of a type, half and bfloat16 as float32; of whole numbers of bytes."""
    values = np.frombuffer(held, TYPES[kind].dtype)
    if kind == BFLOAT16:
        values = (values.astype("<u4") << 16).view("<f4")  # the upper half of a float32
    return values.astype(np.float32 if kind == HALF else values.dtype.newbyteorder("="))
