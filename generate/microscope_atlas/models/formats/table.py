"""Sorted tables of keys and values, which TensorFlow's checkpoints of both versions are, or have as their index.

https://github.com/google/leveldb/blob/main/doc/table_format.md. TensorFlow never compressed them.
"""

from collections.abc import Iterator

from microscope_atlas.models.formats.protobuf import Malformed, varint

MAGIC = 0xDB4775248B80FB57  # ends every table
FOOTER_BYTES = 48
PLAIN = 0  # the byte behind a block that is not compressed


def is_table(end: bytes) -> bool:
    """Whether a file that ends so is a table."""
    return len(end) >= FOOTER_BYTES and int.from_bytes(end[-8:], "little") == MAGIC


def entries(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The table's keys and values, in order of the keys; Malformed where it is none, or damaged."""
    if not is_table(bytes(data[-FOOTER_BYTES:])):
        raise Malformed("it does not end as a table does")
    footer = data[-FOOTER_BYTES:]
    _, at = varint(footer, 0)
    _, at = varint(footer, at)
    read = 0
    for _, handle in _entries(_block(data, *_handle(footer[at:]))):
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


def _entries(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """A block's keys and values. Places to restart from, counted at the block's end, are not needed."""
    end = len(block) - 4 * (int.from_bytes(block[-4:], "little") + 1)
    at, before = 0, b""
    while at < end:
        shared, at = varint(block, at)
        key, at = varint(block, at)
        size, at = varint(block, at)
        if at + key + size > end or shared > len(before):
            raise Malformed(f"an entry of {key + size} bytes is announced in a block of {end}")
        before = before[:shared] + bytes(block[at : at + key])
        yield before, block[at + key : at + key + size]
        at += key + size
