"""A CLIP of a few channels, named as in OpenAI's files, written apart from ours and by PyTorch's own means."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microscope_atlas.models.architectures.clip_resnet import Config

CONFIG = Config((2, 1, 1, 2), width=4, input_size=64, embedding=8)  # two heads, a last map of 2 x 2


class Block(nn.Module):
    def __init__(self, inputs: int, inner: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, 4 * inner, 1, bias=False), nn.BatchNorm2d(4 * inner)
        self.stride = stride
        if inputs != 4 * inner:
            self.downsample = nn.Sequential()
            self.downsample.add_module("-1", nn.AvgPool2d(stride))
            self.downsample.add_module("0", nn.Conv2d(inputs, 4 * inner, 1, bias=False))
            self.downsample.add_module("1", nn.BatchNorm2d(4 * inner))
        else:
            self.downsample = nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        relu1 = self.bn1(self.conv1(x)).relu()
        relu2 = self.bn2(self.conv2(relu1)).relu()
        y = self.bn3(self.conv3(F.avg_pool2d(relu2, self.stride)))
        return relu1, relu2, (y + self.downsample(x)).relu()


class Pool(nn.Module):
    def __init__(self, places: int, width: int, embedding: int):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(places, width))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, embedding)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).permute(2, 0, 1)
        x = torch.cat([x.mean(0, keepdim=True), x]) + self.positional_embedding[:, None]
        q, k, v, c = self.q_proj, self.k_proj, self.v_proj, self.c_proj
        pooled, _ = F.multi_head_attention_forward(
            x[:1], x, x, x.shape[-1], x.shape[-1] // 64, None, torch.cat([q.bias, k.bias, v.bias]), None, None, False,
            0.0, c.weight, c.bias, training=False, need_weights=False, use_separate_proj_weight=True,
            q_proj_weight=q.weight, k_proj_weight=k.weight, v_proj_weight=v.weight,
        )  # fmt: skip
        return pooled[0]


class Visual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width, half = CONFIG.width, CONFIG.width // 2
        self.conv1, self.bn1 = nn.Conv2d(3, half, 3, 2, 1, bias=False), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = nn.Conv2d(half, half, 3, 1, 1, bias=False), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = nn.Conv2d(half, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        inputs = width
        for stage, count in enumerate(CONFIG.blocks):
            blocks = nn.Sequential()
            for block in range(count):
                inner = width << stage
                blocks.append(Block(inputs, inner, 2 if stage and not block else 1))
                inputs = 4 * inner
            setattr(self, f"layer{stage + 1}", blocks)
        self.attnpool = Pool(1 + (CONFIG.input_size // 32) ** 2, inputs, CONFIG.embedding)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Activations by our names of layers."""
        found = {}
        for number in (1, 2, 3):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x)).relu()
            found[f"stem_{number}"] = x
        x = F.avg_pool2d(x, 2)
        for stage in (1, 2, 3, 4):
            for number, block in enumerate(getattr(self, f"layer{stage}")):
                relu1, relu2, x = block(x)
                layer = f"image_block_{stage}_{number}"
                found |= {f"{layer}_relu1": relu1, f"{layer}_relu2": relu2, layer: x}
        return {**found, "embedding": self.attnpool(x)}


def random_texts(
    vocabulary: int = 8, context: int = 6, width: int = 64, hidden: int = 32, blocks: int = 2, embedding: int = 8
) -> dict[str, Tensor]:
    """Tensors of a text tower by OpenAI's names, of no special values."""
    stream = torch.Generator().manual_seed(2)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=stream) / (shape[-1] ** 0.5 if len(shape) > 1 else 2)

    tensors = {"token_embedding.weight": drawn(vocabulary, width), "positional_embedding": drawn(context, width)}
    for block in range(blocks):
        shapes = {"ln_1": (width,), "ln_2": (width,), "mlp.c_fc": (hidden, width), "mlp.c_proj": (width, hidden)}
        shapes |= {"attn.in_proj": (3 * width, width), "attn.out_proj": (width, width)}
        for name, shape in shapes.items():
            joint = "_" if name == "attn.in_proj" else "."
            path = f"transformer.resblocks.{block}.{name}{joint}"
            tensors |= {f"{path}weight": drawn(*shape), f"{path}bias": drawn(shape[0])}
    tensors |= {"ln_final.weight": drawn(width) + 1, "ln_final.bias": drawn(width)}
    return {**tensors, "text_projection": drawn(width, embedding)}


class Held(nn.Module):
    """Tensors by the path of their module, which it does nothing with."""

    def __init__(self, tensors: dict[str, Tensor]):
        super().__init__()
        inner: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            first, _, rest = name.partition(".")
            if rest:
                inner.setdefault(first, {})[rest] = value
            else:
                self.register_parameter(first, nn.Parameter(value))
        for first, some in inner.items():
            self.add_module(first, Held(some))


class Clip(Held):
    """Both towers of the file; that of texts is not run here."""

    def __init__(self, texts: dict[str, Tensor] | None = None) -> None:
        super().__init__(random_texts() if texts is None else texts)
        self.visual = Visual()
        self.logit_scale = nn.Parameter(torch.ones([]))

    def forward(self, pictures: Tensor, tokens: Tensor) -> Tensor:
        return self.visual(pictures)["embedding"].sum() * self.logit_scale + tokens.sum()


def tiny_clip(texts: dict[str, Tensor] | None = None) -> Clip:
    """With weights of no special values, batch norms included; the text tower's may be given."""
    torch.manual_seed(0)
    clip = Clip(texts).eval().requires_grad_(False)
    for name, value in clip.visual.state_dict().items():
        if value.dim() == 1:
            value.copy_(torch.rand(value.shape) + (0.5 if "var" in name or "weight" in name else -0.5))
    return clip
