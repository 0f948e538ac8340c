"""A network that knows texts, whose answers are known by hand: it sees colours, and texts have one by their length."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.provenance import Provenance
from microscope_atlas.lenses import embedded
from microscope_atlas.lenses.recipe import changed
from microscope_atlas.lenses.registry import lens
from microscope_atlas.models import at_hand, converted
from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.ops import Preprocess
from microscope_atlas.models.organism import Organism, Texts
from microscope_atlas.models.texts import kept
from microscope_atlas.models.texts.tokenizer import Tokenizer
from microscope_atlas.run import run
from tests import atlases
from tests.models.tiny_clip import random_texts

GIVEN = Provenance("by hand", "", "CC0-1.0", official=True)
VOCABULARY = 49_408
COLOURS = ("red", "green", "blue")


def network() -> Graph:
    """`colours`: red, green, blue, and a unit that is never above zero; `embedding`: their means."""
    g = Graph()
    x = g.add("input", Preprocess((0.0, 0.0, 0.0), std=255.0))
    x = g.add("colours", nn.ReLU(), g.add("colours_pre", nn.Conv2d(3, 4, 1), x))
    x = g.add("flat", nn.Flatten(), g.add("pool", nn.AdaptiveAvgPool2d(1), x))
    g.add("embedding", nn.Linear(4, 3), x)
    return g.requires_grad_(False)


def text_tensors() -> dict[str, Tensor]:
    """A text's embedding says how many letters it has: one is red, two are green, three blue."""
    tensors = random_texts(VOCABULARY, context=6, width=3, hidden=2, blocks=1, embedding=3)
    for name, value in tensors.items():
        if name != "ln_final.weight":
            value.zero_()
    tensors["positional_embedding"][2:5] = torch.eye(3)  # where texts end, behind their start and letters
    tensors["ln_final.weight"].fill_(1.0)
    tensors["text_projection"].copy_(torch.eye(3))
    return tensors


SEEING = Organism(
    "seeing_colours", "", "", 2026, "", 8, network, {"colours": None, "embedding": None}, (),
    texts=Texts("embedding", lambda path: {}, "a file with both towers"),
)  # fmt: skip


def put(organism: Organism, image: dict[str, Tensor], tower: dict[str, Tensor] | None) -> str:
    """Into the cache, as weights that were taken from a file."""
    sha256 = converted.identity(image)
    converted.write(at_hand.cached_file(organism), converted.Weights(image, sha256, GIVEN))
    if tower:
        kept.keep(organism, sha256, converted.Weights(tower, converted.identity(tower), GIVEN))
    return sha256


def image_tensors() -> dict[str, Tensor]:
    tensors = {name: torch.zeros_like(value) for name, value in converted.expected(network()).items()}
    tensors["colours_pre.weight"][:3, :, 0, 0] = torch.eye(3)
    tensors["colours_pre.bias"][3] = -1.0
    tensors["embedding.weight"][:, :3] = torch.eye(3)
    return tensors


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into the catalog, with weights in a cache of its own, and letters for tokens."""
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(folder / "cache"))
    monkeypatch.setitem(CATALOG, SEEING.name, SEEING)
    monkeypatch.setattr(embedded, "tokenizer", lambda: Tokenizer({}))
    put(SEEING, image_tensors(), text_tensors())


def photos(folder: Path) -> Path:
    """One plain picture of each colour."""
    (folder / "photos").mkdir()
    for at, name in enumerate(COLOURS):
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[:, :, at] = 255
        Image.fromarray(pixels).save(folder / "photos" / f"{at}{name}.png")
    return folder / "photos"


def listed(folder: Path, *lines: str) -> Path:
    """A word list; how long a word is says what colour it is."""
    (folder / "letters.txt").write_text("\n".join(lines or ("bbb", "r", "gg")) + "\n")
    return folder / "letters.txt"


def recipes(photos: Path, listed: Path, **changes: Any) -> dict[str, Any]:
    given = {name: lens(name).recipe("draft").with_pictures(str(photos)) for name in ("responses", "texts")}
    return {**given, "texts": changed(given["texts"], {"words": str(listed), **changes})}


def rendered(root: Path, layers: dict[str, range], given: dict[str, Any], model: str = SEEING.name) -> run.Outcome:
    request = atlases.request(layers, model=model)
    return run.render(Folder(root), [request], given, atlases.HERE, 16, lambda *_: None)
