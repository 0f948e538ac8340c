"""Reading safetensors: whole files as they are, damaged ones refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from microscope_atlas.errors import WeightsError
from microscope_atlas.models.formats.state_dict import read_safetensors

TENSORS = {"conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2), "fc.bias": torch.tensor([1.5, -2.0])}


def test_tensors_come_back_by_name(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    found = read_safetensors(tmp_path / "model.safetensors")
    assert sorted(found) == sorted(TENSORS)
    assert all(torch.equal(found[name], value) for name, value in TENSORS.items())


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_cut_file_is_refused_by_name(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"model\.safetensors is not a whole safetensors file"):
        read_safetensors(path)


def test_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"<html>not found</html>" * 20)
    with pytest.raises(WeightsError):
        read_safetensors(path)
