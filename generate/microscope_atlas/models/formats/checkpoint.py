"""Reading TensorFlow's checkpoints without TensorFlow: of the first version, a .ckpt file, and of the second.

TF-slim's trained networks of 2016 and 2017 were published as the first, in a .tar.gz. Such a checkpoint is a table of
protobufs `SavedTensorSlices`,
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/saved_tensor_slice.proto. The checksums within
are not verified, which would take minutes; a .tar.gz has one of the whole. For the second version see bundle.
"""

import re
from collections.abc import Iterator, Mapping
from glob import escape as glob_escape
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from microscope_atlas.errors import WeightsError
from microscope_atlas.models.formats.archive import unpacked
from microscope_atlas.models.formats.bundle import is_bundle, read_bundle
from microscope_atlas.models.formats.protobuf import Malformed, fields, refuse_shape
from microscope_atlas.models.formats.table import entries

FLOAT32 = 1  # of TensorFlow's DataType
DATA = re.compile(r"(.*)\.data-\d{5}-of-\d{5}")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Variables by name, in TensorFlow's layout; what is no float is left out, such as the step it was saved at.

    `path` is a .ckpt of version 1; an .index of version 2, with its data files beside it; a .tar, .tar.gz or .tgz with
    either; or the folder of a SavedModel. Raises WeightsError where it is none of these, or damaged.
    """
    files = _files(path)
    try:
        name, table = _table(files, path)
        first = next((value for _, value in entries(table)), None)
        if first is None or not is_bundle(first):
            return _variables(table, path)
        return read_bundle(table, lambda at, of: _data(files, name, at, of, path))
    except (Malformed, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} is not a whole TensorFlow checkpoint: {error}. Is it complete?") from error


def located(path: Path) -> Path:
    """The file that stands for a checkpoint: of a SavedModel's folder, of a data file, or of a name without ending."""
    if path.is_dir():
        return path / "variables" / "variables.index"
    of_data = DATA.fullmatch(path.name)
    index = path.with_name(f"{of_data[1] if of_data else path.name}.index")
    return index if index.is_file() and (of_data or not path.is_file()) else path


def parts(path: Path) -> list[Path]:
    """The files that a checkpoint is made of: the one that stands for it, and the data files beside it."""
    beside = path.parent.glob(f"{glob_escape(path.stem)}.data-*") if path.suffix == ".index" else ()
    return [path, *sorted(beside)]


def _files(path: Path) -> Mapping[str, memoryview]:
    """The files of a checkpoint by name, out of the archive if it is one."""
    path = located(path)
    if held := unpacked(path, lambda name: name.endswith((".ckpt", ".index")) or DATA.fullmatch(name) is not None):
        return held
    try:
        return {each.name: memoryview(each.read_bytes()) for each in parts(path)}
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error


def _table(files: Mapping[str, memoryview], path: Path) -> tuple[str, memoryview]:
    """The first file that is no data file, and its name."""
    for name, content in files.items():
        if not DATA.fullmatch(name):
            return name, content
    raise WeightsError(f"{path} has data of a checkpoint and no .index beside it")


def _data(files: Mapping[str, memoryview], index: str, at: int, of: int, path: Path) -> memoryview:
    name = f"{index.removesuffix('.index')}.data-{at:05}-of-{of:05}"
    if name not in files:
        raise WeightsError(f"{path} is the index of a checkpoint whose numbers lie in {name}, which is not beside it")
    return files[name]


def _variables(table: memoryview, path: Path) -> dict[str, Tensor]:
    """Variables of a checkpoint of version 1: the first value says what the others hold."""
    shapes: dict[str, list[int]] = {}
    variables = {}
    for _, value in entries(table):
        for number, message in fields(value):
            match number, message:
                case 1, memoryview():
                    shapes.update(_shapes(message))
                case 2, memoryview():
                    name, values = _saved(message)
                    if name in shapes:
                        variables[name] = _tensor(name, values, shapes[name])
    if not variables or len(variables) < len(shapes):
        missing = ", ".join(shapes.keys() - variables) or "any variable"
        raise WeightsError(f"{path} is a TensorFlow checkpoint without values of {missing}. Is it complete?")
    return variables


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
