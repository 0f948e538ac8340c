"""Overcomplete's dictionaries: the state dict of one of its autoencoders with a linear encoder.

`encoder.final_block.0` gives the concepts; a batch norm behind it is folded into it. A state dict does not say how it
is rectified: a JumpReLU shows by its `thresholds`, whose exponentials are applied; of others a file of the same name
with `.json` behind it says `{"class": "SAE"}` or `{"class": "TopKSAE", "top_k": 32}`. The running threshold of a
BatchTopKSAE is no part of the state dict (overcomplete 0.3); the same file may say it: `{"class": "BatchTopKSAE",
"threshold": 0.5}`. How its decoder is normalised is not said either, so none is read.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from microscope_atlas.errors import DictionaryFailed
from microscope_atlas.models.dictionaries.dictionary import Dictionary
from microscope_atlas.models.dictionaries.saelens import settings

ENCODER = "encoder.final_block.0.weight"
NORM_EPS = 1e-5  # nn.BatchNorm1d's


def made(tensors: dict[str, Tensor], path: Path) -> Dictionary:
    """The dictionary of a state dict that was read from `path`."""
    if any(name.startswith("encoder.mlp_blocks.") for name in tensors):
        raise DictionaryFailed("its encoder has hidden layers; one linear layer is what is read")
    encoder, bias = tensors[ENCODER].float(), tensors.get("encoder.final_block.0.bias")
    bias = torch.zeros(len(encoder)) if bias is None else bias.float()
    if "encoder.final_block.1.weight" in tensors:
        encoder, bias = _without_norm(encoder, bias, tensors)
    told = _told(path)
    name = told.get("class") or ("JumpSAE" if "thresholds" in tensors else None)
    threshold, k = None, None
    match name:
        case "JumpSAE" if "thresholds" in tensors:
            threshold = tensors["thresholds"].float().exp()
        case "TopKSAE" if type(told.get("top_k")) is int:
            k = told["top_k"]
        case "BatchTopKSAE" if isinstance(told.get("threshold"), int | float):
            threshold = torch.full((len(encoder),), float(told["threshold"]))
        case "SAE":
            pass
        case _:
            raise DictionaryFailed(
                f"its state dict does not say how it is rectified; {path.name}.json may: "
                '{"class": "SAE"}, {"class": "TopKSAE", "top_k": 32} or {"class": "BatchTopKSAE", "threshold": 0.5}'
            )
    return Dictionary(
        encoder.contiguous(),
        "topk" if k is not None else "relu" if threshold is None else "jumprelu",
        bias=bias,
        threshold=threshold,
        k=k,
    )


def _without_norm(encoder: Tensor, bias: Tensor, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Encoder and bias with the batch norm behind them in them."""
    norm = {
        name: tensors.get(f"encoder.final_block.1.{name}") for name in ("weight", "bias", "running_mean", "running_var")
    }
    if any(value is None for value in norm.values()):
        raise DictionaryFailed("its encoder ends with a norm over all units, so that none of them can be encoded alone")
    weight, beta, mean, variance = (value.float() for value in norm.values() if value is not None)
    scale = weight / (variance + NORM_EPS).sqrt()
    return encoder * scale[:, None], (bias - mean) * scale + beta


def _told(path: Path) -> dict[str, Any]:
    beside = path.with_name(f"{path.name}.json")
    return settings(beside) if beside.is_file() else {}
