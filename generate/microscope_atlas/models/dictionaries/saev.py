"""saev's dictionaries: one line of JSON, then a state dict as torch.save writes it.

Three forms of the line are read: saev 0.1's, settings alone, and schema 1 with the name of the activation, both of
which take `b_dec` from the input; and schemas 1 to 5 with the activation as an object, which do not, as saev's source
has them (nn/modeling.py). BatchTopK stores the threshold of its inference; of files without one it is not known.
"""

import io
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from microscope_atlas.errors import DictionaryFailed, first_line
from microscope_atlas.models.dictionaries.dictionary import Dictionary
from microscope_atlas.models.dictionaries.prisma import is_tensors

MOST_HEADER = 1 << 16  # bytes of the line
SCHEMAS = (1, 2, 3, 4, 5)


def read(path: Path) -> Dictionary:
    """The dictionary of a file."""
    with path.open("rb") as file:
        line = file.readline(MOST_HEADER)
        content = io.BytesIO(file.read())
    try:
        header = json.loads(line)
        tensors = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged stream leads the unpickler into errors of any type
        told = first_line(error)
        raise DictionaryFailed(f"it is no line of JSON and a state dict of tensors: {told}") from error
    if not isinstance(header, dict) or not is_tensors(tensors):
        raise DictionaryFailed("it is no line of settings and a state dict of tensors")
    name, k, shifted = _activation(header)
    for wanted in ("W_enc", "b_enc"):
        if wanted not in tensors:
            raise DictionaryFailed(f"it has no {wanted}; it has {', '.join(list(tensors)[:6])}")
    encoder, b_dec = tensors["W_enc"].float().T.contiguous(), tensors.get("b_dec")
    threshold = _threshold(tensors, len(encoder)) if name == "BatchTopK" else None
    return Dictionary(
        encoder,
        {"Relu": "relu", "TopK": "topk", "BatchTopK": "jumprelu"}[name],  # type: ignore[arg-type]
        bias=tensors["b_enc"].float(),
        shift=b_dec.float() if shifted and b_dec is not None else None,
        threshold=threshold,
        k=k if name == "TopK" else None,
        signed=name == "TopK",
        decoder=tensors["W_dec"].float().contiguous() if "W_dec" in tensors else None,
        decoder_bias=b_dec.float() if b_dec is not None else None,
    )


def _activation(header: dict[str, Any]) -> tuple[str, int | None, bool]:
    """Its name, its k, and whether `b_dec` is taken from the input."""
    schema = header.get("schema")
    if schema is None:
        return "Relu", None, True
    config = header.get("cfg")
    if schema not in SCHEMAS or not isinstance(config, dict):
        raise DictionaryFailed(f"its schema is {schema!r}, expected one of {', '.join(map(str, SCHEMAS))}")
    told = config.get("activation")
    if told is None:
        name, k, shifted = header.get("cls", "Relu"), config.get("top_k", 32), True
    else:
        params = told.get("params") if isinstance(told, dict) else None
        name, k, shifted = (
            (told.get("cls"), params.get("top_k", 32), False) if isinstance(params, dict) else (told, None, False)
        )
    if name not in ("Relu", "TopK", "BatchTopK"):
        raise DictionaryFailed(f"its activation is {name!r}, expected Relu, TopK or BatchTopK")
    return name, k, shifted


def _threshold(tensors: dict[str, Tensor], units: int) -> Tensor:
    """Of BatchTopK at inference, for every unit."""
    stored = [value for name, value in tensors.items() if name.endswith("threshold") and value.numel() == 1]
    if len(stored) != 1:
        raise DictionaryFailed("its BatchTopK has no threshold to be applied by at inference")
    return stored[0].float().reshape(1).repeat(units)
