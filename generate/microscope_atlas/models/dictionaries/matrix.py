"""Directions from a plain matrix: `.npy`, or the one tensor of two axes in a `.safetensors` file.

Rows are units, columns the units of the layer that they are directions in. The header of a safetensors file may say
`model` and `layer`, the names that keys have: then it fits no others.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from microscope_atlas.errors import DictionaryFailed
from microscope_atlas.models.dictionaries.dictionary import Dictionary, directions


def read_npy(path: Path) -> Dictionary:
    """Directions from an array of numbers; nothing that is pickled in it is read."""
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError, MemoryError) as error:
        raise DictionaryFailed(f"it is no array of numbers: {error}") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise DictionaryFailed(f"it is no array of numbers, but of {getattr(values, 'dtype', type(values).__name__)}")
    with np.errstate(over="ignore"):  # values beyond float32 are refused as not finite, in a sentence
        matrix = np.ascontiguousarray(values, dtype=np.float32)
    return directions(torch.from_numpy(matrix))


def read_safetensors(path: Path) -> Dictionary:
    """Directions from the one matrix of a file."""
    try:
        with safe_open(path, framework="pt") as file:
            says = file.metadata() or {}
            matrices = [name for name in file.keys() if len(file.get_slice(name).get_shape()) == 2]  # noqa: SIM118
            if len(matrices) != 1:
                raise DictionaryFailed(f"it has {len(matrices)} matrices; expected one, (units, width)")
            matrix = file.get_tensor(matrices[0])
    except (SafetensorError, OSError) as error:
        raise DictionaryFailed(f"it is no whole safetensors file: {error}") from error
    if matrix.is_complex():
        raise DictionaryFailed(f"it is no matrix of numbers, but of {str(matrix.dtype).removeprefix('torch.')}")
    return directions(matrix, {name: says[name] for name in ("model", "layer") if name in says})
