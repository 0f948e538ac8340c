"""Reading frozen TensorFlow graphs without TensorFlow.

A GraphDef (https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/framework/graph.proto) whose variables
were frozen holds each as a node of type Const. Its protobuf classes come with tensorboard, an optional dependency.
"""

import math
import zipfile
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from generate.errors import WeightsError

# TensorFlow's DataType -> NumPy's, and the field that holds values that are not stored as bytes
DTYPES = {1: ("<f4", "float_val"), 2: ("<f8", "double_val"), 3: ("<i4", "int_val"), 9: ("<i8", "int64_val")}
MAX_NUMBERS = 1 << 28  # of one tensor; VGG19's largest has 103 million. A file may claim any shape for a single value
MAX_DIMENSIONS = 8
MAX_BYTES = 1 << 31  # of a GraphDef: protobuf's own limit


def read_graphdef(path: Path) -> dict[str, Tensor]:
    """The Const nodes' tensors by name, in TensorFlow's layout; constants that are not numbers are left out.

    `path` may be a zip archive with one `.pb` file in it. Raises WeightsError where it is no whole GraphDef, holds no
    constants, or tensorboard is not installed.
    """
    try:
        graph = import_module("tensorboard.compat.proto.graph_pb2").GraphDef()
        decode_error = import_module("google.protobuf.message").DecodeError
    except ImportError as error:
        raise WeightsError(f"reading {path} needs TensorFlow's protobuf classes: pip install tensorboard") from error
    try:
        graph.ParseFromString(_content(path))
    except decode_error as error:
        raise WeightsError(
            f"{path} is not a whole GraphDef: {error}; expected a frozen TensorFlow graph. Is it complete?"
        ) from error
    tensors = {}
    for node in graph.node:
        if node.op == "Const" and node.attr["value"].tensor.dtype in DTYPES:
            tensors[node.name] = _tensor(node.attr["value"].tensor, f"{path}: node {node.name!r}")
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
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    try:
        with zipfile.ZipFile(path) as archive:
            graphs = [member for member in archive.infolist() if member.filename.endswith(".pb")]
            if len(graphs) != 1:
                raise WeightsError(f"{path} holds {len(graphs)} .pb files, expected 1")
            if graphs[0].file_size > MAX_BYTES:
                raise WeightsError(f"{path} holds a file of {graphs[0].file_size} bytes, expected at most {MAX_BYTES}")
            return archive.read(graphs[0])
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise WeightsError(f"{path} is a damaged zip archive: {error}") from error


def _tensor(proto: Any, where: str) -> Tensor:
    """The tensor of a TensorProto: all its bytes, all its values, or fewer, of which the last is repeated."""
    dtype, field = DTYPES[proto.dtype]
    shape = [dim.size for dim in proto.tensor_shape.dim]
    numbers = math.prod(shape)
    if min(shape, default=0) < 0 or numbers > MAX_NUMBERS or len(shape) > MAX_DIMENSIONS:
        raise WeightsError(
            f"{where} is declared {tuple(shape[:9])}; expected at most {MAX_NUMBERS} numbers, "
            f"{MAX_DIMENSIONS} dimensions"
        )
    if proto.tensor_content:
        if len(proto.tensor_content) != numbers * np.dtype(dtype).itemsize:
            raise WeightsError(f"{where} is declared {tuple(shape)} but holds {len(proto.tensor_content)} bytes")
        values = np.frombuffer(proto.tensor_content, dtype)
    else:
        values = np.array(getattr(proto, field), dtype)
        if values.size > numbers or (numbers and not values.size):
            raise WeightsError(f"{where} is declared {tuple(shape)} but holds {values.size} numbers")
        if values.size < numbers:
            values = np.concatenate([values, np.full(numbers - values.size, values[-1])])
    return torch.from_numpy(values.astype(dtype[1:])).reshape(shape)
