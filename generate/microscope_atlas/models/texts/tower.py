"""CLIP's text tower (Radford et al. 2021): from texts to the embedding that they share with pictures.

https://github.com/openai/CLIP/blob/main/clip/model.py. A transformer: embeddings of tokens and of their places, blocks
whose attention looks back alone, a norm; the text's embedding is projected from the place of its end. The MLPs'
nonlinearity is QuickGELU, x sigmoid(1.702 x), as in all that OpenAI published.
"""

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microscope_atlas.errors import WeightsError

HEAD = 64  # channels of a head
BLOCK = "transformer.resblocks."
PLAIN = ("token_embedding.weight", "positional_embedding", "ln_final.weight", "ln_final.bias", "text_projection")
OF_BLOCK = re.compile(re.escape(BLOCK) + r"\d{1,3}\..+")


class QuickGELU(nn.Module):
    """OpenAI's approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """Each token looks at itself and at those before it."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = max(1, width // HEAD)
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        projected: Tensor = self.out_proj(found.transpose(1, 2).reshape(batch, tokens, width))
        return projected


class Block(nn.Module):
    """A norm before attention and before the MLP, each added to what it reads; named as in OpenAI's files."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, hidden))
        self.mlp.add_module("gelu", QuickGELU())
        self.mlp.add_module("c_proj", nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        mixed: Tensor = x + self.mlp(self.ln_2(x))
        return mixed


class Transformer(nn.Module):
    """The blocks, one after the other."""

    def __init__(self, width: int, hidden: int, blocks: int):
        super().__init__()
        self.resblocks = nn.Sequential(*(Block(width, hidden) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.resblocks(x)
        return mixed


class TextTower(nn.Module):
    """The tower, of the sizes that its tensors have."""

    def __init__(self, vocabulary: int, context: int, width: int, hidden: int, blocks: int, embedding: int):
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.empty(context, width))
        self.transformer = Transformer(width, hidden, blocks)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embedding))

    @property
    def context(self) -> int:
        """Tokens of a text, at most."""
        return len(self.positional_embedding)

    def forward(self, tokens: Tensor) -> Tensor:
        """Embeddings (batch, embedding), not normalised, of tokens (batch, places); behind its end a text has zeros.

        A text's end has the largest number of all tokens. What stands behind it is not looked at.
        """
        x = self.transformer(self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]])
        ends = tokens.argmax(dim=1)
        embedded: Tensor = self.ln_final(x)[torch.arange(len(x), device=x.device), ends] @ self.text_projection
        return embedded


def text_tensors(every: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of the text tower among a CLIP's tensors, under OpenAI's names; none where there is no text tower."""
    return {name: value for name, value in every.items() if name in PLAIN or OF_BLOCK.fullmatch(name)}


def fitted(tensors: Mapping[str, Tensor], embedding: int, origin: str) -> dict[str, Tensor]:
    """The tensors in float32; WeightsError, naming `origin`, where they are not those of one text tower.

    `embedding` is the width that the image tower's has.
    """
    with torch.device("meta"):
        wanted = _sized(tensors, origin).state_dict()
    found = {}
    for name, blank in wanted.items():
        if name not in tensors or tensors[name].shape != blank.shape:
            there = f"shape {tuple(tensors[name].shape)}" if name in tensors else "none"
            raise WeightsError(f"{origin}: of its text tower {name} has {there}, expected {tuple(blank.shape)}")
        if not tensors[name].isfinite().all():
            raise WeightsError(f"{origin}: {name} of its text tower holds values that are not finite")
        found[name] = tensors[name].detach().to(torch.float32).contiguous()
    if found["text_projection"].shape[1] != embedding:
        raise WeightsError(
            f"{origin}: its texts have embeddings of {found['text_projection'].shape[1]} numbers, "
            f"its pictures of {embedding}; expected the same"
        )
    return found


def text_tower(tensors: Mapping[str, Tensor]) -> TextTower:
    """The tower with these tensors, frozen."""
    tower = _sized(tensors, "the text tower")
    tower.load_state_dict(dict(tensors))
    return tower.eval().requires_grad_(False)


def _sized(tensors: Mapping[str, Tensor], origin: str) -> TextTower:
    hidden = f"{BLOCK}0.mlp.c_fc.weight"
    lacking = [name for name in (*PLAIN, hidden) if name not in tensors]
    shapes = [len(tensors[name].shape) for name in (PLAIN[0], PLAIN[1], PLAIN[4], hidden) if name in tensors]
    if lacking or set(shapes) != {2}:
        raise WeightsError(f"{origin}: its text tower lacks {lacking[0] if lacking else 'matrices where they belong'}")
    blocks = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith(BLOCK))
    if blocks > len(tensors):
        raise WeightsError(f"{origin}: its text tower has a block {blocks - 1}, and not those before it")
    vocabulary, width = tensors["token_embedding.weight"].shape
    if width > HEAD and width % HEAD:
        raise WeightsError(f"{origin}: its text tower is {width} wide, which is no number of heads of {HEAD}")
    return TextTower(
        vocabulary,
        len(tensors["positional_embedding"]),
        width,
        len(tensors[hidden]),
        blocks,
        tensors["text_projection"].shape[1],
    )
