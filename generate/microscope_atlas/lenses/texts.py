"""Texts: of a word list, those that go with what excites a unit of an image tower that was trained on texts, too.

A text has no activation within an image tower. What can be compared is the embedding that pictures and texts share, in
which each is a direction; embeddings are normalised to length 1.

- A unit of the embedding itself is one of its coordinates: its texts are those with the largest, which is exact.
- Any other unit is known by its best natural pictures, those of `responses` that excite it above zero. Its direction is
  the mean of their embeddings, less the mean over pictures evenly spaced in the whole set, which takes away what all
  pictures have in common. Texts are ranked by the cosine of their embedding with it, less the mean over the word list,
  because pictures and texts lie in different parts of the embedding.

So a row says which texts go with the pictures that excite a unit. That is no proof that the unit reads them: what its
pictures have in common beside, a text may name as well; and what neither set nor list holds cannot be found.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from microscope_atlas.atlas import schema
from microscope_atlas.errors import LensFailed, NotRendered
from microscope_atlas.lenses import embedded, words
from microscope_atlas.lenses.dataset_samples import refuse_other_pictures
from microscope_atlas.lenses.embedded import EmbeddedTexts
from microscope_atlas.lenses.lens import Lens, Row, Subject
from microscope_atlas.lenses.recipe import PicturesRecipe, Quality
from microscope_atlas.lenses.responses import spaced
from microscope_atlas.models.organism import Organism
from microscope_atlas.models.texts import kept
from microscope_atlas.pictures.cuts import default_revision
from microscope_atlas.pictures.sets import picture_set
from microscope_atlas.pictures.sources import DEFAULT
from microscope_atlas.structure import Count, between, matching

FLAT = 1e-6  # length of a direction, below which there is none: a unit's pictures are then those of the set

Words = Annotated[str, matching(words.NAMED, "a word list: `default`, or a text file with a text a line")]


@dataclass(frozen=True)
class Recipe(PicturesRecipe):
    """Settings of texts; the pictures are those that the responses are to."""

    words: Words  # word list, with the sha256 of its content; given as `default` or a file
    top: Annotated[int, between(1, 1000)] = 10  # texts of a unit
    background: Count = 256  # pictures, evenly spaced in the set, whose mean is taken away
    batch: Count = 16  # pictures at once

    @classmethod
    def taken(cls, plain: Mapping[str, Any]) -> dict[str, Any]:
        """See Recipe."""
        given = plain["words"]
        return {**plain, "words": words.taken(given) if isinstance(given, str) else given}


class Texts(Lens[Recipe]):
    """The lens."""

    table = schema.TEXTS
    divisible = False
    named_only = True

    def recipe(self, quality: Quality) -> Recipe:
        return Recipe(DEFAULT, default_revision(), words.taken(words.DEFAULT))

    def refuse(self, organism: Organism, weights_sha256: str | None, recipe: Recipe) -> None:
        """LensFailed for a network that knows no texts; WeightsError, ExtraMissing for what is not here to read any."""
        if organism.texts is None:
            raise LensFailed(
                f"{self.name} compares pictures with texts, which {organism.name} was not trained on; "
                f"leave --lens {self.name} out, or name one of the contrastive networks"
            )
        embedded.refuse_unread(recipe.words)
        if weights_sha256 is not None:
            kept.refuse_absent(organism, weights_sha256)

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        kept.refuse_absent(subject.organism, subject.weights_sha256)
        assert subject.organism.texts is not None
        tower = kept.kept_file(subject.organism, subject.weights_sha256)
        known = embedded.texts(tower, recipe.words, subject.device)
        exact = subject.layer.name == subject.organism.texts.layer
        found = _coordinates(known, units) if exact else _compared(subject, known, units, recipe)
        name, revision = words.parts(recipe.words)
        shared = {"words": name, "words_revision": revision, "text_tower_sha256": known.sha256}
        for unit, scores, about in found:
            yield [{"unit": unit, **shared, **about, **row} for row in _ranked(known, scores, recipe.top)]


Found = tuple[int, Tensor | None, Row]  # a unit, the score of each text, and further columns; None: it has none


def _coordinates(known: EmbeddedTexts, units: Sequence[int]) -> Iterator[Found]:
    for unit in units:
        yield unit, known.vectors[:, unit], {"num_pictures": None, "flag": None}


def _compared(subject: Subject, known: EmbeddedTexts, units: Sequence[int], recipe: Recipe) -> Iterator[Found]:
    samples = _samples(subject, units, recipe)
    background = list(spaced(len(picture_set(recipe.pictures, recipe.revision)), recipe.background))
    numbers = {number for flag, seen in samples.values() if not flag for number in seen}
    vectors = embedded.pictures(
        subject, recipe.pictures, recipe.revision, sorted(numbers.union(background)), recipe.batch
    )
    common = torch.stack([vectors[number] for number in background]).mean(0)
    centred = F.normalize(known.vectors - known.vectors.mean(0), dim=1)
    for unit in units:
        flag, seen = samples[unit]
        about: Row = {"num_pictures": len(seen), "flag": flag}
        if flag:
            yield unit, None, about
            continue
        towards = torch.stack([vectors[number] for number in seen]).mean(0) - common
        if not torch.isfinite(towards).all() or (length := towards.norm()) < FLAT:
            yield unit, None, {**about, "flag": "flat" if torch.isfinite(towards).all() else "nan"}
        else:
            yield unit, centred @ (towards / length), about


def _ranked(known: EmbeddedTexts, scores: Tensor | None, most: int) -> list[Row]:
    """The texts with the highest scores, of equals the earlier in the list first; without scores one row of none."""
    if scores is None:
        return [{"rank": 0, "text": None, "score": None}]
    values, order = scores.float().sort(descending=True, stable=True)
    best = zip(order[:most].tolist(), values[:most].tolist(), strict=True)
    return [{"rank": rank, "text": known.texts[at], "score": value} for rank, (at, value) in enumerate(best)]


def _samples(subject: Subject, units: Sequence[int], recipe: Recipe) -> dict[int, tuple[str | None, list[int]]]:
    """Of each unit its flag and the numbers of its best pictures: those above zero, or all where none is."""
    found: dict[int, tuple[str | None, list[int]]] = {}
    wanted = frozenset(units)
    for part in subject.read("responses", ("unit", "samples", "flag", "recipe")):
        for row in part.to_pylist():
            if row["unit"] in wanted:
                refuse_other_pictures(subject, row, recipe)
                top = [sample for sample in row["samples"] if sample["bucket"] == "top"]
                seen = [sample["picture"] for sample in top if sample["activation"] > 0]
                found[row["unit"]] = row["flag"], seen or [sample["picture"] for sample in top]
    if absent := sorted(wanted - found.keys()):
        raise NotRendered(
            f"the atlas has no responses of units {absent} of {subject.key()}; render --lens responses too"
        )
    return found
