"""Prisma's dictionaries of vision transformers: `weights.pt` beside `config.json`, or older, both in one pickle.

By ViT-Prisma's source (sae/sae.py and sae/config.py of its versions 2 and 3); the package index has a version without
dictionaries. The older pickle holds the training's settings as an object of a class of Prisma's: an object without any
code stands in for it, and any other class in the file is refused. `b_dec` is taken from the input after it is treated.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from microscope_atlas.errors import DictionaryFailed, WeightsError, first_line
from microscope_atlas.models.dictionaries import saelens
from microscope_atlas.models.dictionaries.dictionary import Dictionary
from microscope_atlas.models.formats.state_dict import refuse_compressed

CONFIG = "config.json"
OWN = ("vit_prisma.", "pathlib.")  # modules whose classes may stand in a pickle, each replaced by Stub


class Stub:
    """An object of a class that is not loaded: what it was made of, and nothing that it could do."""

    def __init__(self, *parts: Any, **named: Any):
        self.parts = parts


def read(path: Path) -> Dictionary:
    """The dictionary of a file, with the settings in it or beside it."""
    found = unpickled(path)
    if isinstance(found, dict) and {"cfg", "state_dict"} <= found.keys():
        config, tensors = vars(found["cfg"]) if isinstance(found["cfg"], Stub) else found["cfg"], found["state_dict"]
    else:
        config, tensors = saelens.settings(path.parent / CONFIG), found
    tensors = tensors.get("state_dict", tensors) if isinstance(tensors, dict) else tensors
    if not isinstance(config, dict) or not is_tensors(tensors):
        raise DictionaryFailed("it holds no settings and tensors by name")
    made = saelens.made(_settings(config), tensors)
    tokens = "class" if config.get("cls_token_only") else "patches" if config.get("use_patches_only") else None
    return made if tokens is None else _saying(made, tokens)


def unpickled(path: Path) -> Any:
    """What a file of torch.save's holds, of tensors, plain values and stubs; DictionaryFailed for any other class."""
    try:
        refuse_compressed(path)
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        stubs: list[Any] = [(Stub, name) for name in named if name.startswith(OWN)]
        with torch.serialization.safe_globals(stubs):
            return torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError as error:
        raise DictionaryFailed(str(error)) from error
    except Exception as error:  # a damaged stream leads the unpickler into errors of any type
        told = first_line(error)
        raise DictionaryFailed(
            f"it holds more than tensors and settings, or is damaged; nothing in it was run: {told}"
        ) from error


def is_tensors(value: Any) -> bool:
    """Whether it is a state dict."""
    return isinstance(value, dict) and bool(value) and all(isinstance(each, Tensor) for each in value.values())


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """Prisma's settings under SAELens' names."""
    layers = config.get("hook_point_layer")
    layer = layers[0] if isinstance(layers, list) and len(layers) == 1 else layers
    hook = config.get("hook_point") or f"blocks.{layer}.{config.get('layer_subtype', 'hook_resid_post')}"
    return {**config, "hook_name": hook, "apply_b_dec_to_input": True}


def _saying(made: Dictionary, tokens: str) -> Dictionary:
    made.says["tokens"] = tokens
    return made
