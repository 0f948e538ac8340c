"""What a file of weights is, by its content: written by the formats' own libraries, under names that say nothing."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from microscope_atlas.errors import WeightsError
from microscope_atlas.models.formats.form import Form, form
from microscope_atlas.models.formats.state_dict import read_tensors
from tests.references.caffemodel import caffemodel
from tests.references.slim.shared_weights import FOLDER

TENSORS = {"a": torch.arange(4.0), "b": torch.zeros(2)}


def written(**more: object) -> bytes:
    file = io.BytesIO()
    torch.save(TENSORS, file, **more)
    return file.getvalue()


def script() -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), file)
    return file.getvalue()


def array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, (FOLDER.parent / "graphdef.pb").read_bytes())
    return file.getvalue()


FILES: dict[str, tuple[Callable[[], bytes], Form]] = {
    "checkpoint": (lambda: (FOLDER / "checkpoint.tar.gz").read_bytes(), Form.CHECKPOINT),
    "graph": (lambda: (FOLDER.parent / "graphdef.pb").read_bytes(), Form.GRAPH),
    "zipped graph": (lambda: zipped("net/graph.pb"), Form.GRAPH),
    "caffemodel": (lambda: caffemodel({"conv1": [np.ones((2, 2), np.float32)]}), Form.CAFFEMODEL),
    "state dict": (written, Form.STATE_DICT),
    "state dict of before 2020": (lambda: written(_use_new_zipfile_serialization=False), Form.STATE_DICT),
    "safetensors": (lambda: save(TENSORS), Form.SAFETENSORS),
    "array": (array, Form.NPY),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), Form.HDF5),
    "other zip": (lambda: zipped("readme.txt"), Form.ZIP),
    "page": (lambda: b"\n<!DOCTYPE html><html>Not found</html>", Form.PAGE),
    "pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 3\n", Form.POINTER),
    "nothing": (lambda: b"", Form.EMPTY),
    "text": (lambda: b"weights", Form.UNKNOWN),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    content, expected = FILES[name]
    (tmp_path / "weights.bin").write_bytes(content())
    assert form(tmp_path / "weights.bin") is expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit's, which OpenAI's files were written by
def test_torchscript_is_told_from_a_state_dict(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(script())
    assert form(tmp_path / "weights.bin") is Form.TORCHSCRIPT


def test_cut_archive_is_refused_or_of_no_form(tmp_path: Path) -> None:
    whole = (FOLDER / "checkpoint.tar.gz").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:12])
    with pytest.raises(WeightsError, match=r"Is it complete\?"):
        form(tmp_path / "cut")
    (tmp_path / "cut").write_bytes(zipped("graph.pb")[:-30])
    assert form(tmp_path / "cut") is Form.UNKNOWN


@pytest.mark.parametrize("wrap", ["state_dict", "model", "model_state_dict"])
def test_state_dicts_are_taken_out_of_what_training_puts_around_them(tmp_path: Path, wrap: str) -> None:
    path = tmp_path / "trained.pt"
    torch.save({"epoch": 3, wrap: {f"module.{name}": value for name, value in TENSORS.items()}}, path)
    found = read_tensors(path)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], value) for name, value in TENSORS.items())


def test_safetensors_and_state_dicts_are_read_alike(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(save(TENSORS))
    (tmp_path / "b.bin").write_bytes(written())
    for name in ("a.bin", "b.bin"):
        assert all(torch.equal(read_tensors(tmp_path / name)[key], value) for key, value in TENSORS.items())
