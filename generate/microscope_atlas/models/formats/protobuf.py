"""Protobuf's wire format: what it takes to read a message whose definition is small and known.

A message is fields, each a varint of (number << 3 | type) and a value: https://protobuf.dev/programming-guides/encoding
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
MAX_DIMENSIONS = 8  # of a tensor; a file may claim any number, of any size
MAX_VARINT = 10  # bytes of a number: 64 bits, seven a byte
CHUNK = 1 << 20  # bytes of a packed field that are taken at once


class Malformed(Exception):
    """Bytes that are no protobuf; readers turn it into an error that names the file."""


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field number and value of each field in a message; numbers as int, everything else as bytes."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise Malformed(f"field number 0 at byte {at}")
        if wire == VARINT:
            value, at = varint(data, at)
            yield number, value
            continue
        if wire == BYTES:
            length, at = varint(data, at)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise Malformed(f"wire type {wire} at byte {at}")
        if at + length > len(data):
            raise Malformed(f"{length} bytes are announced at byte {at}, {len(data) - at} are left")
        yield number, data[at : at + length]
        at += length


def refuse_shape(name: str, shape: Sequence[int], found: int) -> None:
    """Malformed where a tensor is declared with another shape than its `found` numbers can have."""
    if len(shape) > MAX_DIMENSIONS:
        raise Malformed(f"{name} is declared with {len(shape)} dimensions, expected at most {MAX_DIMENSIONS}")
    if math.prod(shape) != found or max(shape, default=0) > found:  # the latter where another dimension is 0
        raise Malformed(f"{name} is declared {tuple(shape)} but holds {found} numbers")


def varints(data: memoryview) -> Iterator[int]:
    """The numbers of a packed field."""
    at = 0
    while at < len(data):
        value, at = varint(data, at)
        yield value


def packed(data: memoryview) -> Iterator[NDArray[np.uint64]]:
    """The numbers of a packed field as `varints` gives them, of 64 bits, many at a time: a tensor may have millions."""
    at = 0
    while at < len(data):
        some = np.frombuffer(data[at : at + CHUNK], np.uint8)
        ends = np.flatnonzero(some < 0x80) + 1
        starts = np.concatenate([[0], ends[:-1]])
        if not len(ends) or (ends - starts).max() > MAX_VARINT:
            raise Malformed(f"no number ends within {MAX_VARINT} bytes at byte {at}")
        values = np.zeros(len(ends), np.uint64)
        for place in range(int((ends - starts).max())):
            further = starts + place < ends
            values[further] |= (some[starts[further] + place] & np.uint64(0x7F)) << np.uint64(7 * place)
        yield values
        at += int(ends[-1])


def signed(value: int) -> int:
    """A number as an int64, which below zero is written as its two's complement."""
    return value - (1 << 64) if value >> 63 == 1 else value


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number at byte `at`, seven bits a byte, and where it ends."""
    value = 0
    for shift in range(0, 7 * MAX_VARINT, 7):
        if at >= len(data):
            raise Malformed("it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Malformed(f"a number of over ten bytes at byte {at}")
