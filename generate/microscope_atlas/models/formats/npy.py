"""Reading NumPy's files of dictionaries of arrays, as caffe-tensorflow writes weights, without running what is in them.

Such a file is an array of one object: a pickle, which NumPy itself reads only by running it. The header is described at
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

import ast
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from microscope_atlas.errors import WeightsError
from microscope_atlas.models.formats.protobuf import Malformed
from microscope_atlas.models.formats.unpickler import Known, Machine, Rebuilt

MAGIC = b"\x93NUMPY"
OBJECTS = "|O"  # the type of a dictionary
NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")  # before NumPy 2, and since
PAIR = ("weights", "biases")  # what a list of a layer's arrays holds
MOST_HEADER = 1 << 16  # bytes


def read_dictionary(path: Path) -> dict[str, Tensor]:
    """Arrays by name, float32 or whole numbers: `conv1/weights` is the first of layer conv1, or the one called so.

    Raises WeightsError where the file is damaged, or holds anything but arrays in dictionaries and lists.
    """
    try:
        content = _content(path.read_bytes())
        if not isinstance(content, dict):
            raise Malformed(f"it holds a {type(content).__name__}, no dictionary")
        return {
            f"{layer}/{name}": _tensor(value, f"{layer}/{name}")
            for layer, held in content.items()
            for name, value in _named(held, str(layer))
        }
    except (Malformed, OSError) as error:
        raise WeightsError(f"{path} is not read as a dictionary of arrays: {error}") from error


def holds_objects(start: bytes) -> bool:
    """Whether a NumPy file that begins so holds objects, not numbers."""
    try:
        return _header(start)[0].get("descr") == OBJECTS
    except Malformed:
        return False


def _content(data: bytes) -> Any:
    about, at = _header(data)
    if about.get("descr") != OBJECTS:
        raise Malformed(f"it is an array of {about.get('descr')!r}, of no names")
    made = Machine(_find, lambda _: None).read(data[at:])
    values = made.values() if isinstance(made, _Array) else None
    if not isinstance(values, list) or len(values) != 1:
        raise Malformed("it does not hold one object")
    return values[0]


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    """What the header says, and where the content begins."""
    if not data.startswith(MAGIC) or len(data) < 12:
        raise Malformed("it does not begin as NumPy's files do")
    wide = 2 if data[6] == 1 else 4  # bytes of the header's length, by version
    at = 8 + wide
    end = at + int.from_bytes(data[8:at], "little")
    if end - at > MOST_HEADER or end > len(data):
        raise Malformed(f"its header is of {end - at} bytes")
    try:
        about = ast.literal_eval(data[at:end].decode("latin-1"))
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise Malformed(f"its header does not read: {error}") from error
    if not isinstance(about, dict):
        raise Malformed("its header is no dictionary")
    return about, end


class _Type(Rebuilt):
    """A dtype."""

    def __init__(self, name: Any, *_: Any):
        plain = str(name).lstrip("<>=|")
        if plain not in NUMBERS and not plain.startswith("O"):
            raise Malformed(f"an array is of {plain[:20]!r}, expected numbers")
        self.name, self.order = plain, "<"

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise Malformed("a type is not described as NumPy does")
        self.order = state[1]


class _Array(Rebuilt):
    """An array, once its state is there."""

    def __init__(self, *_: Any):
        self.shape: tuple[int, ...] = ()
        self.type = _Type("f4")
        self.by_columns = False
        self.held: Any = None

    def set_state(self, state: Any) -> None:
        match state:
            case (int(), tuple() as shape, _Type() as type_, by_columns, bytes() | str() | list() as held):
                self.shape, self.type, self.by_columns, self.held = shape, type_, bool(by_columns), held
            case _:
                raise Malformed("an array is not described as NumPy does")

    def values(self) -> np.ndarray | list[Any]:
        """Its numbers, or its objects."""
        if self.type.name.startswith("O"):
            return self.held if isinstance(self.held, list) else []
        if isinstance(self.held, list):
            raise Malformed("an array of numbers has objects")
        data = self.held.encode("latin-1") if isinstance(self.held, str) else self.held  # Python 2's texts are bytes
        dtype = np.dtype(f"{'>' if self.type.order == '>' else '<'}{self.type.name}")
        sizes = self.shape
        if not all(type(size) is int and size >= 0 for size in sizes) or math.prod(sizes) * dtype.itemsize != len(data):
            raise Malformed(f"an array of shape {sizes} has {len(data)} bytes")
        return np.frombuffer(data, dtype).reshape(sizes, order="F" if self.by_columns else "C")


def _find(name: str) -> Known | None:
    """What NumPy's pickles of arrays ask for."""
    if name in [f"{module}._reconstruct" for module in MODULES]:
        return Known(call=_Array)
    if name == "numpy.ndarray":
        return Known(value="ndarray")
    if name == "numpy.dtype":
        return Known(call=_Type)
    if name == "_codecs.encode":  # bytes, in the second protocol
        return Known(call=_encoded)
    return None


def _encoded(text: Any, codec: Any) -> bytes:
    if not isinstance(text, str) or codec != "latin1":
        raise Malformed("bytes are not written as Python does")
    return text.encode("latin-1")


def _named(held: Any, layer: str) -> list[tuple[str, Any]]:
    """A layer's arrays by name."""
    if isinstance(held, dict):
        return [(str(name), value) for name, value in held.items()]
    values = held.values() if isinstance(held, _Array) and held.type.name.startswith("O") else held
    if isinstance(values, list | tuple) and 1 <= len(values) <= len(PAIR):
        return list(zip(PAIR, values, strict=False))
    raise Malformed(f"{layer} is neither a dictionary of arrays nor a list of {' and '.join(PAIR)}")


def _tensor(value: Any, name: str) -> Tensor:
    if not isinstance(value, _Array):
        raise Malformed(f"{name} is no array")
    numbers = value.values()
    if not isinstance(numbers, np.ndarray):
        raise Malformed(f"{name} is an array of objects")
    kind = np.float32 if numbers.dtype.kind == "f" else np.int64
    return torch.from_numpy(numbers.astype(kind))
