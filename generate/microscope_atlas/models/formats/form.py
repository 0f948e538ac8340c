"""What a file of weights is, by what is in it: names say nothing, as downloads are renamed and archives unpacked."""

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from microscope_atlas.errors import WeightsError
from microscope_atlas.models.formats.archive import BLOCK_BYTES, GZIP, is_tar
from microscope_atlas.models.formats.checkpoint import located
from microscope_atlas.models.formats.npy import MAGIC, holds_objects
from microscope_atlas.models.formats.protobuf import BYTES, Malformed, fields, varint
from microscope_atlas.models.formats.table import FOOTER_BYTES, is_table

LOOKED_AT = 1 << 16  # bytes from the start


class Form(StrEnum):
    """What it is called."""

    CHECKPOINT = "a TensorFlow checkpoint"
    GRAPH = "a frozen TensorFlow graph"
    CAFFEMODEL = "a caffemodel"
    TORCHSCRIPT = "a TorchScript archive"
    STATE_DICT = "a state dict of PyTorch"
    SAFETENSORS = "a safetensors file"
    HDF5 = "an HDF5 file, as Keras writes them"
    NPY = "an array of NumPy"
    NPY_DICTIONARY = "a dictionary of NumPy arrays"
    ZIP = "a zip archive with no weights that we know"
    PAGE = "a web page, not the file that its link names"
    POINTER = "a pointer of Git LFS, not the file that it stands for"
    EMPTY = "an empty file"
    UNKNOWN = "of no form that we know"


def form(path: Path) -> Form:
    """What a file is, or the folder of a SavedModel; WeightsError where it cannot be read."""
    path = located(path)
    try:
        with path.open("rb") as file:
            start = file.read(LOOKED_AT)
            size = file.seek(0, 2)
            file.seek(max(0, size - FOOTER_BYTES))
            end = file.read()
        if start.startswith(b"PK") and zipfile.is_zipfile(path):
            return _zipped(path)
        if start.startswith(GZIP):
            with gzip.open(path) as compressed:
                start = compressed.read(BLOCK_BYTES)
            return Form.CHECKPOINT if is_tar(start) or start[:1] not in (b"<", b"") else Form.UNKNOWN
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}. Is it complete?") from error
    return _plain(start, end, size)


def _plain(start: bytes, end: bytes, size: int) -> Form:
    """By how a file that is no archive begins and ends, and its bytes."""
    text = start[:512].lstrip().lower()
    if not start:
        return Form.EMPTY
    if is_tar(start) or is_table(end):
        return Form.CHECKPOINT
    if start.startswith(b"\x89HDF\r\n"):
        return Form.HDF5
    if start.startswith(MAGIC):
        return Form.NPY_DICTIONARY if holds_objects(start) else Form.NPY
    if start.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04")):  # a pickle, which torch.save wrote until 2020
        return Form.STATE_DICT
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8:
        return Form.SAFETENSORS
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return Form.PAGE
    if text.startswith(b"version https://git-lfs"):
        return Form.POINTER
    return _protobuf(memoryview(start))


def _zipped(path: Path) -> Form:
    with zipfile.ZipFile(path) as archive:
        names = [Path(name).name for name in archive.namelist()]
    if "data.pkl" in names:
        return Form.TORCHSCRIPT if "constants.pkl" in names else Form.STATE_DICT
    return Form.GRAPH if any(name.endswith(".pb") for name in names) else Form.ZIP


def _protobuf(start: memoryview) -> Form:
    """A graph begins with a node, a message with name and operation; Caffe's network with its name, or with layers."""
    first = next(_whole(start), None)
    match first:
        case (1, memoryview() as inner):
            node = dict(_whole(inner))
            return Form.GRAPH if all(isinstance(node.get(number), memoryview) for number in (1, 2)) else Form.CAFFEMODEL
        case (2 | 100, memoryview()):
            return Form.CAFFEMODEL
    return Form.UNKNOWN


def _whole(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Fields of a message as far as it goes: of the first one of a large file only the beginning is at hand."""
    try:
        tag, at = varint(data, 0)
        size, at = varint(data, at)
        if tag & 7 == BYTES and at + size > len(data):
            yield tag >> 3, data[at:]
            return
        yield from fields(data)
    except Malformed:
        return
