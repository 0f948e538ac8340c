"""Reading tensors by name, from PyTorch's state dicts and from safetensors, without running what a pickle says."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from generate.errors import WeightsError


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name; WeightsError where the file is damaged or holds anything but tensors."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged stream leads the unpickler into errors of any type
        raise WeightsError(f"{path} is not a state dict of tensors alone: {error}") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise WeightsError(f"{path} is not a state dict: expected tensors by name, found {type(tensors).__name__}")
    return tensors


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a safetensors file; WeightsError where it is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file: {error}. Is it complete?") from error
