"""Reading tensors by name, from PyTorch's state dicts and from safetensors, without running what a pickle says."""

import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from microscope_atlas.errors import WeightsError
from microscope_atlas.models.formats.form import Form, form


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name; WeightsError where the file is damaged or holds anything but tensors."""
    refuse_compressed(path)
    return _tensors(_loaded(path), path)


def _loaded(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged stream leads the unpickler into errors of any type
        raise WeightsError(f"{path} is not a state dict of tensors alone: {error}") from error


def _tensors(tensors: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise WeightsError(f"{path} is not a state dict: expected tensors by name, found {type(tensors).__name__}")
    return tensors


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a state dict or safetensors, whichever it is, out of what training puts around them.

    That is a dictionary with the state dict in one of WRAPPED, and `module.` before every name of a network that was
    trained on several devices.
    """
    if form(path) is Form.SAFETENSORS:
        return _own_names(read_safetensors(path))
    refuse_compressed(path)
    loaded = _loaded(path)
    inner = next(
        (loaded[name] for name in WRAPPED if isinstance(loaded, dict) and isinstance(loaded.get(name), dict)), loaded
    )
    return _own_names(_tensors(inner, path))


WRAPPED = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema")
PARALLEL = "module."


def _own_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    if not all(name.startswith(PARALLEL) for name in tensors):
        return tensors
    return {name.removeprefix(PARALLEL): value for name, value in tensors.items()}


def refuse_compressed(path: Path) -> None:
    """WeightsError for an archive that holds more bytes than it has: PyTorch writes none, but would unpack it."""
    try:
        if not zipfile.is_zipfile(path):
            return  # the form of before 2020, or none: PyTorch says
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path} is a damaged zip archive: {error}") from error
    if unpacked > path.stat().st_size:
        raise WeightsError(f"{path} is compressed, to {unpacked} bytes unpacked; expected what torch.save wrote")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a safetensors file; WeightsError where it is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file: {error}. Is it complete?") from error
