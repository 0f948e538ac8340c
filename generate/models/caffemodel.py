"""Reading Caffe's trained weights without Caffe.

A caffemodel is a protobuf `NetParameter` (https://github.com/BVLC/caffe/blob/master/src/caffe/proto/caffe.proto). Of it
we need the layers' names and blobs: `layer` (field 100) or, in files from before 2015, `layers` (field 2). The wire
format is at https://protobuf.dev/programming-guides/encoding: fields are a varint of (number << 3 | type) and a value.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from generate.errors import WeightsError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types

# (field of the net, field of the layer's name, field of its blobs)
LAYER_FORMS = {100: (1, 7), 2: (4, 6)}


class _Malformed(Exception):
    """Bytes that are no protobuf; becomes a WeightsError that names the file."""


def read_caffemodel(path: Path) -> dict[str, list[Tensor]]:
    """Blobs of every layer that has any, by the layer's name, float32.

    Raises WeightsError where the file is not a caffemodel or ends early.
    """
    data = memoryview(path.read_bytes())
    blobs: dict[str, list[Tensor]] = {}
    try:
        for number, value in _fields(data):
            if number not in LAYER_FORMS or not isinstance(value, memoryview):
                continue
            name_field, blob_field = LAYER_FORMS[number]
            layer = list(_fields(value))
            name = next((bytes(v).decode() for n, v in layer if n == name_field and isinstance(v, memoryview)), "")
            found: list[Tensor] = []
            for n, v in layer:
                if n == blob_field and isinstance(v, memoryview):
                    found.append(_blob(v, f"blob {len(found)} of layer {name!r}"))
            if found:
                blobs[name] = found
    except (_Malformed, UnicodeDecodeError) as error:
        found_so_far = f" after layer {list(blobs)[-1]!r}" if blobs else ""
        raise WeightsError(
            f"{path} is not a whole caffemodel: {error}{found_so_far}; expected a Caffe NetParameter, complete"
        ) from error
    if not blobs:
        raise WeightsError(f"{path} is not a caffemodel: it holds no layer with weights")
    return blobs


def _blob(data: memoryview, where: str) -> Tensor:
    shape: list[int] = []
    legacy = {}
    chunks: list[np.ndarray] = []
    for number, value in _fields(data):
        match number, value:
            case 7, memoryview():  # BlobShape: dim = 1, packed or not
                for n, dim in _fields(value):
                    if n == 1:
                        shape += [dim] if isinstance(dim, int) else list(_varints(dim))
            case 5, memoryview():  # floats, packed or one at a time
                if len(value) % 4:
                    raise _Malformed(f"{where} has {len(value)} bytes of floats, no multiple of 4")
                chunks.append(np.frombuffer(value, "<f4"))
            case ((1 | 2 | 3 | 4), int()):
                legacy[number] = value
    shape = shape or [legacy.get(n, 1) for n in (1, 2, 3, 4)]
    values = np.concatenate(chunks) if chunks else np.empty(0, np.float32)
    if math.prod(shape) != values.size:
        raise _Malformed(f"{where} is declared {tuple(shape)} but holds {values.size} numbers")
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field number and value of each field in a message; numbers as int, everything else as bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise _Malformed(f"field number 0 at byte {at}")
        if wire == VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == BYTES:
            length, at = _varint(data, at)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise _Malformed(f"wire type {wire} at byte {at}")
        if at + length > len(data):
            raise _Malformed(f"{length} bytes are announced at byte {at}, {len(data) - at} are left")
        yield number, data[at : at + length]
        at += length


def _varints(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number at byte `at`, seven bits a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _Malformed("it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _Malformed(f"a number of over ten bytes at byte {at}")
