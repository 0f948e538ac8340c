"""Dictionaries: units that are directions in a layer's activations, with a rectifier or without.

`Directions` are a matrix alone: probes, concept vectors, groups of an NMF, class directions, embeddings of texts; the
identity are the layer's own units. A sparse dictionary, the encoder of a sparse autoencoder or a transcoder, treats its
input, adds a bias and rectifies: by ReLU; by JumpReLU, which keeps what is above a unit's own threshold; or by TopK,
which keeps the k largest of a place. BatchTopK is taken as at inference, by its stored threshold: a JumpReLU.

A dictionary is known by the sha256 of its numbers and settings, so it is the same one in whatever container it came.
"""

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microscope_atlas.atlas.units import MOST_UNITS
from microscope_atlas.errors import DictionaryFailed

Activation = Literal["linear", "relu", "jumprelu", "topk"]
Treatment = Literal["none", "layer_norm", "unit_norm"]  # of each place's input; see _treated

CHUNK = 4096  # units whose preactivations are looked at together, where a threshold is sought among all
LAYER_NORM_EPS = 1e-5  # of SAELens and Prisma, added to the deviation
NEAR = 1e-6  # of a threshold that was found among all units: the same sum, rounded otherwise, is not below it


@dataclass(frozen=True)
class Dictionary:
    """Directions, or a sparse dictionary; DictionaryFailed where its tensors do not go together."""

    encoder: Tensor  # (units, width)
    activation: Activation = "linear"
    bias: Tensor | None = None  # (units,)
    shift: Tensor | None = None  # (width,), taken from the treated input
    threshold: Tensor | None = None  # (units,), of jumprelu
    k: int | None = None  # of topk
    signed: bool = False  # whether topk keeps values below zero
    treatment: Treatment = "none"
    decoder: Tensor | None = None  # (units, width of what it makes)
    decoder_bias: Tensor | None = None
    says: dict[str, str] = field(default_factory=dict)  # what its file says of itself: network, layer, tokens, ...

    def __post_init__(self) -> None:
        """Hold the tensors to one another."""
        if self.encoder.dim() != 2 or not all(self.encoder.shape):
            raise DictionaryFailed(f"its matrix has shape {tuple(self.encoder.shape)}, expected (units, width)")
        if self.activation not in get_args(Activation) or self.treatment not in get_args(Treatment):
            raise DictionaryFailed(
                f"its activation is {self.activation!r} of input treated by {self.treatment!r}; expected one of "
                f"{', '.join(get_args(Activation))}, and of {', '.join(get_args(Treatment))}"
            )
        if self.units > MOST_UNITS:
            raise DictionaryFailed(f"it has {self.units} units; a layer has {MOST_UNITS} at most")
        wanted = {"bias": (self.units,), "threshold": (self.units,), "shift": (self.width,)}
        for name, shape in wanted.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                raise DictionaryFailed(f"its {name} has shape {tuple(value.shape)}, expected {shape}")
        if self.decoder is not None and (self.decoder.dim() != 2 or len(self.decoder) != self.units):
            raise DictionaryFailed(f"its decoder has shape {tuple(self.decoder.shape)}, expected ({self.units}, width)")
        for name, value in self.tensors.items():
            if not value.isfinite().all():
                raise DictionaryFailed(f"its {name} holds values that are not finite in float32")
        if self.activation == "jumprelu" and self.threshold is None:
            raise DictionaryFailed("it has no threshold to be applied by at inference")
        if self.activation == "topk" and not (type(self.k) is int and 1 <= self.k <= self.units):
            raise DictionaryFailed(f"it keeps the {self.k!r} largest of its {self.units} units")

    @property
    def units(self) -> int:
        """How many."""
        return len(self.encoder)

    @property
    def width(self) -> int:
        """Of the layer that it stands behind."""
        return self.encoder.shape[1]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """By name."""
        names = ("encoder", "bias", "shift", "threshold", "decoder", "decoder_bias")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @property
    def settings(self) -> dict[str, Any]:
        """What is no tensor, and changes what its units are."""
        return {name: getattr(self, name) for name in ("activation", "k", "signed", "treatment")}

    @cached_property
    def sha256(self) -> str:
        """Of its settings, and of names, shapes and bytes of its tensors."""
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode())
        for name, value in self.tensors.items():
            digest.update(f"{name} {tuple(value.shape)} float32\n".encode())
            digest.update(value.contiguous().view(-1).numpy().view("uint8").data)
        return digest.hexdigest()

    @property
    def described(self) -> str:
        """`768 directions`, `49152 units, topk 32`."""
        if self.activation == "linear":
            return f"{self.units} directions"
        kept = f" {self.k}" if self.activation == "topk" else ""
        return f"{self.units} units, {self.activation}{kept}"


def directions(matrix: Tensor, says: dict[str, str] | None = None) -> Dictionary:
    """The rows of a matrix (units, width) as units."""
    return Dictionary(matrix.float().contiguous(), says=says or {})


class Encoder(nn.Module):
    """What a dictionary makes of activations, in float32 whatever their precision.

    A unit's value does not depend on which others are asked for: where pictures have a unit each, every picture is
    multiplied by its own row alone.
    """

    rows: Tensor
    bias: Tensor | None
    shift: Tensor | None
    threshold: Tensor | None

    def __init__(self, dictionary: Dictionary):
        super().__init__()
        self.known = replace(dictionary, decoder=None, decoder_bias=None)  # which nothing here reads, as large again
        self.register_buffer("rows", dictionary.encoder, persistent=False)
        for name in ("bias", "shift", "threshold"):
            self.register_buffer(name, getattr(dictionary, name), persistent=False)

    def forward(self, acts: Tensor, units: Tensor | None = None, before: bool = False) -> Tensor:
        """Activations of a layer, (batch, width, height, width) or (batch, width) -> those of the dictionary's units.

        (batch, units, ...): all of them, or of each picture its own of `units`, (batch,), alone. `before` its rectifier
        on request.
        """
        with torch.autocast(acts.device.type, enabled=False):
            places = acts.float().permute(0, 2, 3, 1).flatten(1, 2) if acts.dim() == 4 else acts.float()[:, None]
            codes = self._codes(places, units, before).transpose(1, 2)
        return codes.reshape(*codes.shape[:2], *acts.shape[2:]) if acts.dim() == 4 else codes[:, :, 0]

    def _codes(self, places: Tensor, units: Tensor | None, before: bool) -> Tensor:
        """(batch, places, width) -> (batch, places, units)."""
        read = self._treated(places)
        if units is None:
            found = F.linear(read, self.rows, self.bias)
        else:
            found = torch.bmm(read, self.rows[units][:, :, None])
            found = found if self.bias is None else found + self.bias[units][:, None, None]
        if before or self.known.activation == "linear":
            return found
        if self.known.activation == "relu":
            return F.relu(found)
        if self.known.activation == "topk":
            least = self._least(read.detach())
            return _kept(found, least - NEAR * least.abs(), least)
        assert self.threshold is not None
        least = self.threshold.clamp(min=0)
        least = least if units is None else least[units][:, None, None]
        return _kept(found, least, least)

    def _treated(self, places: Tensor) -> Tensor:
        """As the dictionary reads its input: each place divided by its deviation or its length, then shifted."""
        read = places
        if self.known.treatment == "layer_norm":
            read = read - read.mean(-1, keepdim=True)
            read = read / (read.std(-1, keepdim=True) + LAYER_NORM_EPS)
        elif self.known.treatment == "unit_norm":
            read = F.normalize(read, dim=-1) * self.known.width**0.5  # of a place where nothing is, nothing
        return read if self.shift is None else read - self.shift

    @torch.no_grad()
    def _least(self, read: Tensor) -> Tensor:
        """Of each place the k-th largest preactivation of all units, (batch, places, 1): some units at a time."""
        assert self.known.k is not None
        flat = read.flatten(0, 1)
        best = flat.new_empty((len(flat), 0))
        for start in range(0, self.known.units, CHUNK):
            some = slice(start, start + CHUNK)
            found = F.linear(flat, self.rows[some], None if self.bias is None else self.bias[some])
            best = torch.cat([best, found.topk(min(self.known.k, found.shape[1])).values], 1)
            best = best.topk(min(self.known.k, best.shape[1])).values
        least = best[:, -1:].view(*read.shape[:2], 1)
        return least if self.known.signed else least.clamp(min=0)


def _kept(found: Tensor, above: Tensor, threshold: Tensor) -> Tensor:
    """What is above a threshold, as it is; else 0. Its gradient is that of a ReLU there, which may be redirected."""
    kept = torch.where(found > above, found, 0)
    rectified = F.relu(found - threshold)
    return rectified + (kept - rectified).detach()
