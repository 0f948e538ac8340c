"""A CLIP that others are looked at with: a network with both its towers, named with the sha256 of its weights."""

import re
from functools import lru_cache
from pathlib import Path

import torch

from microscope_atlas.errors import InvalidSetting, LensFailed, WeightsError
from microscope_atlas.keys import MODEL
from microscope_atlas.lenses.lens import Subject
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.organism import Organism
from microscope_atlas.models.texts import kept

NAMED = re.compile(rf"({MODEL.pattern})@([0-9a-f]{{64}})")  # one that was taken in
HINT = "contrastive_rn50, contrastive_4x, contrastive_16x, or transformers:OWNER/NAME of a CLIP"


def taken(name: str) -> str:
    """`NAME@SHA256` of a network's name, with the sha256 of the weights that are here; as it is where it has one.

    Raises LensFailed for a network that was not trained on texts, WeightsError where its text tower is not here.
    """
    if NAMED.fullmatch(name):
        return name
    known = organism(name)
    _refuse_without_texts(known)
    here = weights.load(known)
    kept.obtain(known, here.sha256, here.provenance)
    kept.refuse_absent(known, here.sha256)
    return f"{known.name}@{here.sha256}"


def parts(clip: str) -> tuple[Organism, str]:
    """The network that was `taken`, and the sha256 of its weights."""
    found = NAMED.fullmatch(clip)
    if found is None:
        raise InvalidSetting(f"{clip!r} is no CLIP with the sha256 of its weights; name one: {HINT}")
    return organism(found[1]), found[2]


def tower(clip: str) -> Path:
    """Where the text tower of a CLIP lies; for what `refuse_absent` raises where it is not on this machine."""
    found = NAMED.fullmatch(clip)
    file = kept.file_named(found[1], found[2]) if found else None
    if file is None or not file.exists():
        refuse_absent(clip)
    assert file is not None
    return file


def refuse_absent(clip: str) -> None:
    """LensFailed for a network without texts, WeightsError where its text tower is not on this machine."""
    known, sha256 = parts(clip)
    _refuse_without_texts(known)
    kept.refuse_absent(known, sha256)


def subject(clip: str, device: torch.device) -> Subject:
    """The layer of a CLIP that is the embedding, as lenses look at one; loaded when it is first asked for."""
    known, sha256 = parts(clip)
    assert known.texts is not None
    return Subject(
        known,
        known.layer(known.texts.layer),
        device,
        lambda: _loaded(known.name, sha256, device),
        weights_sha256=sha256,
    )


@lru_cache(maxsize=1)
def _loaded(name: str, sha256: str, device: torch.device) -> Network:
    known = organism(name)
    here = weights.load(known)
    if here.sha256 != sha256:
        raise WeightsError(f"weights of {name} have sha256 {here.sha256} here; {sha256} is asked for")
    return weights.network(known, here, device)


def _refuse_without_texts(known: Organism) -> None:
    if known.texts is None:
        raise LensFailed(f"{known.name} has no text tower: it knows pictures alone; name a CLIP: {HINT}")
