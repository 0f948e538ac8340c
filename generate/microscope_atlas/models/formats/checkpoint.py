"""Reading TensorFlow's checkpoints of the first version, one .ckpt file each, without TensorFlow.

TF-slim's trained networks of 2016 and 2017 were published so, in a .tar.gz. A checkpoint is a sorted table of keys and
values, https://github.com/google/leveldb/blob/main/doc/table_format.md, whose values are protobufs `SavedTensorSlices`,
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/saved_tensor_slice.proto. TensorFlow never
compressed the table. The checksums within are not verified, which would take minutes; the .tar.gz has one of the whole.
"""

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from microscope_atlas.errors import WeightsError
from microscope_atlas.models.formats.protobuf import Malformed, fields, refuse_shape, varint

MAX_BYTES = 1 << 30  # of a checkpoint; InceptionV4's, the largest, has 172 MB. An archive may claim any length
GZIP = b"\x1f\x8b"  # begins every .gz
MAGIC = 0xDB4775248B80FB57  # ends every table
FOOTER_BYTES = 48
PLAIN = 0  # the byte behind a block that is not compressed
FLOAT32 = 1  # of TensorFlow's DataType


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Variables by name, in TensorFlow's layout; what is not float32 is left out, such as the step it was saved at.

    `path` is a .ckpt, or a .tar.gz with one. Raises WeightsError where it is neither, damaged or of the second version.
    """
    data = memoryview(_content(path))
    shapes: dict[str, list[int]] = {}
    variables = {}
    try:
        for value in _values(data):
            for number, message in fields(value):
                match number, message:
                    case 1, memoryview():
                        shapes.update(_shapes(message))
                    case 2, memoryview():
                        name, numbers = _saved(message)
                        if name in shapes:
                            variables[name] = _tensor(name, numbers, shapes[name])
    except (Malformed, UnicodeDecodeError) as error:
        raise WeightsError(
            f"{path} is not a whole TensorFlow checkpoint: {error}; expected a .ckpt of version 1. Is it complete?"
        ) from error
    if not variables or len(variables) < len(shapes):
        missing = ", ".join(shapes.keys() - variables) or "any variable"
        raise WeightsError(f"{path} is a TensorFlow checkpoint without values of {missing}. Is it complete?")
    return variables


def _content(path: Path) -> bytes:
    """The checkpoint's bytes, out of the archive if it is one."""
    data = path.read_bytes()
    if not data.startswith(GZIP):
        return data
    try:
        with gzip.open(io.BytesIO(data)) as compressed:
            unpacked = compressed.read(MAX_BYTES + 1)  # to the end, where the checksum is
        if len(unpacked) > MAX_BYTES:
            raise WeightsError(f"{path} holds more than {MAX_BYTES} bytes; expected a checkpoint of less")
        with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
            for member in archive:
                # no link, and no sparse file, which may be of any length
                if member.name.endswith(".ckpt") and member.isreg() and not member.issparse():
                    file = archive.extractfile(member)
                    assert file is not None  # it is a regular one
                    return file.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        raise WeightsError(f"{path} is a damaged archive: {error}. Is it complete?") from error
    raise WeightsError(f"{path} has no .ckpt in it")


def _values(data: memoryview) -> Iterator[memoryview]:
    """The table's values in order of their keys; the first says what the others hold."""
    if len(data) < FOOTER_BYTES or int.from_bytes(data[-8:], "little") != MAGIC:
        raise Malformed("it does not end as a table does")
    footer = data[-FOOTER_BYTES:]
    _, at = varint(footer, 0)
    _, at = varint(footer, at)
    read = 0
    for handle in _entries(_block(data, *_handle(footer[at:]))):
        offset, size = _handle(handle)
        if offset < read:  # or a few bytes could make us read the others any number of times
            raise Malformed(f"the block at byte {offset} begins within the one before, which ends at {read}")
        read = offset + size
        yield from _entries(_block(data, offset, size))


def _handle(handle: memoryview) -> tuple[int, int]:
    """Offset and size of a block: two varints."""
    offset, at = varint(handle, 0)
    return offset, varint(handle, at)[0]


def _block(data: memoryview, offset: int, size: int) -> memoryview:
    if offset + size >= len(data):
        raise Malformed(f"a block of {size} bytes is announced at byte {offset} of {len(data)}")
    if data[offset + size] != PLAIN:
        raise Malformed(f"the block at byte {offset} is compressed")
    return data[offset : offset + size]


def _entries(block: memoryview) -> Iterator[memoryview]:
    """A block's values. Keys are not needed; places to restart from, counted at the block's end, neither."""
    end = len(block) - 4 * (int.from_bytes(block[-4:], "little") + 1)
    at = 0
    while at < end:
        _, at = varint(block, at)
        key, at = varint(block, at)
        size, at = varint(block, at)
        if at + key + size > end:
            raise Malformed(f"an entry of {key + size} bytes is announced in a block of {end}")
        yield block[at + key : at + key + size]
        at += key + size


def _shapes(meta: memoryview) -> Iterator[tuple[str, list[int]]]:
    """Name and shape of each float32 tensor in a SavedTensorSliceMeta."""
    for number, tensor in fields(meta):
        if number != 1 or not isinstance(tensor, memoryview):
            continue
        name, shape, kind = "", [], 0
        for n, value in fields(tensor):
            match n, value:
                case 1, memoryview():
                    name = bytes(value).decode()
                case 2, memoryview():
                    dims = [dict(fields(dim)) for m, dim in fields(value) if m == 2 and isinstance(dim, memoryview)]
                    shape = [size for dim in dims if isinstance(size := dim.get(1, 0), int)]
                case 3, int():
                    kind = value
        if kind == FLOAT32:
            yield name, shape


def _saved(slice_: memoryview) -> tuple[str, np.ndarray]:
    """Name and numbers of a SavedSlice, which is of the whole tensor: these networks were never saved in parts."""
    name, chunks = "", [np.empty(0, np.float32)]
    for number, value in fields(slice_):
        match number, value:
            case 1, memoryview():
                name = bytes(value).decode()
            case 3, memoryview():
                for n, floats in fields(value):
                    if n == 5 and isinstance(floats, memoryview):
                        if len(floats) % 4:
                            raise Malformed(f"{name} has {len(floats)} bytes of floats, no multiple of 4")
                        chunks.append(np.frombuffer(floats, "<f4"))
    return name, np.concatenate(chunks)


def _tensor(name: str, numbers: np.ndarray, shape: list[int]) -> Tensor:
    refuse_shape(name, shape, numbers.size)
    return torch.from_numpy(numbers).reshape(shape)
