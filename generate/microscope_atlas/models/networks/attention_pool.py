"""CLIP's attention pool, one operation a node: the map's mean asks, its positions and itself answer.

Radford et al. 2021, https://arxiv.org/abs/2103.00020, section 2.4: a last layer of attention whose only query is the
mean over the map. Queries, keys, values and heads are nodes, so that all of them are seen. `tokens` are the mean and,
behind it, the map's positions row by row, as a map of one column: (batch, channels, 1 + positions, 1).
"""

import torch
from torch import Tensor, nn

from microscope_atlas.errors import NetworkFailed


class Tokens(nn.Module):
    """The mean of a map and its positions, with what was learnt of each place added.

    (batch, channels, size, size) -> (batch, channels, 1 + size * size, 1). Maps of another size have no such places.
    """

    def __init__(self, size: int, channels: int):
        super().__init__()
        self.size = size
        self.positional_embedding = nn.Parameter(torch.randn(1 + size * size, channels) / channels**0.5)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (self.size, self.size):
            raise NetworkFailed(
                f"the attention pool has places for maps of {self.size} x {self.size}, not of {x.shape[2]} x "
                f"{x.shape[3]}; expected pictures of the network's own size"
            )
        positions = x.flatten(2)
        tokens = torch.cat([positions.mean(2, keepdim=True), positions], 2)
        return (tokens + self.positional_embedding.T)[..., None]


class MeanToken(nn.Module):
    """The mean's: (batch, channels, 1 + positions, 1) -> (batch, channels)."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, :, 0, 0]


class OnGrid(nn.Module):
    """The positions', where they stand: (batch, channels, 1 + size * size, 1) -> (batch, channels, size, size)."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, :, 1:].reshape(*tokens.shape[:2], self.size, self.size)


class Attend(nn.Module):
    """What one query finds in each head: `sum_t softmax_t(q k_t / sqrt(d)) v_t` over a head's `d` channels.

    Query (batch, channels), keys and values (batch, channels, tokens, 1) -> (batch, channels), the heads side by side.
    Products and sums, not matrix products: on a CPU these would be rounded as the batch happens to be.
    """

    def __init__(self, heads: int):
        super().__init__()
        self.heads = heads

    def extra_repr(self) -> str:
        return f"heads={self.heads}"

    def forward(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        each_head = query.shape[1] // self.heads
        q, k, v = (each.reshape(len(each), self.heads, each_head, -1) for each in (query, keys, values))
        weights = ((q * k).sum(2, keepdim=True) / each_head**0.5).softmax(3)
        found: Tensor = (weights * v).sum(3).flatten(1)
        return found
