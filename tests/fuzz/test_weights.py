"""Hostile files of weights, of every container that is read: each is read, or refused as what it is."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
from dataclasses import asdict
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import save

from microscope_atlas.atlas.provenance import Provenance
from microscope_atlas.models import converted
from microscope_atlas.models.formats.caffemodel import read_caffemodel
from microscope_atlas.models.formats.checkpoint import read_checkpoint
from microscope_atlas.models.formats.graphdef import read_graphdef
from microscope_atlas.models.formats.state_dict import read_safetensors, read_state_dict
from microscope_atlas.models.formats.table import MAGIC
from microscope_atlas.models.formats.torchscript import read_torchscript
from tests.fuzz import cases as generated
from tests.fuzz.limits import reads
from tests.fuzz.mutation import LENGTHS, mutated, survived
from tests.models.formats import test_torchscript as torchscript
from tests.models.formats.test_graphdef import BY_TENSORFLOW, some_constants
from tests.references.caffemodel import caffemodel, field, varint
from tests.references.graphdef import const, floats, graphdef
from tests.references.slim.shared_weights import FOLDER

CAFFE = {
    "conv1/7x7_s2": [np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), np.array([1, 2], np.float32)],
    "fc": [np.ones((4, 5), np.float32)],
}
TENSORS = {"conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2), "fc.bias": torch.tensor([1.5, -2.0])}
ARCHIVE = FOLDER / "checkpoint.tar.gz"


def older_caffemodel() -> bytes:
    """As files were before 2015, its numbers one at a time."""
    sizes = b"".join(varint(number << 3) + varint(size) for number, size in ((1, 1), (2, 1), (3, 1), (4, 2)))
    numbers = b"".join(varint(5 << 3 | 5) + np.float32(x).tobytes() for x in (1.5, -2.0))
    return field(1, b"net") + field(2, field(4, b"ip") + field(6, sizes + numbers))


@generated.of("caffemodels")
def test_caffemodels(tmp_path: Path, cases: int) -> None:
    found = survived(read_caffemodel, [caffemodel(CAFFE), older_caffemodel()], tmp_path / "net.caffemodel", cases)
    assert 0 < found < cases


# protobufs of any fields, nested, and of those that caffemodels and GraphDefs have
NUMBER = st.sampled_from((0, 1, 2, 4, 5, 6, 7, 8, 13, 100, 2**29 - 1))
VARINT = st.sampled_from(LENGTHS) | st.integers(0, 2**64 - 1)
SCALAR = st.builds(lambda number, value: varint(number << 3) + varint(value), NUMBER, VARINT)
MESSAGE = st.recursive(
    st.lists(SCALAR, max_size=4).map(b"".join) | st.binary(max_size=16),
    lambda inner: st.lists(st.builds(field, NUMBER, inner) | SCALAR, max_size=6).map(b"".join),
    max_leaves=16,
)


@generated.of("protobufs")
def test_protobufs_of_any_shape(tmp_path: Path, cases: int) -> None:
    path = tmp_path / "net"

    def one(content: bytes) -> None:
        path.write_bytes(content)
        for read in (read_caffemodel, read_graphdef):
            reads(read, path, f"{read.__name__} of {content!r}")

    generated.each(MESSAGE, cases, one)


# tensors of any type, shape and numbers, which random protobufs hardly ever reach
KIND = st.builds(lambda kind: varint(1 << 3) + varint(kind), st.sampled_from((1, 2, 3, 7, 9, 14, 19)) | VARINT)
SIZE = st.integers(0, 3) | VARINT
SHAPE = st.lists(SIZE, max_size=3).map(
    lambda sizes: field(2, b"".join(field(2, varint(1 << 3) + varint(size)) for size in sizes))
)
HELD = st.builds(field, st.sampled_from((4, 5, 6, 7, 10, 13)), st.binary(max_size=3).map(lambda b: b * 8)) | st.builds(
    lambda number, value: varint(number << 3) + varint(value), st.sampled_from((5, 7, 10, 13)), VARINT
)
TENSOR_PROTO = st.builds(lambda *parts: b"".join((*parts[:2], *parts[2])), KIND, SHAPE, st.lists(HELD, max_size=4))


@generated.of("tensors of graphdefs")
def test_tensors_of_graphdefs_of_any_fields(tmp_path: Path, cases: int) -> None:
    path = tmp_path / "net.pb"
    read = 0

    def one(tensor: bytes) -> None:
        nonlocal read
        path.write_bytes(const("a", tensor) + const("b", tensor))
        read += reads(read_graphdef, path, f"a tensor of {tensor!r}")

    generated.each(TENSOR_PROTO, cases, one)
    assert 0 < read < cases


def graph() -> bytes:
    return graphdef(some_constants())


def zipped(content: bytes, name: str = "net.pb") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return file.getvalue()


@generated.of("graphdefs")
def test_graphdefs(tmp_path: Path, cases: int) -> None:
    repeated = filled(1000)
    assert (
        0 < survived(read_graphdef, [graph(), repeated, BY_TENSORFLOW.read_bytes()], tmp_path / "net.pb", cases) < cases
    )


@generated.of("zipped graphdefs")
def test_zipped_graphdefs(tmp_path: Path, cases: int) -> None:
    assert survived(read_graphdef, [zipped(graph())], tmp_path / "net.zip", cases) < cases


def filled(size: int, nodes: int = 1) -> bytes:
    """A GraphDef whose constants are one value each, said to be repeated."""
    return b"".join(floats(str(number), [size], [1.5]) for number in range(nodes))


def checkpoint() -> bytes:
    with tarfile.open(ARCHIVE) as archive:
        file = archive.extractfile("net.ckpt")
        assert file
        return file.read()


def ending(content: bytes, random: Random) -> bytes:
    """With the number that ends a checkpoint in its place, as often as not."""
    return content if random.random() < 0.3 else content[:-8] + MAGIC.to_bytes(8, "little")


@generated.of("checkpoints")
def test_checkpoints(tmp_path: Path, cases: int) -> None:
    assert 0 < survived(read_checkpoint, [checkpoint()], tmp_path / "net.ckpt", cases, ending) < cases


@generated.of("archived checkpoints")
def test_archived_checkpoints(tmp_path: Path, cases: int) -> None:
    """Damage to the compressed file itself, and within it."""
    path, plain = tmp_path / "net.tar.gz", gzip.decompress(ARCHIVE.read_bytes())

    def within(_: bytes, random: Random) -> bytes:
        return gzip.compress(mutated([plain], random), 1)

    assert survived(read_checkpoint, [ARCHIVE.read_bytes()], path, cases // 2) < cases // 2
    assert survived(read_checkpoint, [ARCHIVE.read_bytes()], path, cases // 2, within) < cases // 2


def kept() -> bytes:
    """Converted weights, as the cache and mirrors hold them."""
    about = Provenance("https://example.org/net.pth", "0" * 64, "CC0-1.0", official=True, ignored=("step",))
    header = {"sha256": converted.identity(TENSORS), "provenance": json.dumps(asdict(about))}
    return save(TENSORS, metadata=header)


@generated.of("safetensors")
def test_safetensors(tmp_path: Path, cases: int) -> None:
    path = tmp_path / "net.safetensors"
    assert 0 < survived(read_safetensors, [save(TENSORS), kept()], path, cases) < cases


@generated.of("kept weights")
def test_kept_weights(tmp_path: Path, cases: int) -> None:
    assert survived(converted.read, [kept()], tmp_path / "net.safetensors", cases) < cases


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from((*LENGTHS, -1)) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
TENSOR = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(("F32", "F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "F4", "C64", "X"))
        | JSON,
        "shape": st.lists(st.sampled_from((0, 1, 2, 4, *LENGTHS)), max_size=3) | JSON,
        "data_offsets": st.tuples(st.integers(0, 16), st.integers(0, 16)) | JSON,
    }
)
HEADER = st.dictionaries(st.sampled_from(("a", "b", "__metadata__")) | st.text(max_size=4), TENSOR | JSON, max_size=3)


@generated.of("safetensors of any header")
def test_safetensors_of_any_header(tmp_path: Path, cases: int) -> None:
    path = tmp_path / "net.safetensors"

    def one(header: object) -> None:
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
        for read in (read_safetensors, converted.read):
            reads(read, path, f"{read.__name__} with {text!r}")

    generated.each(HEADER, cases, one)


def state_dict(zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save(TENSORS, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore")  # PyTorch's own, of what it reads
@generated.of("state dicts")
def test_state_dicts(tmp_path: Path, cases: int) -> None:
    files = [state_dict(zipped=True), state_dict(zipped=False)]
    assert 0 < survived(read_state_dict, files, tmp_path / "net.pth", cases) < cases


@pytest.mark.filterwarnings("ignore:`torch.jit")
@generated.of("torchscript archives")
def test_torchscript_archives(tmp_path: Path, cases: int) -> None:
    """Damage to the archive itself, and to its pickle, whose checksum is put right."""
    whole = torchscript.archive()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        content = next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))

    def within(_: bytes, random: Random) -> bytes:
        return torchscript.remade(whole, {"data.pkl": mutated([content, torchscript.described()], random)})

    path = tmp_path / "net.pt"
    assert survived(read_torchscript, [whole], path, cases // 2) < cases // 2
    assert 0 < survived(read_torchscript, [whole], path, cases // 2, within) < cases // 2


# pickles of any instructions: what is put down, taken and called, in any order
CODE = st.sampled_from(
    (
        *(b"(", b"t", b"}", b"]", b")", b"N", b"\x88", b"s", b"u", b"a", b"e", b"R", b"b", b"\x81", b"Q", b"q\x00"),
        *(b"h\x00", b"\x85", b"\x86", b"\x87", b"\x94", b"0", b"2", b"1", b"K\x02", b"J\xff\xff\xff\xff"),
        *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n", b"c__torch__\nA\n", b"cos\nsystem\n"),
        *(b"ccollections\nOrderedDict\n", b"ctorch.jit._pickle\nrestore_type_tag\n", b"X\x07\x00\x00\x00storage"),
        *(b"X\x01\x00\x00\x00a", b"\x8a\x05aaaaa", b"\x8b\xff\xff\xff\x7f", b"I99\n", b"L99L\n", b"F1.5\n"),
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
    )
)


@pytest.mark.filterwarnings("ignore:`torch.jit")
@generated.of("pickles in archives")
def test_pickles_of_any_instructions(tmp_path: Path, cases: int) -> None:
    path, whole, read = tmp_path / "net.pt", torchscript.archive(), 0

    def one(codes: list[bytes]) -> None:
        nonlocal read
        path.write_bytes(torchscript.remade(whole, {"data.pkl": torchscript.pickle(*codes)}))
        read += reads(read_torchscript, path, f"a pickle of {codes!r}")

    generated.each(st.lists(CODE, max_size=12), cases, one)
    assert 0 < read < cases
