"""Embeddings of natural pictures by a network: activations before its last layer, averaged over places."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from microscope_atlas.errors import LensFailed
from microscope_atlas.lenses.lens import joined
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.organism import Organism
from microscope_atlas.pictures.decoder import fitted


@dataclass(frozen=True)
class Embedding:
    """A network that embeds pictures, and at which layer."""

    organism: Organism
    layer: str
    sha256: str  # of the network's tensors
    network: Network
    device: torch.device

    def __call__(self, pictures: Sequence[Image.Image], least: int = 2) -> Tensor:
        """(pictures, embedding), float32, of length 1. Each picture's middle square, at the size that it takes.

        Fewer than `least` go through the network together with copies: see Subject.least.
        """
        size = self.organism.input_size
        pixels = np.stack([np.asarray(fitted(each.convert("RGB"), size)) for each in pictures])
        shown = joined(torch.from_numpy(pixels), least).to(self.device).permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            acts = self.network(shown, [self.layer])[0][: len(pictures)].float().cpu()
        pooled = acts.flatten(2).mean(2) if acts.dim() > 2 else acts
        if not pooled.isfinite().all():
            raise LensFailed(f"{self.organism.name}/{self.layer} embeds a picture in numbers that are not finite")
        return F.normalize(pooled, dim=1)


def layer_of(known: Organism, layer: str | None) -> str:
    """The layer that embeds: the one named, else what leads to the logits, else the embedding of texts, else the last.

    UnknownName where there is none of the name.
    """
    if layer is not None:
        return known.layer(layer).name
    if known.logits:
        before = [name for name, after in known.edges if after == known.logits]
        return before[-1] if before else known.logits
    return known.texts.layer if known.texts else list(known.layers)[-1]


def refuse(name: str, layer: str | None) -> None:
    """UnknownName, WeightsError where a network cannot embed, before anything is rendered."""
    known = organism(name)
    layer_of(known, layer)
    weights.load(known)


@lru_cache(maxsize=1)
def embedding(name: str, layer: str | None, device: torch.device) -> Embedding:
    """The network called `name` with its trained weights, as one that embeds; a process loads it once."""
    known = organism(name)
    given = weights.load(known)
    network = weights.network(known, given, device)
    return Embedding(known, layer_of(known, layer), given.sha256, network, device)
