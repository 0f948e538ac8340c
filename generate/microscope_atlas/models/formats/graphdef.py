"""Reading frozen TensorFlow graphs without TensorFlow.

A GraphDef (https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/framework/graph.proto) whose variables
were frozen holds each as a node of type Const, whose attribute `value` is a TensorProto (tensor.proto beside it).
"""

import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from microscope_atlas.errors import WeightsError
from microscope_atlas.models.formats.numbers import TYPES, Stored, numbers
from microscope_atlas.models.formats.protobuf import MAX_DIMENSIONS, Malformed, fields, packed, signed

MAX_NUMBERS = 1 << 28  # along a dimension; VGG19's largest tensor has 103 million in all
MAX_REPEATED = 1 << 22  # numbers of a whole graph that are repeats of another; weights are written one by one
MAX_BYTES = 1 << 30  # of a GraphDef; VGG19's, the largest, has 575 MB. An archive may claim any length


def read_graphdef(path: Path) -> dict[str, Tensor]:
    """The Const nodes' tensors by name, in TensorFlow's layout; half and bfloat16 as float32.

    Constants that are not numbers are left out. `path` may be a zip archive with one `.pb` file in it. Raises
    WeightsError where it is no whole GraphDef, or holds no constants.
    """
    tensors, repeated = {}, 0
    try:
        for name, proto in _constants(memoryview(_content(path))):
            if (found := _tensor(proto, f"{path}: node {name!r}", MAX_REPEATED - repeated)) is not None:
                tensors[name], more = found
                repeated += more
    except (Malformed, UnicodeDecodeError) as error:
        raise WeightsError(
            f"{path} is not a whole GraphDef: {error}; expected a frozen TensorFlow graph. Is it complete?"
        ) from error
    if not tensors:
        raise WeightsError(f"{path} is not a frozen GraphDef: it holds no constants")
    return tensors


def kernel(value: Tensor) -> Tensor:
    """A convolution's kernel, (height, width, in, out) in TensorFlow, as (out, in, height, width).

    Groups need no more: both keep a group's output channels together, and `in` is the width of one group.
    """
    return value.permute(3, 2, 0, 1).contiguous()


def dense(value: Tensor, map_size: int = 1) -> Tensor:
    """A dense layer's matrix, (in, out) in TensorFlow, as (out, in).

    Where it reads a flattened map of `map_size` x `map_size` positions, TensorFlow counts its inputs position by
    position, PyTorch and Caffe channel by channel. A matrix that does not fit such a map is only transposed.
    """
    positions = map_size * map_size
    if value.dim() == 2 and positions > 1 and value.shape[0] % positions == 0:
        value = value.reshape(positions, -1, value.shape[1]).transpose(0, 1).reshape(value.shape)
    return value.t().contiguous() if value.dim() == 2 else value


def _content(path: Path) -> bytes:
    try:
        if not zipfile.is_zipfile(path):
            return path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            graphs = [member for member in archive.infolist() if member.filename.endswith(".pb")]
            if len(graphs) != 1:
                raise WeightsError(f"{path} holds {len(graphs)} .pb files, expected 1")
            if graphs[0].file_size > MAX_BYTES:
                raise WeightsError(f"{path} holds a file of {graphs[0].file_size} bytes, expected at most {MAX_BYTES}")
            with archive.open(graphs[0]) as file:
                return file.read(graphs[0].file_size)  # or all would be unpacked, whatever it is said to be
    # RuntimeError: with a password, or of another compression; OSError and ValueError: said to be where nothing can be
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is a damaged zip archive: {error}") from error


def _constants(graph: memoryview) -> Iterator[tuple[str, memoryview]]:
    """Name and TensorProto of every Const node that has one."""
    for number, node in fields(graph):
        if number != 1 or not isinstance(node, memoryview):
            continue
        name, op, value = "", b"", None
        for n, content in fields(node):
            match n, content:
                case 1, memoryview():
                    name = bytes(content).decode()
                case 2, memoryview():
                    op = bytes(content)
                case 5, memoryview():
                    value = _value(content) or value
        if op == b"Const" and value is not None:
            yield name, value


def _value(attribute: memoryview) -> memoryview | None:
    """The TensorProto in an entry of a node's attributes; None where it is not that of `value`."""
    key, tensor = b"", None
    for number, content in fields(attribute):
        match number, content:
            case 1, memoryview():
                key = bytes(content)
            case 2, memoryview():
                tensor = next((v for n, v in fields(content) if n == 8 and isinstance(v, memoryview)), tensor)
    return tensor if key == b"value" else None


def _tensor(proto: memoryview, where: str, most_repeated: int) -> tuple[Tensor, int] | None:
    """The tensor of a TensorProto, and how many of its numbers are repeats; None where they are not numbers.

    It has all its bytes, all its values, or fewer, of which the last is repeated.
    """
    kind, shape, content = 0, list[int](), memoryview(b"")
    for number, value in fields(proto):
        match number, value:
            case 1, int():
                kind = value
            case 2, memoryview():
                shape = [signed(_size(dim)) for n, dim in fields(value) if n == 2 and isinstance(dim, memoryview)]
            case 4, memoryview():
                content = value
    if kind not in TYPES:
        return None
    if len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0 or max(shape, default=0) > MAX_NUMBERS:
        raise WeightsError(
            f"{where} is declared {tuple(shape[:9])}; expected at most {MAX_DIMENSIONS} dimensions of at most "
            f"{MAX_NUMBERS}"
        )
    stored, count = TYPES[kind], math.prod(shape)
    size = stored.size
    if content and len(content) != count * size:
        raise WeightsError(f"{where} is declared {tuple(shape)} but holds {len(content)} bytes")
    held = content or _listed(proto, stored, size)
    if len(held) % size:
        raise WeightsError(f"{where} holds {len(held)} bytes of numbers, no multiple of {size}")
    repeats = count - len(held) // size
    if repeats < 0 or repeats > most_repeated or (count and not held):
        raise WeightsError(f"{where} is declared {tuple(shape)} but holds {len(held) // size} numbers")
    values = numbers(kind, held)
    if repeats:
        values = np.concatenate([values, np.full(repeats, values[-1])])
    return torch.from_numpy(values).reshape(shape), repeats


def _size(dimension: memoryview) -> int:
    return next((size for number, size in fields(dimension) if number == 1 and isinstance(size, int)), 0)


def _listed(proto: memoryview, stored: Stored, size: int) -> bytearray:
    """The numbers' bytes, of a TensorProto that has each in a field, packed or one at a time."""
    held = bytearray()
    for number, value in fields(proto):
        if number != stored.field:
            continue
        if not stored.varints:
            held += value if isinstance(value, memoryview) else b""
        elif isinstance(value, int):
            held += (value % 256**size).to_bytes(size, "little")
        else:
            for some in packed(value):
                held += some.astype(f"<u{size}").tobytes()
    return held
