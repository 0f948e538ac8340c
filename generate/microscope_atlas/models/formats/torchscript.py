"""Reading the tensors of TorchScript archives, as OpenAI published CLIP, without running what is in them.

An archive is a zip of PyTorch's: the network's code, which is not looked at; `data.pkl`, a pickle of its modules by the
names of their attributes; and the bytes of each tensor, uncompressed. PyTorch describes it in
https://github.com/pytorch/pytorch/blob/main/torch/csrc/jit/docs/serialization.md. What torch.save writes of a
dictionary of tensors has the same form, and is read too.
"""

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from microscope_atlas.errors import WeightsError
from microscope_atlas.models.formats.protobuf import Malformed
from microscope_atlas.models.formats.unpickler import Known, Machine, Record

MODULES = "__torch__."  # names within the archive begin so: types of its own modules
STORAGES = {
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.BoolStorage": torch.bool,
    "torch.ByteStorage": torch.uint8,
    "torch.CharStorage": torch.int8,
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.IntStorage": torch.int32,
    "torch.LongStorage": torch.int64,
    "torch.ShortStorage": torch.int16,
}
AS_IT_IS = ("build_boollist", "build_doublelist", "build_intlist", "build_tensorlist", "restore_type_tag")
MOST_ATTRIBUTES = 100_000  # of all modules together
MOST_LEVELS = 64  # modules within modules


class Storage(NamedTuple):
    """The bytes of one tensor or several."""

    key: str  # its name in the archive
    dtype: torch.dtype
    length: int  # numbers


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Tensors by the path of their module, `visual.layer4.5.conv1.weight`, of the types that the file has.

    Raises WeightsError where the file is no whole archive, or its pickle asks for anything but data.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return dict(_tensors(_Archive(archive, path.stat().st_size).content()))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, struct.error, NotImplementedError) as error:
        raise WeightsError(f"{path} is not a whole TorchScript archive: {error}. Is it complete?") from error
    except (Malformed, ValueError, RuntimeError, KeyError, OverflowError) as error:  # RuntimeError: encrypted
        raise WeightsError(f"{path} is not read as a TorchScript archive: {error}") from error


class _Archive:
    def __init__(self, archive: zipfile.ZipFile, size: int):
        self.archive, self.size = archive, size
        roots = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise Malformed(f"it has {len(roots)} files data.pkl, expected one")
        self.root = roots[0]
        self.members = {each.filename.removeprefix(self.root): each for each in archive.infolist()}
        self.read: dict[str, bytearray] = {}
        self.taken = 0  # bytes

    def content(self) -> Any:
        """What data.pkl holds."""
        if "byteorder" in self.members and self._bytes("byteorder") != b"little":
            raise Malformed("its numbers have their bytes the other way round")
        return Machine(self._find, _storage).read(self._bytes("data.pkl"))

    def _find(self, name: str) -> Known | None:
        if name.startswith(MODULES):
            return Known(record=True)
        if name in STORAGES:
            return Known(STORAGES[name])
        if name == "torch._utils._rebuild_tensor_v2":
            return Known(call=self._tensor)
        if name == "collections.OrderedDict":
            return Known(call=dict)
        if name in [f"torch.jit._pickle.{each}" for each in AS_IT_IS]:
            return Known(call=lambda value, *_: value)
        return None

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
        """As torch._utils._rebuild_tensor_v2; a tensor has no more numbers than its storage."""
        if not isinstance(storage, Storage):
            raise Malformed("a tensor has no storage")
        sizes, strides = _numbers(size), _numbers(stride)
        (start,) = _numbers((offset,))
        last = start + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
        if math.prod(sizes) > storage.length or (0 not in sizes and last >= storage.length):
            raise Malformed(f"a tensor of shape {sizes} does not fit in a storage of {storage.length}")
        flat = torch.frombuffer(self._numbers(storage), dtype=storage.dtype) if storage.length else torch.empty(0)
        return flat.to(storage.dtype).as_strided(sizes, strides, start)

    def _numbers(self, storage: Storage) -> bytearray:
        if storage.key not in self.read:
            self.read[storage.key] = bytearray(self._bytes(f"data/{storage.key}"))
        content = self.read[storage.key]
        if len(content) != storage.length * storage.dtype.itemsize:
            raise Malformed(f"data/{storage.key} has {len(content)} bytes, expected {storage.length} {storage.dtype}")
        return content

    def _bytes(self, name: str) -> bytes:
        """Of a member, which is not compressed: so all of them together are no larger than the file."""
        if name not in self.members:
            raise Malformed(f"it has no {name}")
        member = self.members[name]
        self.taken += member.file_size
        if member.compress_type != zipfile.ZIP_STORED or self.taken > self.size:
            raise Malformed(f"{name} is compressed; expected what PyTorch wrote")
        return self.archive.read(member)


def _storage(persistent: Any) -> Storage:
    match persistent:
        case ("storage", torch.dtype() as dtype, str(key), str(), int(length)) if length >= 0:
            return Storage(key, dtype, length)
    raise Malformed("a storage is not described as PyTorch does")


def _numbers(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or not all(type(value) is int and value >= 0 for value in values):
        raise Malformed("a tensor's shape is not of whole numbers")
    return tuple(values)


def _tensors(content: Any) -> Iterator[tuple[str, Tensor]]:
    """Tensors among a module's attributes, its modules' and theirs."""
    left, seen = [("", content, 0)], 0
    while left:
        name, value, level = left.pop()
        seen += 1
        if seen > MOST_ATTRIBUTES or level > MOST_LEVELS:
            raise Malformed(f"its modules have more than {MOST_ATTRIBUTES} attributes, or {MOST_LEVELS} levels")
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, Record | dict):
            inner = value.state if isinstance(value, Record) else value
            left += [(f"{name}.{key}" if name else str(key), each, level + 1) for key, each in inner.items()]
