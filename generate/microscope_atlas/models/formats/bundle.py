"""TensorFlow's checkpoints of the second version: a table `NAME.index`, and the numbers in `NAME.data-00000-of-00001`.

What it is made of: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/tensor_bundle.proto. A
SavedModel has one in its folder `variables`. The checksums within are not verified.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from microscope_atlas.models.formats.numbers import FLOATS, TYPES, numbers
from microscope_atlas.models.formats.protobuf import Malformed, fields, refuse_shape
from microscope_atlas.models.formats.table import entries

Shard = Callable[[int, int], memoryview]  # number of a data file, and of how many -> its bytes


def is_bundle(first: memoryview) -> bool:
    """Whether a table's first value is an index's: it has the number of data files where version 1 has a message."""
    return next((isinstance(value, int) for number, value in fields(first) if number == 1), False)


def read_bundle(index: memoryview, shard: Shard) -> dict[str, Tensor]:
    """Variables of floats by name, in TensorFlow's layout, half and bfloat16 as float32; Malformed where damaged.

    What else is in it, such as the step it was saved at, is left out.
    """
    found: dict[str, Tensor] = {}
    shards: dict[int, memoryview] = {}
    num_shards, taken = 0, 0
    for key, value in entries(index):
        if not key:
            num_shards = next((n for number, n in fields(value) if number == 1 and isinstance(n, int)), 0)
            continue
        name, about = key.decode(), dict(fields(value))
        kind, at, offset, size = (_whole(about.get(number, 0)) for number in (1, 3, 4, 5))
        if kind not in FLOATS:
            continue
        if 7 in about:
            raise Malformed(f"{name} is saved in parts")
        if at >= num_shards:
            raise Malformed(f"{name} lies in data file {at} of {num_shards}")
        if at not in shards:
            shards[at] = shard(at, num_shards)
        taken += size
        if offset + size > len(shards[at]) or taken > sum(map(len, shards.values())):
            raise Malformed(f"{name} is said to lie at byte {offset} to {offset + size} of {len(shards[at])}")
        shape = _shape(about.get(2, memoryview(b"")))
        refuse_shape(name, shape, size // TYPES[kind].size)
        if math.prod(shape) * TYPES[kind].size != size:
            raise Malformed(f"{name} is declared {tuple(shape)} but has {size} bytes")
        found[name] = torch.from_numpy(numbers(kind, shards[at][offset : offset + size])).reshape(shape)
    return found


def _whole(value: int | memoryview) -> int:
    return value if isinstance(value, int) else 0


def _shape(shape: int | memoryview) -> list[int]:
    if isinstance(shape, int):
        raise Malformed("a shape is a number")
    sizes = [dict(fields(dim)) for number, dim in fields(shape) if number == 2 and isinstance(dim, memoryview)]
    return [_whole(dim.get(1, 0)) for dim in sizes]
