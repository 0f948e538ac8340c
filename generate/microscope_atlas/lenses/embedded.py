"""Pictures and texts in the embedding that they share, by a network that was trained on both.

Vectors have length 1, and are float64, so that no sum of them depends on what is summed beside. Each is made once a
process: the layers of a network share their pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from microscope_atlas.lenses import words
from microscope_atlas.lenses.lens import Subject
from microscope_atlas.models.texts import kept
from microscope_atlas.models.texts.tokenizer import tokenizer
from microscope_atlas.models.texts.tower import TextTower, text_tower
from microscope_atlas.pictures.sets import picture_set

AT_ONCE = 64  # texts in a batch


class EmbeddedTexts(NamedTuple):
    """Texts of a list, embedded."""

    texts: tuple[str, ...]
    vectors: Tensor  # (texts, embedding), of length 1; float64
    sha256: str  # of the text tower


def refuse_unread(name: str) -> None:
    """InvalidSetting for a word list that is not on this machine, or holds a text that is too long to be read.

    ExtraMissing where the vocabulary is not here.
    """
    tokenizer()(words.texts(name))


def pictures(subject: Subject, name: str, revision: str, numbers: Sequence[int], batch: int) -> Mapping[int, Tensor]:
    """Embeddings of pictures of a set by their numbers, each (embedding), of length 1, float64.

    The subject is a layer of the network that embeds them, `batch` pictures at once.
    """
    there = _seen(subject.organism.name, subject.weights_sha256, name, revision, str(subject.device))
    left = [number for number in numbers if number not in there]
    every = picture_set(name, revision)
    some = replace(
        every,
        length=len(left),
        read=lambda at: every.read(left[at]),
        describe=lambda at: every.describe(left[at]),
        photos=None,
    )
    assert subject.organism.texts is not None
    embed, done = subject.activations(subject.organism.texts.layer), 0
    for given in some.batches(subject.organism.input_size, batch, subject.device):
        with torch.no_grad():
            vectors = F.normalize(embed(subject.joined(given, batch))[: len(given)].double().cpu(), dim=1)
        there.update(zip(left[done : done + len(given)], vectors, strict=True))
        done += len(given)
    return there


@lru_cache(maxsize=1)
def _seen(model: str, weights_sha256: str, pictures: str, revision: str, device: str) -> dict[int, Tensor]:
    """Embeddings that this process has made."""
    return {}


@lru_cache(maxsize=1)
def texts(file: Path, name: str, device: torch.device) -> EmbeddedTexts:
    """The texts of a list, embedded once a process by the tower in a file."""
    listed = words.texts(name)
    vectors, sha256 = embed(file, listed, device)
    return EmbeddedTexts(listed, vectors, sha256)


def embed(file: Path, listed: Sequence[str], device: torch.device) -> tuple[Tensor, str]:
    """Texts (texts, embedding), of length 1, float64, by the tower in a file; and the sha256 of its tensors."""
    tower, sha256 = _tower(file, device)
    tokens = tokenizer()(listed, tower.context)
    vectors = []
    for start in range(0, len(tokens), AT_ONCE):
        some = tokens[start : start + AT_ONCE]
        longest = max(map(len, some))
        padded = torch.tensor([each + [0] * (longest - len(each)) for each in some], device=device)
        with torch.no_grad():
            vectors.append(F.normalize(tower(padded).double().cpu(), dim=1))
    return torch.cat(vectors), sha256


@lru_cache(maxsize=1)
def _tower(file: Path, device: torch.device) -> tuple[TextTower, str]:
    """The text tower in a file, and the sha256 of its tensors; who searches asks again and again."""
    given = kept.read(file)
    return text_tower(given.tensors).to(device), given.sha256
