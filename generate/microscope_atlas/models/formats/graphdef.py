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

from microscope_atlas.errors import WeightsError
from microscope_atlas.models.formats.protobuf import MAX_DIMENSIONS

# TensorFlow's DataType -> NumPy's, and the field that holds values that are not stored as bytes
DTYPES = {1: ("<f4", "float_val"), 2: ("<f8", "double_val"), 3: ("<i4", "int_val"), 9: ("<i8", "int64_val")}
MAX_NUMBERS = 1 << 28  # along a dimension; VGG19's largest tensor has 103 million in all
MAX_REPEATED = 1 << 22  # numbers of a whole graph that are repeats of another; weights are written one by one
MAX_BYTES = 1 << 30  # of a GraphDef; VGG19's, the largest, has 575 MB. An archive may claim any length


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
    tensors, repeated = {}, 0
    for node in graph.node:
        if node.op == "Const" and node.attr["value"].tensor.dtype in DTYPES:
            where = f"{path}: node {node.name!r}"
            tensors[node.name], more = _tensor(node.attr["value"].tensor, where, MAX_REPEATED - repeated)
            repeated += more
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


def _tensor(proto: Any, where: str, most_repeated: int) -> tuple[Tensor, int]:
    """The tensor of a TensorProto, and how many of its numbers are repeats.

    It has all its bytes, all its values, or fewer, of which the last is repeated.
    """
    dtype, field = DTYPES[proto.dtype]
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0 or max(shape, default=0) > MAX_NUMBERS:
        raise WeightsError(
            f"{where} is declared {tuple(shape[:9])}; expected at most {MAX_DIMENSIONS} dimensions of at most "
            f"{MAX_NUMBERS}"
        )
    numbers = math.prod(shape)
    if proto.tensor_content:
        if len(proto.tensor_content) != numbers * np.dtype(dtype).itemsize:
            raise WeightsError(f"{where} is declared {tuple(shape)} but holds {len(proto.tensor_content)} bytes")
        values = np.frombuffer(proto.tensor_content, dtype)
    else:
        values = np.array(getattr(proto, field), dtype)
    held = values.size
    if held > numbers or (numbers and not held) or numbers - held > most_repeated:
        raise WeightsError(f"{where} is declared {tuple(shape)} but holds {held} numbers")
    if held < numbers:
        values = np.concatenate([values, np.full(numbers - held, values[-1])])
    return torch.from_numpy(values.astype(dtype[1:])).reshape(shape), numbers - held
