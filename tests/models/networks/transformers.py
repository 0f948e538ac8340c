"""Small vision transformers with random weights: of libraries, and hand-made ones that order their tokens otherwise."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Of tokens (batch, tokens, features); by hand, or fused."""

    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.fused:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            x = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(x.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    def __init__(self, width: int, act: nn.Module) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, 3 * width), act, nn.Linear(3 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))  # type: ignore[no-any-return]


class Gated(nn.Module):
    """SwiGLU: a gate times a value."""

    def __init__(self, width: int, act: nn.Module) -> None:
        super().__init__()
        self.gate, self.value, self.act = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width), act
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.act(self.gate(x)) * self.value(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    def __init__(self, width: int, heads: int, fused: bool, mlp: nn.Module) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = Attention(width, heads, fused), mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Tokens of 4 x 4 patches of 8 px, ordered by `order`, with class tokens before or behind."""

    def __init__(
        self,
        order: Sequence[int] = tuple(range(16)),
        before: int = 1,
        behind: int = 0,
        fused: bool = True,
        act: nn.Module | None = None,
        mlp: Callable[[int, nn.Module], nn.Module] = Mlp,
    ) -> None:
        super().__init__()
        width = 8
        self.embed = nn.Conv2d(3, width, 8, stride=8)
        self.order = list(order)
        self.before, self.behind = (
            nn.Parameter(torch.rand(1, before, width)),
            nn.Parameter(torch.rand(1, behind, width)),
        )
        self.positions = nn.Parameter(torch.rand(1, len(self.order) + before + behind, width))
        self.blocks = nn.Sequential(*(Block(width, 2, fused, mlp(width, act or nn.GELU())) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)[:, self.order]
        before, behind = (each.expand(len(x), -1, -1) for each in (self.before, self.behind))
        x = torch.cat([before, x, behind], 1)
        return self.head(self.norm(self.blocks(x + self.positions)).mean(1))  # type: ignore[no-any-return]


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().eval()
