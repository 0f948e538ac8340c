"""CLIP's text tower, by hand and against transformers' with shared random weights."""

import math
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from microscope_atlas.errors import WeightsError
from microscope_atlas.models.texts.tower import fitted, text_tensors, text_tower
from tests.models.tiny_clip import random_texts

TRANSFORMERS = find_spec("transformers") is not None and find_spec("torchvision") is not None


def blockless(width: int = 2) -> dict[str, Tensor]:
    """One block that adds nothing, so that an embedding can be worked out by hand."""
    tensors = random_texts(vocabulary=4, context=3, width=width, hidden=2, blocks=1, embedding=2)
    for name in ("attn.out_proj", "mlp.c_proj"):
        for part in ("weight", "bias"):
            tensors[f"transformer.resblocks.0.{name}.{part}"].zero_()
    return tensors


def test_embedding_is_that_of_the_end_normed_and_projected() -> None:
    """The end, token 3, is at place 1: (4, 0) + (0, 2) is normed to (1, -1), times weight, plus bias."""
    tensors = blockless()
    tensors["token_embedding.weight"][3] = torch.tensor([4.0, 0.0])
    tensors["positional_embedding"][1] = torch.tensor([0.0, 2.0])
    tensors["ln_final.weight"].copy_(torch.tensor([2.0, 3.0]))
    tensors["ln_final.bias"].copy_(torch.tensor([0.0, 1.0]))
    tensors["text_projection"].copy_(torch.tensor([[1.0, 0.0], [10.0, 1.0]]))
    found = text_tower(tensors)(torch.tensor([[2, 3, 0]]))
    assert torch.allclose(found, torch.tensor([[2.0 - 20.0, -2.0]]), atol=1e-4)


def test_nonlinearity_is_quick_gelu() -> None:
    """The MLP alone: its one hidden unit is 1, times its weight in the first channel."""
    tensors = blockless()
    block = "transformer.resblocks.0.mlp."
    tensors[f"{block}c_fc.weight"].zero_()
    tensors[f"{block}c_fc.bias"].copy_(torch.tensor([1.0, 0.0]))
    tensors[f"{block}c_proj.weight"].copy_(torch.tensor([[5.0, 0.0], [0.0, 0.0]]))
    tower = text_tower(tensors)
    x = torch.tensor([[[0.0, 0.0]]])
    assert torch.allclose(tower.transformer.resblocks[0](x), torch.tensor([[[5 / (1 + math.exp(-1.702)), 0.0]]]))


def test_what_stands_behind_the_end_does_not_count() -> None:
    tower = text_tower(random_texts())
    short = tower(torch.tensor([[5, 2, 7]]))
    assert torch.allclose(short, tower(torch.tensor([[5, 2, 7, 0, 0, 0]])), atol=1e-6)
    assert not torch.allclose(short, tower(torch.tensor([[5, 3, 7]])), atol=1e-3)


@pytest.mark.skipif(not TRANSFORMERS, reason="transformers is not installed")
@pytest.mark.parametrize(("width", "hidden"), [(128, 96), (64, 256)])
def test_embeddings_agree_with_transformers(width: int, hidden: int) -> None:
    from microscope_atlas.models.adapters import torchvision

    torchvision.imported()  # before transformers, which would import it otherwise
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    tensors = random_texts(width=width, hidden=hidden, blocks=3)
    config = CLIPTextConfig(
        vocab_size=8, hidden_size=width, intermediate_size=hidden, projection_dim=8, num_hidden_layers=3,
        num_attention_heads=width // 64, max_position_embeddings=6, hidden_act="quick_gelu", eos_token_id=7,
        bos_token_id=6, pad_token_id=0, attention_dropout=0.0,
    )  # fmt: skip
    theirs = CLIPTextModelWithProjection(config).eval()
    left = set(theirs.state_dict())

    def put(name: str, value: Tensor) -> None:
        (there,) = (each for each in left if each.endswith(name))
        left.remove(there)
        theirs.state_dict()[there].copy_(value)

    put("token_embedding.weight", tensors["token_embedding.weight"])
    put("position_embedding.weight", tensors["positional_embedding"])
    put("text_projection.weight", tensors["text_projection"].T)
    for part in ("weight", "bias"):
        put(f"final_layer_norm.{part}", tensors[f"ln_final.{part}"])
        for at in range(3):
            ours, block = f"transformer.resblocks.{at}.", f"layers.{at}."
            renamed = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj"}
            renamed |= {"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
            for here, there in renamed.items():
                put(f"{block}{there}.{part}", tensors[f"{ours}{here}.{part}"])
            for name, third in zip("qkv", tensors[f"{ours}attn.in_proj_{part}"].chunk(3), strict=True):
                put(f"{block}self_attn.{name}_proj.{part}", third)
    assert not [name for name in left if "position_ids" not in name]
    tokens = torch.tensor([[6, 1, 2, 3, 4, 7], [6, 7, 0, 0, 0, 0], [6, 5, 5, 7, 0, 0]])
    with torch.no_grad():
        expected = theirs(input_ids=tokens).text_embeds
        found = text_tower(fitted(tensors, 8, "tiny"))(tokens)
    assert expected.abs().max() > 0.1
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


def test_only_tensors_of_the_text_tower_are_taken_and_in_float32() -> None:
    tensors = random_texts()
    every = {**{name: value.half() for name, value in tensors.items()}, "visual.proj": torch.zeros(2, 2)}
    found = fitted(text_tensors(every), 8, "tiny")
    assert found.keys() == tensors.keys()
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert text_tensors({"visual.conv1.weight": torch.zeros(1), "logit_scale": torch.zeros(1)}) == {}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ln_final.bias": None}, "its text tower lacks ln_final.bias"),
        ({"transformer.resblocks.0.mlp.c_fc.weight": None}, "its text tower lacks transformer.resblocks.0.mlp.c_fc"),
        ({"transformer.resblocks.1.ln_2.bias": None}, "resblocks.1.ln_2.bias has none, expected"),
        ({"transformer.resblocks.900.ln_2.bias": torch.zeros(64)}, "has a block 900, and not those before it"),
        ({"ln_final.weight": torch.zeros(3)}, r"ln_final.weight has shape \(3,\), expected \(64,\)"),
        ({"text_projection": torch.zeros(64)}, "lacks matrices where they belong"),
        ({"text_projection": torch.zeros(64, 5)}, "embeddings of 5 numbers, its pictures of 8; expected the same"),
        ({"ln_final.weight": torch.full((64,), torch.nan)}, "ln_final.weight of its text tower holds values"),
        ({"token_embedding.weight": torch.zeros(8, 65)}, "65 wide, which is no number of heads of 64"),
    ],
)
def test_what_is_no_whole_tower_is_refused(changes: dict[str, Tensor | None], reason: str) -> None:
    tensors = {name: value for name, value in {**random_texts(), **changes}.items() if value is not None}
    with pytest.raises(WeightsError, match=reason) as caught:
        fitted(tensors, 8, "tiny.pt")
    assert str(caught.value).startswith("tiny.pt: ")
