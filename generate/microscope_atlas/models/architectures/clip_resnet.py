"""CLIP's convolutional image towers (Radford et al. 2021): contrastive_rn50, contrastive_4x, contrastive_16x.

https://arxiv.org/abs/2103.00020; original code: https://github.com/openai/CLIP/blob/main/clip/model.py. ResNets with a
stem of three convolutions, average pools in place of strides, and an attention pool at the end, whose output, the
`embedding`, is compared with that of a text. Trained on pairs of pictures and texts, they have no classes.

Layers are named as in Microscope's graph, whose op `image_block/4/5/Add_6` is the sum at the end of block 5 of stage 4.
Ops are counted: each of a block's norms adds twice, so that `add_1` and `add_3` are what its two inner rectifiers read,
and blocks that project their input, with one norm more, end with `Add_8`. Our layers are what is rectified, as the next
convolution reads it; Microscope's sum is the preactivation. The rectifiers within a block, and queries, keys, values
and heads of the attention pool are rendered where they are named.
"""

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from microscope_atlas.errors import WeightsError
from microscope_atlas.models.formats.form import Form
from microscope_atlas.models.formats.state_dict import read_safetensors
from microscope_atlas.models.formats.torchscript import read_torchscript
from microscope_atlas.models.networks.attention_pool import Attend, MeanToken, OnGrid, Tokens
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.ops import Add, Preprocess
from microscope_atlas.models.organism import Organism, Source, Texts
from microscope_atlas.models.texts.tower import text_tensors

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of OpenAI's own data, RGB in [0, 1]
STD = (0.26862954, 0.26130258, 0.27577711)
HEAD = 64  # channels of a head
EXPANSION = 4  # a block's output is so many times as wide as its inner convolutions
TOWER = "visual."  # begins the image tower's names in OpenAI's files
PUBLISHED = "https://openaipublic.azureedge.net/clip/models"
INSIDE = {"relu1": "add_1", "relu2": "add_3"}  # of a block -> Microscope's ops
POOL = ("q", "k", "v", "heads")


@dataclass(frozen=True)
class Config:
    """Sizes of an image tower, as OpenAI published them."""

    blocks: tuple[int, int, int, int]  # a stage
    width: int  # channels of the stem, and of the first stage's inner convolutions
    input_size: int  # px
    embedding: int  # of pictures and texts alike

    @property
    def grid(self) -> int:
        """Positions on a side of the last map."""
        return self.input_size // 32

    def names(self) -> list[tuple[int, int]]:
        """Stage, from 1, and block, from 0, of every block."""
        return [(stage, block) for stage, count in enumerate(self.blocks, 1) for block in range(count)]


def build(config: Config) -> Graph:
    g = Graph()
    x = g.add("input", Preprocess(mean=_bytes(MEAN), std=_bytes(STD)))
    half = config.width // 2
    for number, (inputs, out, stride) in enumerate(((3, half, 2), (half, half, 1), (half, config.width, 1)), 1):
        x = _conv(g, f"stem/conv{number}", f"stem/bn{number}", x, inputs, out, 3, stride)
        x = g.add(f"stem_{number}", nn.ReLU(), x)
    x, inputs = g.add("stem/avgpool", nn.AvgPool2d(2), x), config.width
    for stage, block in config.names():
        inner = config.width * 2 ** (stage - 1)
        x = _block(g, f"image_block/{stage}/{block}", x, inputs, inner, 2 if stage > 1 and block == 0 else 1)
        inputs = inner * EXPANSION
    _attention_pool(g, x, inputs, config)
    return g


def _block(g: Graph, root: str, x: str, inputs: int, inner: int, stride: int) -> str:
    """Bottleneck: narrow by 1x1, convolve 3x3, pool, widen by 1x1; add the input, or its pool's projection."""
    layer, out = root.replace("/", "_"), inner * EXPANSION
    residual = _conv(g, f"{root}/conv1", f"{root}/bn1", x, inputs, inner)
    residual = g.add(f"{layer}_relu1", nn.ReLU(), residual)
    residual = _conv(g, f"{root}/conv2", f"{root}/bn2", residual, inner, inner, 3)
    residual = g.add(f"{layer}_relu2", nn.ReLU(), residual)
    if stride > 1:
        residual = g.add(f"{root}/avgpool", nn.AvgPool2d(stride), residual)
    residual = _conv(g, f"{root}/conv3", f"{root}/bn3", residual, inner, out)
    shortcut = x
    if inputs != out:
        if stride > 1:
            shortcut = g.add(f"{root}/downsample/avgpool", nn.AvgPool2d(stride), x)
        shortcut = _conv(g, f"{root}/downsample/conv", f"{root}/downsample/bn", shortcut, inputs, out)
    total = g.add(f"{root}/add", Add(), residual, shortcut)
    return g.add(layer, nn.ReLU(), total)


def _conv(g: Graph, conv: str, norm: str, x: str, inputs: int, out: int, kernel: int = 1, stride: int = 1) -> str:
    x = g.add(conv, nn.Conv2d(inputs, out, kernel, stride, padding=kernel // 2, bias=False), x)
    return g.add(norm, nn.BatchNorm2d(out), x)


def _attention_pool(g: Graph, x: str, width: int, config: Config) -> None:
    tokens = g.add("attnpool/tokens", Tokens(config.grid, width), x)
    mean = g.add("attnpool/mean", MeanToken(), tokens)
    q = g.add("attnpool_q", nn.Linear(width, width), mean)
    k, v = (g.add(f"attnpool/{name}_proj", nn.Conv2d(width, width, 1), tokens) for name in "kv")
    g.add("attnpool_k", OnGrid(config.grid), k)
    g.add("attnpool_v", OnGrid(config.grid), v)
    heads = g.add("attnpool_heads", Attend(width // HEAD), q, k, v)
    g.add("embedding", nn.Linear(width, config.embedding), heads)


def _bytes(share: tuple[float, float, float]) -> tuple[float, float, float]:
    """On the scale of bytes, as Preprocess takes it."""
    red, green, blue = (255 * each for each in share)
    return red, green, blue


def _legacy_ops(config: Config) -> dict[str, str | None]:
    ops: dict[str, str | None] = dict.fromkeys(f"stem_{number}" for number in (1, 2, 3))
    for stage, block in config.names():
        name = f"image_block_{stage}_{block}"
        ops |= {f"{name}_{relu}": f"{name}_{op}_0" for relu, op in INSIDE.items()}
        ops[name] = f"{name}_Add_{6 if block else 8}_0"
    return {**ops, **dict.fromkeys(f"attnpool_{each}" for each in POOL), "embedding": None}


def _named_only(config: Config) -> frozenset[str]:
    inside = (f"image_block_{stage}_{block}_{relu}" for stage, block in config.names() for relu in INSIDE)
    return frozenset((*inside, *(f"attnpool_{each}" for each in POOL)))


NAMES = (  # in OpenAI's files -> here
    (r"(conv|bn)(\d)", r"stem/\1\2"),
    (r"layer(\d)\.(\d+)\.((?:conv|bn)\d)", r"image_block/\1/\2/\3"),
    (r"layer(\d)\.(\d+)\.downsample\.0", r"image_block/\1/\2/downsample/conv"),
    (r"layer(\d)\.(\d+)\.downsample\.1", r"image_block/\1/\2/downsample/bn"),
    (r"attnpool", "attnpool/tokens"),
    (r"attnpool\.q_proj", "attnpool_q"),
    (r"attnpool\.([kv])_proj", r"attnpool/\1_proj"),
    (r"attnpool\.c_proj", "embedding"),
)
TIMM = (  # in timm's copies -> in OpenAI's files, where they differ
    (r"stem\.conv(\d)\.conv\.", r"conv\1."),
    (r"stem\.conv(\d)\.bn\.", r"bn\1."),
    (r"stages\.(\d)\.(\d+)\.conv(\d)_\w+\.conv\.", r"layer\1.\2.conv\3."),
    (r"stages\.(\d)\.(\d+)\.conv(\d)_\w+\.bn\.", r"layer\1.\2.bn\3."),
    (r"stages\.(\d)\.(\d+)\.shortcut\.conv\.conv\.", r"layer\1.\2.downsample.0."),
    (r"stages\.(\d)\.(\d+)\.shortcut\.conv\.bn\.", r"layer\1.\2.downsample.1."),
    (r"head\.pos_embed", "attnpool.positional_embedding"),
    (r"head\.(q|k|v)\.", r"attnpool.\1_proj."),
    (r"head\.proj\.", "attnpool.c_proj."),
)


def tensors(tower: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenAI's tensors of an image tower under the graph's names; what has none keeps its own."""
    found = {}
    for name, value in tower.items():
        node, _, tensor = name.rpartition(".")
        matched = ((re.fullmatch(pattern, node), to) for pattern, to in NAMES)
        here = next((match.expand(to) for match, to in matched if match), node)
        found[f"{here}.{tensor}"] = value
    return found


def read_openai(path: Path) -> dict[str, Tensor]:
    """Tensors of the image tower in OpenAI's file, which holds one of texts as well; WeightsError without one."""
    return tensors(_image_tower(read_torchscript(path), path))


def read_copy(path: Path) -> dict[str, Tensor]:
    """Tensors of the image tower in a copy as safetensors: open_clip's, of both towers, or timm's, of this alone.

    open_clip kept OpenAI's names; in timm's stages count from 0: `stages.3.5.conv1_1x1.bn.weight`.
    """
    given = read_safetensors(path)
    if not any(name.startswith("stem.") for name in given):
        return tensors(_image_tower(given, path))
    tower = {}
    for name, value in given.items():
        matched = ((re.match(pattern, name), to) for pattern, to in TIMM)
        here = next((match.expand(to) + name[match.end() :] for match, to in matched if match), name)
        tower[re.sub(r"^layer(\d)", lambda stage: f"layer{int(stage[1]) + 1}", here)] = value
    return tensors(tower)


def read_texts(path: Path) -> dict[str, Tensor]:
    """Tensors of the text tower in OpenAI's file or in open_clip's copy, by OpenAI's names; none in timm's."""
    return text_tensors(read_torchscript(path) if zipfile.is_zipfile(path) else read_safetensors(path))


def _image_tower(every: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    tower = {name.removeprefix(TOWER): value for name, value in every.items() if name.startswith(TOWER)}
    if not tower:
        found = ", ".join(list(every)[:3]) or "none"
        raise WeightsError(f"{path} has no image tower: expected tensors {TOWER}* of a CLIP, found {found}")
    return tower


def _organism(name: str, title: str, config: Config, file: str, sha256: str, timm: str) -> Organism:
    return Organism(
        name=name,
        title=title,
        paper="https://arxiv.org/abs/2103.00020",
        year=2021,
        dataset="WebImageText",
        input_size=config.input_size,
        build=partial(build, config),
        legacy_ops=_legacy_ops(config),
        named_only=_named_only(config),
        texts=Texts("embedding", read_texts, f"OpenAI's {file}, or open_clip's copy as safetensors"),
        sources=(
            Source(
                where=f"{PUBLISHED}/{sha256}/{file}",
                read=read_openai,
                forms=(Form.TORCHSCRIPT, Form.STATE_DICT),
                license="MIT",
                sha256=sha256,
            ),
            Source(
                where=f"hub:timm/{timm}.openai/model.safetensors",
                read=read_copy,
                forms=(Form.SAFETENSORS,),
                license="MIT",
            ),
        ),
    )


CONTRASTIVE_RN50 = _organism(
    "contrastive_rn50",
    "CLIP RN50",
    Config((3, 4, 6, 3), width=64, input_size=224, embedding=1024),
    "RN50.pt",
    "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
    timm="resnet50_clip",
)
CONTRASTIVE_4X = _organism(
    "contrastive_4x",
    "CLIP RN50x4",
    Config((4, 6, 10, 6), width=80, input_size=288, embedding=640),
    "RN50x4.pt",
    "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd",
    timm="resnet50x4_clip",
)
CONTRASTIVE_16X = _organism(
    "contrastive_16x",
    "CLIP RN50x16",
    Config((6, 8, 18, 8), width=96, input_size=384, embedding=768),
    "RN50x16.pt",
    "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa",
    timm="resnet50x16_clip",
)
