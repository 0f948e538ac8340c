"""Writing a frozen GraphDef, as TensorFlow does; see make_graphdef.py for one that it wrote itself."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tests.references.caffemodel import field, varint

FLOAT = 1  # of TensorFlow's DataType
DTYPES = {"float32": FLOAT, "float64": 2, "int32": 3, "int64": 9, "float16": 19}
FLOAT_VAL, HALF_VAL = 5, 13  # fields of a TensorProto


def graphdef(constants: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Constants whose tensors are bytes, each read by an Identity, as freezing leaves them."""
    content = b""
    for name, value in constants.items():
        tensor = proto(DTYPES[value.dtype.name], value.shape, content=value.tobytes())
        content += const(name, tensor) + node(f"{name}/read", "Identity", reads=name)
    return content


def floats(name: str, shape: Sequence[int], values: Iterable[float]) -> bytes:
    """A constant of float32 numbers that are listed one by one."""
    listed = b"".join(np.float32(value).tobytes() for value in values)
    return const(name, proto(FLOAT, shape, values=field(FLOAT_VAL, listed) if listed else b""))


def const(name: str, tensor: bytes) -> bytes:
    """A node of type Const: its attributes are `dtype`, an AttrValue's type = 6, and `value`, a tensor = 8."""
    kind = field(5, field(1, b"dtype") + field(2, varint(6 << 3) + tensor[1:2]))
    return node(name, "Const", attributes=kind + field(5, field(1, b"value") + field(2, field(8, tensor))))


def node(name: str, op: str, reads: str = "", attributes: bytes = b"") -> bytes:
    """A GraphDef's node = 1 with its name = 1, op = 2 and input = 3."""
    inputs = field(3, reads.encode()) if reads else b""
    return field(1, field(1, name.encode()) + field(2, op.encode()) + inputs + attributes)


def proto(kind: int, shape: Sequence[int], content: bytes = b"", values: bytes = b"") -> bytes:
    """A TensorProto: dtype = 1, tensor_shape = 2 of dim = 2 of size = 1, tensor_content = 4; other fields as given."""
    dims = b"".join(field(2, varint(1 << 3) + varint(size % 2**64)) for size in shape)
    return varint(1 << 3) + varint(kind) + field(2, dims) + (field(4, content) if content else b"") + values
