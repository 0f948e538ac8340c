"""SAELens' dictionaries: a folder with `cfg.json` and `sae_weights.safetensors`.

As SAELens 6 writes them, and versions before, whose settings have other names. `W_enc` is (width, units). A TopK may be
multiplied by the length of its decoder's rows. BatchTopK is written as JumpReLU, with a threshold; where a training
run's own file says `batchtopk`, the threshold is lacking. Scaling by the average length of inputs is folded into the
weights when a run ends; a file in which it is not, cannot be read without its training run.
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from microscope_atlas.errors import DictionaryFailed, WeightsError
from microscope_atlas.models.dictionaries.dictionary import Activation, Dictionary, Treatment
from microscope_atlas.models.formats.state_dict import read_safetensors

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
TREATMENTS: dict[str, Treatment] = {"none": "none", "layer_norm": "layer_norm", "constant_norm_rescale": "unit_norm"}
# architecture -> activation; matryoshka's are nested in training alone
ACTIVATIONS: dict[str, Activation] = {
    **dict.fromkeys(("standard", "transcoder", "skip_transcoder"), "relu"),
    **dict.fromkeys(("jumprelu", "jumprelu_transcoder", "jumprelu_skip_transcoder"), "jumprelu"),
    "topk": "topk",
}


def read(folder: Path) -> Dictionary:
    """The dictionary of a folder."""
    config = settings(folder / CONFIG)
    try:
        tensors = read_safetensors(folder / WEIGHTS)
    except WeightsError as error:
        raise DictionaryFailed(str(error)) from error
    return made(config, tensors)


def settings(path: Path) -> dict[str, Any]:
    """A file of settings as JSON."""
    try:
        plain = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise DictionaryFailed(f"{path.name} cannot be read: {error}") from error
    if not isinstance(plain, dict):
        raise DictionaryFailed(f"{path.name} holds {type(plain).__name__}, expected settings by name")
    return plain


def made(config: dict[str, Any], tensors: dict[str, Tensor]) -> Dictionary:
    """The dictionary that settings and tensors say."""
    architecture = config.get("architecture", "standard")
    function = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    k = config.get("k", (config.get("activation_fn_kwargs") or {}).get("k"))
    activation = ACTIVATIONS.get("topk" if architecture == "standard" and function == "topk" else architecture)
    if architecture == "batchtopk" and "threshold" in tensors:
        activation = "jumprelu"
    if activation is None or (activation == "relu" and function != "relu"):
        lacks = ": its threshold at inference is not stored" if architecture == "batchtopk" else ""
        raise DictionaryFailed(f"its architecture is {architecture!r} with {function!r}, which is not read{lacks}")
    normalisation = config.get("normalize_activations") or "none"
    if normalisation not in TREATMENTS:
        raise DictionaryFailed(f"its input is scaled by {normalisation!r}, which is not folded into its weights")
    for name in ("W_enc", "b_enc"):
        if name not in tensors:
            raise DictionaryFailed(f"it has no {name}; it has {', '.join(list(tensors)[:6])}")
    encoder, bias = tensors["W_enc"].float().T, tensors["b_enc"].float()
    decoder = tensors["W_dec"].float() if "W_dec" in tensors else None
    if activation == "topk" and config.get("rescale_acts_by_decoder_norm") and decoder is not None:
        lengths = decoder.norm(dim=-1)
        encoder, bias, decoder = encoder * lengths[:, None], bias * lengths, decoder / lengths[:, None]
    shifted = config.get("apply_b_dec_to_input", True) and "transcoder" not in architecture and "b_dec" in tensors
    threshold = tensors["threshold"].float() if activation == "jumprelu" and "threshold" in tensors else None
    return Dictionary(
        encoder.contiguous(),
        activation,
        bias=bias,
        shift=tensors["b_dec"].float() if shifted else None,
        threshold=threshold,
        k=k if activation == "topk" else None,
        treatment=TREATMENTS[normalisation],
        decoder=None if decoder is None else decoder.contiguous(),
        decoder_bias=tensors["b_dec"].float() if "b_dec" in tensors else None,
        says=_says({**config, **(config.get("metadata") or {})}),
    )


def _says(config: dict[str, Any]) -> dict[str, str]:
    named = {"network": config.get("model_name"), "layer": config.get("hook_name", config.get("hook_point"))}
    if "transcoder" in config.get("architecture", "standard"):  # what is decoded is another place than what is read
        named["writes"] = config.get("hook_name_out") or "another place"
    return {name: str(value) for name, value in named.items() if value is not None}
