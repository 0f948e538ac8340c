"""Reading TorchScript archives: tensors by name, and whatever else is in one refused with the reason."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from microscope_atlas.errors import WeightsError
from microscope_atlas.models.formats.torchscript import read_torchscript
from microscope_atlas.models.formats.unpickler import Known, Machine

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")  # PyTorch would rather export; the files are as they are


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))


class Outer(nn.Module):
    """With what CLIP's files have beside weights: numbers, buffers, a module named by a number, a shared tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Sequential()
        self.visual.add_module("-1", nn.AvgPool2d(2))
        self.visual.add_module("0", Inner())
        self.table = nn.Parameter(torch.arange(6.0).reshape(3, 2).T)
        self.tied = self.table
        self.register_buffer("empty", torch.zeros(0, 4))
        self.size, self.sizes, self.word = 224, [1, 2], "text"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.visual(x) * self.table.sum()


def archive(module: nn.Module | None = None) -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script((module or Outer()).eval()), file)
    return file.getvalue()


def remade(content: bytes, members: Mapping[str, bytes | None], compress: int = zipfile.ZIP_STORED) -> bytes:
    """With some of an archive's members exchanged, or left out."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as given, zipfile.ZipFile(file, "w", compress) as made:
        names = [name for name in given.namelist() if "code" not in name]
        root = names[0].partition("/")[0]
        inside = {name.partition("/")[2]: given.read(name) for name in names} | dict(members)
        for name, held in inside.items():
            if held is not None:
                made.writestr(f"{root}/{name}", held)
    return file.getvalue()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_tensors_are_those_that_the_module_has(tmp_path: Path, dtype: torch.dtype) -> None:
    module = Outer().to(dtype)
    (tmp_path / "net.pt").write_bytes(archive(module))
    found, expected = read_torchscript(tmp_path / "net.pt"), module.state_dict()
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_traced_module_is_read(tmp_path: Path) -> None:
    module = Inner().eval()
    torch.jit.save(torch.jit.trace(module, torch.rand(1, 2, 4, 4)), tmp_path / "net.pt")
    found = read_torchscript(tmp_path / "net.pt")
    assert sorted(found) == sorted(module.state_dict())
    assert torch.equal(found["conv.weight"], module.state_dict()["conv.weight"])


def test_saved_dictionary_is_read(tmp_path: Path) -> None:
    torch.save(Outer().state_dict(), tmp_path / "net.pt")
    assert sorted(read_torchscript(tmp_path / "net.pt")) == sorted(Outer().state_dict())


def pickle(*lines: bytes) -> bytes:
    return b"\x80\x02" + b"".join(lines) + b"."


RAN = pytest.param(pickle(b"cos\nsystem\n(X\x04\x00\x00\x00exittR"), "it asks for os.system, which is code", id="call")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        RAN,
        pytest.param(pickle(b"cbuiltins\neval\n"), "asks for builtins.eval, which is code", id="name alone"),
        pytest.param(pickle(b"ctorch\nload\n"), "asks for torch.load, which is code", id="of torch"),
        pytest.param(
            pickle(b"ctorch._utils\n_rebuild_tensor\n"), "asks for torch._utils._rebuild_tensor", id="sibling"
        ),
        pytest.param(pickle(b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93"), "asks for os.system", id="stack"),
        pytest.param(pickle(b"(ios\nsystem\n"), "instruction INST", id="inst"),
        pytest.param(pickle(b"(cos\nsystem\no"), "asks for os.system", id="obj"),
        pytest.param(pickle(b"\x82\x01"), "instruction EXT1", id="extension"),
        pytest.param(pickle(b"P1\n"), "instruction PERSID", id="persistent"),
        pytest.param(pickle(b"c__torch__\nA\n(tR"), "calls what is no function", id="call of a module"),
        pytest.param(pickle(b"c__torch__\nA\n(K\x01t\x81"), "object of what is no type", id="argument"),
        pytest.param(pickle(b"ccollections\nOrderedDict\n)\x81"), "object of what is no type", id="new"),
        pytest.param(pickle(b"}K\x01b"), "for its attributes", id="build"),
        pytest.param(pickle(b"]}b"), "takes a list for a Record", id="build of a list"),
        pytest.param(pickle(b"}]K\x01s"), "has a list for a key", id="key"),
        pytest.param(pickle(b"K\x01Q"), "storage is not described", id="id"),
        pytest.param(pickle(b"h\x07"), "its pickle is damaged", id="memo"),
        pytest.param(pickle(b"t"), "its pickle is damaged", id="mark"),
        pytest.param(pickle(b"\x86"), "takes more than it has put down", id="stack empty"),
        pytest.param(b"\x80\x02}", "its pickle", id="no end"),
        pytest.param(b"", "its pickle", id="empty"),
        pytest.param(None, "has 0 files data.pkl", id="missing"),
    ],
)
def test_anything_but_data_is_refused_by_name(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(remade(archive(), {"data.pkl": content}))
    with pytest.raises(WeightsError, match=reason) as caught:
        read_torchscript(path)
    assert str(caught.value).startswith(str(path))


def described(**other: bytes) -> bytes:
    """A pickle of one tensor of two numbers, `a`, some of it otherwise."""
    parts = {
        "key": b"X\x01\x00\x00\x000",
        "kind": b"ctorch\nFloatStorage\n",
        "length": b"K\x02",
        "offset": b"K\x00",
        "size": b"(K\x02t",
        "stride": b"(K\x01t",
    } | other
    storage = b"(X\x07\x00\x00\x00storage%(kind)b%(key)bX\x03\x00\x00\x00cpu%(length)btQ"
    text = (
        b"}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n(" + storage + b"%(offset)b%(size)b%(stride)b\x89}tRs"
    )
    return pickle(text % {name.encode(): part for name, part in parts.items()})


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"size": b"(K\x03t"}, r"shape \(3,\) does not fit in a storage of 2"),
        ({"offset": b"K\x01"}, "does not fit"),
        ({"stride": b"(K\x02t"}, "does not fit"),
        ({"size": b"(M\xff\xfft", "stride": b"(K\x00t"}, "does not fit"),
        ({"size": b"(J\xff\xff\xff\xfft"}, "not of whole numbers"),
        ({"size": b"(X\x01\x00\x00\x002t"}, "not of whole numbers"),
        ({"stride": b"(tX\x00\x00\x00\x00"[:2]}, "is not read"),
        ({"length": b"K\x05"}, r"data/0 has 8 bytes, expected 5 torch.float32"),
        ({"kind": b"ctorch\nDoubleStorage\n"}, r"data/0 has 8 bytes, expected 2 torch.float64"),
        ({"kind": b"ctorch\nUntypedStorage\n"}, "asks for torch.UntypedStorage"),
        ({"key": b"X\x01\x00\x00\x009"}, "it has no data/9"),
        ({"key": b"X\x0b\x00\x00\x00../data.pkl"}, "it has no data/../data.pkl"),
    ],
)
def test_tensor_that_its_bytes_do_not_hold_is_refused(tmp_path: Path, part: dict[str, bytes], reason: str) -> None:
    path = tmp_path / "net.pt"
    members: dict[str, Any] = {"data/0": torch.tensor([1.5, -2.0]).numpy().tobytes()}
    path.write_bytes(remade(archive(), {**members, "data.pkl": described()}))
    assert read_torchscript(path)["a"].tolist() == [1.5, -2.0]
    path.write_bytes(remade(archive(), {**members, "data.pkl": described(**part)}))
    with pytest.raises(WeightsError, match=reason):
        read_torchscript(path)


@pytest.mark.parametrize("keep", [0, 30, 500, -1])
def test_cut_file_is_refused_by_name(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(archive()[:keep])
    with pytest.raises(WeightsError, match=r"net\.pt is not a whole TorchScript archive: .*Is it complete\?"):
        read_torchscript(path)


def test_damaged_tensor_is_refused(tmp_path: Path) -> None:
    content = archive()
    at = content.index(torch.arange(6.0).numpy().tobytes())
    (tmp_path / "net.pt").write_bytes(content[:at] + b"\x01" + content[at + 1 :])
    with pytest.raises(WeightsError, match="Bad CRC-32"):
        read_torchscript(tmp_path / "net.pt")


def test_compressed_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(remade(archive(), {}, zipfile.ZIP_DEFLATED))
    with pytest.raises(WeightsError, match="is compressed; expected what PyTorch wrote"):
        read_torchscript(tmp_path / "net.pt")


def test_bytes_in_the_other_order_are_refused(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(remade(archive(), {"byteorder": b"big"}))
    with pytest.raises(WeightsError, match="the other way round"):
        read_torchscript(tmp_path / "net.pt")


def test_modules_within_themselves_are_refused(tmp_path: Path) -> None:
    within = pickle(b"}q\x00X\x01\x00\x00\x00ah\x00s")
    (tmp_path / "net.pt").write_bytes(remade(archive(), {"data.pkl": within}))
    with pytest.raises(WeightsError, match="64 levels"):
        read_torchscript(tmp_path / "net.pt")
    twice = b"}" + b"".join(b"q%c}X\x01\x00\x00\x00ah%csX\x01\x00\x00\x00bh%cs" % (n, n, n) for n in range(40))
    (tmp_path / "net.pt").write_bytes(remade(archive(), {"data.pkl": pickle(twice)}))
    with pytest.raises(WeightsError, match="more than 100000 attributes"):
        read_torchscript(tmp_path / "net.pt")


def test_plain_values_come_back_as_they_were() -> None:
    import pickle as written  # Python's own writes; ours reads

    values = {"a": [1, -2, 3.5, "ü", None, True, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)], "b": {}, "c": 1 << 70}
    for protocol in (2, 3, 4):
        machine = Machine(lambda _: Known(), lambda given: given)
        assert machine.read(written.dumps(values, protocol)) == values
