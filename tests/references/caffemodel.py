"""Writing a caffemodel, to read it again or to hand it to another program."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def caffemodel(layers: Mapping[str, Sequence[NDArray[np.float32]]], kinds: Mapping[str, str] | None = None) -> bytes:
    """A NetParameter of layers with blobs: name = 1, type = 2, blobs = 7 of `layer` = 100."""
    content = b""
    for name, blobs in layers.items():
        message = field(1, name.encode()) + field(2, (kinds or {}).get(name, "Convolution").encode())
        for blob in blobs:
            shape = field(7, field(1, b"".join(map(varint, blob.shape))))
            message += field(7, shape + field(5, blob.astype("<f4").tobytes()))
        content += field(100, message)
    return content


def field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])
