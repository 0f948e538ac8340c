"""Dictionaries as a manifest states them: what makes the units of a layer that stands behind a network's own."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from microscope_atlas.atlas.provenance import Words
from microscope_atlas.atlas.units import MOST_UNITS
from microscope_atlas.structure import between, matching, structure

SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Attached:
    """A dictionary behind a layer. Its numbers are found by their hash: in the cache, or again at their source."""

    behind: Words  # the layer whose activations it reads
    sha256: Annotated[str, matching(SHA256, "a sha256")]  # of its numbers and settings, whatever file they were in
    units: Annotated[int, between(1, MOST_UNITS)]
    what: Words  # `49152 units, topk 32`
    tokens: Words  # which positions of the layer are encoded
    source: Words  # `hub:OWNER/NAME@COMMIT`; of a file at hand its name
    says: tuple[tuple[Words, Words], ...] = ()  # what its file says of itself: network, layer, ...
    where: Words = field(default="", compare=False)  # the file on this machine; no manifest says so

    @property
    def identity(self) -> str:
        """What its units are: its numbers, and what they are applied to."""
        return _identity(self.sha256, self.behind, self.tokens)

    @property
    def told(self) -> dict[str, Any]:
        """What rows say of it, as a part of their recipe."""
        return {"behind": self.behind, "sha256": self.sha256, "tokens": self.tokens, "what": self.what}

    @property
    def sentence(self) -> str:
        """What readers are told of it."""
        return (
            f"units are those of a dictionary behind {self.behind}, {self.what}; {self.tokens} are encoded; from "
            f"{self.source}, sha256 {self.sha256}"
        )


def stated(model: Mapping[str, Any]) -> dict[str, Attached]:
    """The dictionaries of a model, by the layers that they make, by what a manifest has of it."""
    return {layer: structure(Attached, plain, layer) for layer, plain in model.get("dictionaries", {}).items()}


def identity_of(model: Mapping[str, Any], layer: str) -> str | None:
    """Of the dictionary that makes a layer's units, by what a manifest has of the model; None where none does."""
    found = model.get("dictionaries", {}).get(layer)
    return None if found is None else _identity(found["sha256"], found["behind"], found["tokens"])


def _identity(sha256: str, behind: str, tokens: str) -> str:
    return f"{sha256} behind {behind}, {tokens}"
