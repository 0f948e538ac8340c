"""The text tower of a CLIP of transformers, under OpenAI's names, which ours has.

https://github.com/huggingface/transformers/blob/main/src/transformers/models/clip/modeling_clip.py. It is taken where
built as OpenAI's: QuickGELU, heads of 64 channels, and OpenAI's vocabulary, in which a text's end has the largest
number. Others, such as those of LAION with plain GELU, are networks of pictures alone here.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from microscope_atlas.models.texts.tower import HEAD

VOCABULARY = 49_408
PLAIN = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
}
BLOCK = re.compile(r"text_model\.encoder\.layers\.(\d{1,3})\.(.+)\.(weight|bias)")
PARTS = {
    "layer_norm1": "ln_1.",
    "layer_norm2": "ln_2.",
    "self_attn.out_proj": "attn.out_proj.",
    "mlp.fc1": "mlp.c_fc.",
    "mlp.fc2": "mlp.c_proj.",
}
ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")  # in the order in which OpenAI's are one


def is_read(config: Any) -> bool:
    """Whether the text tower that a configuration of a whole CLIP describes is built as ours."""
    text = config.text_config
    heads = max(1, text.hidden_size // HEAD)
    built_so: bool = text.hidden_act == "quick_gelu" and text.num_attention_heads == heads
    return built_so and bool(text.vocab_size == VOCABULARY)


def named(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the text tower among a CLIP's, under OpenAI's names; none where there is none."""
    found = {PLAIN[name]: value for name, value in tensors.items() if name in PLAIN}
    if "text_projection.weight" in tensors and found:
        found["text_projection"] = tensors["text_projection.weight"].T
    attention: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if (block := BLOCK.fullmatch(name)) is None:
            continue
        number, part, kind = block.groups()
        path = f"transformer.resblocks.{number}"
        if part in ATTENTION:
            attention.setdefault(f"{path}.attn.in_proj_{kind}", {})[part] = value
        elif part in PARTS:
            found[f"{path}.{PARTS[part]}{kind}"] = value
    for name, parts in attention.items():
        if len(parts) == len(ATTENTION):
            found[name] = torch.cat([parts[part] for part in ATTENTION])
    return found
