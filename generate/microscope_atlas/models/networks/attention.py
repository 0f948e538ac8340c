"""nn.MultiheadAttention exchanged for an explicit equal, which hooks see.

It computes alike with gradients and without. PyTorch's own multiplies with the weights of its output projection without
calling it, and takes other code where no gradient is asked for, whose numbers differ: a score measured so would not be
the one that was optimised.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ExplicitAttention(nn.MultiheadAttention):
    """The same parameters under the same names, the same sums."""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """See nn.MultiheadAttention."""
        batched = query.dim() == 3
        tokens = [each if batched else each.unsqueeze(0) for each in (query, key, value)]
        if batched and not self.batch_first:
            tokens = [each.transpose(0, 1) for each in tokens]
        q, k, v = self._projected(*tokens)
        mask = _joined(attn_mask, key_padding_mask, len(q), self.num_heads, batched)
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (
                torch.cat([each, bias.expand(len(q), -1, -1)], 1) for each, bias in ((k, self.bias_k), (v, self.bias_v))
            )
            mask = None if mask is None else F.pad(mask, (0, 1))
        q, k, v = (each.view(*each.shape[:2], self.num_heads, -1).transpose(1, 2) for each in (q, k, v))
        if self.add_zero_attn:
            k, v = (F.pad(each, (0, 0, 0, 1)) for each in (k, v))
            mask = None if mask is None else F.pad(mask, (0, 1))
        weights = None
        dropout = self.dropout if self.training else 0.0
        if need_weights:
            products = q @ k.transpose(2, 3) / math.sqrt(self.head_dim)
            weights = (products if mask is None else products + mask).softmax(-1)
            heads = F.dropout(weights, dropout) @ v if dropout else weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            heads = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        given = self.out_proj(heads.transpose(1, 2).flatten(2))
        if not batched:
            return given[0], None if weights is None else weights[0]
        return given if self.batch_first else given.transpose(0, 1), weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        if self._qkv_same_embed_dim:
            if query is key is value:
                return list(F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, 2))
            weights: Any = self.in_proj_weight.chunk(3)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases: Any = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return [F.linear(*each) for each in zip((query, key, value), weights, biases, strict=True)]


def _joined(mask: Tensor | None, padding: Tensor | None, batch: int, heads: int, batched: bool) -> Tensor | None:
    """What is added to the products of queries and keys (batch, heads, queries, keys): 0, or minus infinity."""
    found = None
    if mask is not None:
        found = _added(mask)
        if found.dim() == 3:
            found = found.view(batch, heads, *found.shape[1:])
    if padding is not None:
        added = _added(padding if batched else padding.unsqueeze(0))[:, None, None]
        found = added if found is None else found + added
    return found


def _added(mask: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, device=mask.device).masked_fill(mask, -math.inf)


def make_explicit(module: nn.Module) -> None:
    """Exchange every nn.MultiheadAttention of a module, in place; and what runs layers of encoders in another way."""
    for each in module.modules():
        if type(each) is nn.MultiheadAttention:
            each.__class__ = ExplicitAttention
        elif isinstance(each, nn.TransformerEncoderLayer):
            each.activation_relu_or_gelu = 0  # which its fast path asks for
        elif isinstance(each, nn.TransformerEncoder):
            each.enable_nested_tensor = each.use_nested_tensor = False
