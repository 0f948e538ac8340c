"""Small files that claim to be, or grow to, large ones: refused at no cost, by what they are."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest
from microscope_atlas.atlas.shards import OWN_METADATA, read_shard, unnoted
from microscope_atlas.atlas.units import MOST_UNITS, UnitRange, missing, union
from microscope_atlas.errors import AtlasError
from microscope_atlas.models import converted
from microscope_atlas.models.formats import archive as unpacking
from microscope_atlas.models.formats import graphdef
from microscope_atlas.models.formats.caffemodel import read_caffemodel
from microscope_atlas.models.formats.checkpoint import read_checkpoint
from microscope_atlas.models.formats.graphdef import read_graphdef
from microscope_atlas.models.formats.state_dict import read_safetensors, read_state_dict
from microscope_atlas.models.formats.table import FOOTER_BYTES, MAGIC
from tests.atlases import LENS
from tests.fuzz.limits import limited
from tests.fuzz.test_weights import filled, kept, state_dict, zipped
from tests.references.caffemodel import field, varint
from tests.references.graphdef import const, proto

HUGE = 1 << 60
GROWN = 160 << 20  # bytes that bombs grow to here, from less than 1 MB
ROOM = 64 << 20  # bytes that the memory may grow by


def refused(read: Callable[[Path], object], path: Path, content: bytes, match: str) -> None:
    path.write_bytes(content)
    with pytest.raises(AtlasError, match=match), limited(ROOM):
        read(path)


def test_gzip_that_grows_a_thousandfold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MAX_BYTES", 16 << 20)
    bomb = gzip.compress(bytes(GROWN), 1)
    assert len(bomb) < 1 << 20
    refused(read_checkpoint, tmp_path / "net.tar.gz", bomb, "holds more than 16777216 bytes")


def archive(member: tarfile.TarInfo, content: bytes = b"") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as made:
        made.addfile(member, io.BytesIO(content))
    return file.getvalue()


def member(kind: bytes, to: str = "", **about: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo("net.ckpt")
    made.type, made.linkname, made.pax_headers = kind, to, about
    return made


@pytest.mark.parametrize(
    "instead",
    [
        pytest.param(member(tarfile.SYMTYPE, "net.ckpt"), id="link to itself"),
        pytest.param(member(tarfile.SYMTYPE, "/etc/passwd"), id="link out of it"),
        pytest.param(member(tarfile.LNKTYPE, "net.ckpt"), id="hard link to itself"),
        pytest.param(member(tarfile.DIRTYPE), id="folder"),
        pytest.param(member(tarfile.FIFOTYPE), id="pipe"),
    ],
)
def test_archive_whose_checkpoint_is_no_file(tmp_path: Path, instead: tarfile.TarInfo) -> None:
    refused(read_checkpoint, tmp_path / "net.tar.gz", archive(instead), r"has no \.ckpt in it|damaged archive")


def test_sparse_file_of_any_length(tmp_path: Path) -> None:
    about = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.size": str(HUGE),
        "GNU.sparse.realsize": str(HUGE),
        "GNU.sparse.map": f"{HUGE - 1},1",
    }
    content = archive(member(tarfile.REGTYPE, **about))
    refused(read_checkpoint, tmp_path / "net.tar.gz", content, r"has no \.ckpt in it|damaged archive")


def entry(value: bytes) -> bytes:
    """Of a block: no shared bytes of the key, no key, a value."""
    return varint(0) + varint(0) + varint(len(value)) + value


def block(entries: bytes) -> bytes:
    return entries + bytes(4)  # nowhere to restart from, none of them


def test_checkpoint_whose_blocks_are_read_again_and_again(tmp_path: Path) -> None:
    data = block(entry(b"") * 100_000)
    handle = varint(0) + varint(len(data))
    index = block(entry(handle) * 50_000)
    at = len(data) + 1
    footer = varint(0) + varint(0) + varint(at) + varint(len(index))
    ending = footer.ljust(FOOTER_BYTES - 8, b"\0") + MAGIC.to_bytes(8, "little")
    content = data + b"\0" + index + b"\0" + ending
    refused(read_checkpoint, tmp_path / "net.ckpt", content, "begins within the one before")


def blob(dims: list[int]) -> bytes:
    return field(100, field(1, b"fc") + field(7, field(7, field(1, b"".join(map(varint, dims))))))


@pytest.mark.parametrize("dims", [[0, HUGE], [0, 1 << 69], [HUGE] * 20_000, [1] * 1000, [0] * 65, [HUGE, HUGE]])
def test_blob_of_any_shape(tmp_path: Path, dims: list[int]) -> None:
    refused(read_caffemodel, tmp_path / "net.caffemodel", blob(dims), "blob 0 of layer 'fc' is declared")


def test_graph_whose_constants_are_repeats_of_one_number(tmp_path: Path) -> None:
    for content in (filled(graphdef.MAX_NUMBERS), filled(1 << 20, nodes=1000)):
        refused(read_graphdef, tmp_path / "net.pb", content, "is declared .* but holds 1 numbers")
    (tmp_path / "net.pb").write_bytes(filled(1 << 20, nodes=4))
    assert sum(value.numel() for value in read_graphdef(tmp_path / "net.pb").values()) == 1 << 22


def test_graph_whose_numbers_are_listed_one_by_one(tmp_path: Path) -> None:
    """Two bytes of the file each, or one: none may become an object of its own."""
    one_by_one = const("a", proto(3, [1], values=(varint(7 << 3) + varint(5)) * 300_000))
    packed = const("a", proto(9, [1], values=field(10, bytes(2 << 20))))
    for content in (one_by_one, packed):
        refused(read_graphdef, tmp_path / "net.pb", content, r"is declared \(1,\) but holds")


def test_graph_of_nodes_without_number(tmp_path: Path) -> None:
    refused(read_graphdef, tmp_path / "net.pb", field(1, b"") * 400_000, "holds no constants")


def test_zip_that_grows_a_thousandfold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphdef, "MAX_BYTES", 16 << 20)
    bomb = zipped(bytes(GROWN))
    refused(read_graphdef, tmp_path / "net.zip", bomb, "holds a file of 167772160 bytes, expected at most 16777216")
    understated = bomb.replace(GROWN.to_bytes(4, "little"), (1 << 20).to_bytes(4, "little"))
    assert understated != bomb
    refused(read_graphdef, tmp_path / "net.zip", understated, "damaged zip archive|not a whole GraphDef")


@pytest.mark.parametrize("header", [HUGE.to_bytes(8, "little"), b"\xff" * 8, (90 << 20).to_bytes(8, "little")])
def test_safetensors_with_a_header_of_any_length(tmp_path: Path, header: bytes) -> None:
    refused(read_safetensors, tmp_path / "net.safetensors", header + b"{}", "not a whole safetensors file")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int64, torch.complex64])
def test_kept_weights_of_another_type(tmp_path: Path, dtype: torch.dtype) -> None:
    about = {"sha256": "0" * 64, "provenance": json.dumps({"source": "", "file_sha256": "", "license": "",
                                                           "official": True, "ignored": []})}  # fmt: skip
    content = save({"a": torch.zeros(2).to(dtype)}, metadata=about)
    refused(converted.read, tmp_path / "net.safetensors", content, f"'a' is {dtype}, expected float32")


@pytest.mark.parametrize("provenance", ["[" * 100_000, "[]", '{"source": 1}', '{"ignored": 5}', "null"])
def test_kept_weights_of_any_provenance(tmp_path: Path, provenance: str) -> None:
    content = save({"a": torch.zeros(2)}, metadata={"sha256": "0" * 64, "provenance": provenance})
    refused(converted.read, tmp_path / "net.safetensors", content, "is damaged")


def test_state_dict_within_a_zip_that_grows(tmp_path: Path) -> None:
    """PyTorch stores what it saves, and reads what another program has compressed as well, or not at all."""
    grown = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(state_dict(zipped=True))) as given, zipfile.ZipFile(grown, "w") as made:
        for each in given.infolist():
            content = bytes(GROWN) if each.filename.endswith("data/0") else given.read(each)
            made.writestr(each.filename, content, zipfile.ZIP_DEFLATED)
    assert len(grown.getvalue()) < 1 << 20
    refused(read_state_dict, tmp_path / "net.pth", grown.getvalue(), "is compressed")


def shard(rows: int, value: bytes = b"\0") -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": pa.array([value] * rows)}), sink, compression="zstd", use_dictionary=False)
    return bytes(sink.getvalue())


def test_parquet_page_that_claims_any_length(tmp_path: Path) -> None:
    """The page's header is thrift: uncompressed and compressed lengths are zigzag varints, fields 2 and 3."""
    content = shard(100)
    length = next(n for n in range(100, 3000) if b"\x15\x00\x15" + zigzag(n) + b"\x15" in content)
    claim = content.replace(
        b"\x15\x00\x15" + zigzag(length) + b"\x15", b"\x15\x00\x15" + zigzag(2**31 - 1) + b"\x15", 1
    )
    refused(read_shard, tmp_path / "a.parquet", claim, "cannot be read")


def zigzag(value: int) -> bytes:
    return varint(value << 1)


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"units": ' * 100_000])
def test_shard_that_states_anything_of_itself_is_not_taken_in(atlas: Path, text: bytes) -> None:
    manifest = read_manifest(Folder(atlas))
    path = next(iter(manifest.shards))
    del manifest.shards[path]
    content = read_shard(atlas / path).replace_schema_metadata({OWN_METADATA: text})
    pq.write_table(content, atlas / path)
    with limited():
        assert list(unnoted(Folder(atlas), manifest)) == []


def test_units_without_number_cost_nothing() -> None:
    with pytest.raises(ValueError, match=f"0:{MOST_UNITS}"):
        UnitRange(LENS, "m", "l", 0, 10**18)
    wanted = [UnitRange(LENS, "m", f"l{layer}", 0, MOST_UNITS) for layer in range(2000)]
    with limited():
        assert missing(wanted, wanted[1:]) == wanted[:1]
        assert union([*wanted, *wanted]) == sorted(wanted)


def test_the_least_of_what_is_refused_is_read(tmp_path: Path) -> None:
    """Or the bombs above might be refused for another reason."""
    (tmp_path / "a.safetensors").write_bytes(kept())
    assert converted.read(tmp_path / "a.safetensors").tensors
    (tmp_path / "a.parquet").write_bytes(shard(100))
    assert read_shard(tmp_path / "a.parquet").num_rows == 100
    (tmp_path / "a.caffemodel").write_bytes(field(100, field(1, b"fc") + field(7, field(7, field(1, varint(0))))))
    assert read_caffemodel(tmp_path / "a.caffemodel")["fc"][0].shape == (0,)
