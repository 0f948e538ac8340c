"""Labels by CLIP-Dissect: of a word list, the texts that fit the pictures which excite a unit, as a CLIP sees both.

Oikarinen and Weng 2023, https://arxiv.org/abs/2204.10965, with their soft-WPMI: see soft_wpmi. The network that is
looked at need know no texts. A unit's response to a picture is its strongest activation there, which `responses` has;
the authors take the mean over the picture. What a text has for all units is taken over those units of the layer that
the atlas has responses of, and that some picture excites.

Beside its labels a unit has a direction in the CLIP's embedding, by which it can be found by meaning: the mean of its
best pictures, less that of all, without its part along the mean text of the list. So what all pictures have in common,
and what all texts have in common, makes no unit more like any text than others.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from microscope_atlas.atlas import schema
from microscope_atlas.errors import InvalidSetting, LensFailed, NotRendered
from microscope_atlas.lenses import clip, embedded, words
from microscope_atlas.lenses.dataset_samples import refuse_other_pictures
from microscope_atlas.lenses.lens import Lens, Row, Subject
from microscope_atlas.lenses.recipe import PicturesRecipe, Quality
from microscope_atlas.lenses.responses import spaced
from microscope_atlas.lenses.soft_wpmi import Constants, Ranked, soft_wpmi
from microscope_atlas.lenses.texts import Words
from microscope_atlas.models.organism import Organism
from microscope_atlas.models.texts import kept
from microscope_atlas.pictures.cuts import default_revision
from microscope_atlas.pictures.sets import picture_set
from microscope_atlas.pictures.sources import DEFAULT
from microscope_atlas.structure import Count, Limit, between

METHOD = "clip_dissect"
MEASURE = (
    "soft-WPMI, in nats: the logarithm of how far the text goes with the unit's best pictures, less that of the same "
    "on average over the layer's units; higher is better"
)
FLAT = 1e-6  # length of a direction, below which there is none: a unit's best pictures are those of the set

Clip = Annotated[
    str,
    Limit(f"a CLIP: {clip.HINT}", lambda name: not name or clip.NAMED.fullmatch(name) is not None),
]


@dataclass(frozen=True)
class Recipe(PicturesRecipe):
    """Settings of labels by CLIP-Dissect; the pictures are those that the responses are to."""

    words: Words  # word list, with the sha256 of its content; given as `default` or a file
    clip: Clip = ""  # CLIP, with the sha256 of its image tower's weights; given by its name
    labels: Annotated[int, between(1, 1000)] = 3  # of a unit
    soft_wpmi: Constants = field(default_factory=Constants)
    embedded: Count = 16  # best pictures, whose mean is the unit's direction
    batch: Count = 16  # pictures at once

    @classmethod
    def taken(cls, plain: Mapping[str, Any]) -> dict[str, Any]:
        """See Recipe."""
        found = dict(plain)
        if isinstance(plain.get("words"), str):
            found["words"] = words.taken(plain["words"])
        if isinstance(plain.get("clip"), str) and plain["clip"]:
            found["clip"] = clip.taken(plain["clip"])
        return found


class LabelsClipDissect(Lens[Recipe]):
    """The lens."""

    table = schema.LABELS_CLIP_DISSECT
    divisible = False
    named_only = True

    def recipe(self, quality: Quality) -> Recipe:
        return Recipe(DEFAULT, default_revision(), words.taken(words.DEFAULT))

    def refuse(self, organism: Organism, weights_sha256: str | None, recipe: Recipe) -> None:
        """LensFailed without a CLIP or with too few pictures; WeightsError, ExtraMissing for what is not here."""
        if not recipe.clip:
            raise LensFailed(f"{self.name} needs a CLIP: --set {self.name}.clip=NAME, of {clip.HINT}")
        if recipe.soft_wpmi.first < recipe.soft_wpmi.last:
            raise InvalidSetting(f"{self.name}: soft_wpmi.first is below soft_wpmi.last; expected chances that fall")
        least = 2 * recipe.soft_wpmi.best
        if (there := len(picture_set(recipe.pictures, recipe.revision))) < least:
            raise LensFailed(
                f"{self.name} compares the {recipe.soft_wpmi.best} pictures that excite a unit most with all: it needs "
                f"{least} pictures at least, {recipe.pictures} has {there}; name a larger set, or fewer: "
                f"--set {self.name}.soft_wpmi.best={max(1, there // 2)}"
            )
        embedded.refuse_unread(recipe.words)
        clip.refuse_absent(recipe.clip)

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        layer = _responses(subject, units, recipe)
        seeing = clip.subject(recipe.clip, subject.device)
        known = embedded.texts(kept.kept_file(seeing.organism, seeing.weights_sha256), recipe.words, subject.device)
        made = _dissected(layer, seeing, recipe, known.sha256)
        name, sha256 = words.parts(recipe.words)
        source = (
            f"word list {name}, sha256 {sha256}; CLIP {seeing.organism.name}, sha256 {seeing.weights_sha256}, text "
            f"tower sha256 {known.sha256}"
        )
        told = {
            "method": METHOD,
            "measure": MEASURE,
            "source": source,
            "source_sha256": sha256,
            "license": schema.LICENSE,
        }
        for at, unit in enumerate(layer.units):
            if unit in units:
                direction = made.directions[at]
                yield [
                    {
                        "unit": unit,
                        **told,
                        "rank": rank,
                        "label": known.texts[text],
                        "score": score,
                        "embedding": None if rank or direction is None else direction,
                    }
                    for rank, (text, score) in enumerate(
                        zip(made.ranked.texts[at].tolist(), made.ranked.scores[at].tolist(), strict=True)
                    )
                ]


@dataclass(frozen=True)
class _Responses:
    """What the units of a layer answer to the pictures of the set."""

    digest: str  # of all else
    units: tuple[int, ...] = field(compare=False)  # that some picture excites
    pictures: tuple[int, ...] = field(compare=False)  # their numbers in the set
    values: Tensor = field(compare=False)  # (units, pictures), float64


@dataclass(frozen=True)
class _Dissected:
    """What is found of the units of a layer."""

    ranked: Ranked
    directions: list[Any]  # of each unit (embedding), float16 of numpy; None where it has none


def _responses(subject: Subject, units: Sequence[int], recipe: Recipe) -> _Responses:
    """The responses of the whole layer, as far as there are any; NotRendered where a unit asked for has none."""
    found: dict[int, tuple[bool, Tensor]] = {}
    kept_of: set[int] = set()
    for part in subject.read("responses", ("unit", "responses", "flag", "recipe"), "layer"):
        for row in part.to_pylist():
            refuse_other_pictures(subject, row, recipe)
            kept_of.add(json.loads(row["recipe"])["max_responses"])
            values = torch.tensor(row["responses"], dtype=torch.float64)
            found[row["unit"]] = row["flag"] is None and bool((values > 0).any()), values
    if absent := sorted({*units} - found.keys()):
        raise NotRendered(
            f"the atlas has no responses of units {absent} of {subject.key()}; render --lens responses too"
        )
    if len(kept_of) > 1:
        raise NotRendered(f"responses of {subject.key()} are to different numbers of pictures: {sorted(kept_of)}")
    number = len(picture_set(recipe.pictures, recipe.revision))
    pictures = tuple(spaced(number, most := kept_of.pop()))
    if len(pictures) < 2 * recipe.soft_wpmi.best:
        raise LensFailed(
            f"the responses of {subject.key()} are kept of {most} pictures, and the {recipe.soft_wpmi.best} that "
            "excite a unit most are compared with them all: expected twice as many at least; keep more, "
            "--set responses.max_responses=NUMBER, or look at fewer, "
            f"--set {LabelsClipDissect.table.name}.soft_wpmi.best=NUMBER"
        )
    excited = [unit for unit, (excites, _) in sorted(found.items()) if excites]
    values = torch.stack([found[unit][1] for unit in excited]) if excited else torch.zeros(0, len(pictures)).double()
    digest = hashlib.sha256(repr((excited, pictures)).encode() + values.numpy().tobytes()).hexdigest()
    return _Responses(digest, tuple(excited), pictures, values)


def _dissected(layer: _Responses, seeing: Subject, recipe: Recipe, tower_sha256: str) -> _Dissected:
    """What is found of a layer, once a process for all its shards."""
    return _once(layer, recipe, tower_sha256, str(seeing.device))


@lru_cache(maxsize=1)
def _once(layer: _Responses, recipe: Recipe, tower_sha256: str, device: str) -> _Dissected:
    seeing = clip.subject(recipe.clip, torch.device(device))
    file = kept.kept_file(seeing.organism, seeing.weights_sha256)
    known = embedded.texts(file, recipe.words, seeing.device)
    found = embedded.pictures(seeing, recipe.pictures, recipe.revision, layer.pictures, recipe.batch)
    vectors = torch.stack([found[number] for number in layer.pictures])
    if not layer.units:
        return _Dissected(Ranked(torch.zeros(0, 0), torch.zeros(0, 0)), [])
    ranked = soft_wpmi(vectors, known.vectors, layer.values, recipe.soft_wpmi, recipe.labels)
    shared = F.normalize(known.vectors.mean(0), dim=0)
    return _Dissected(ranked, [_direction(vectors, shared, values, recipe.embedded) for values in layer.values])


def _direction(vectors: Tensor, shared: Tensor, values: Tensor, most: int) -> Any:
    """The direction of a unit in the embedding; None where its best pictures have no other than all.

    `vectors` (pictures, embedding), `shared` (embedding), the mean text; `values` (pictures), the unit's responses.
    """
    order = values.argsort(descending=True, stable=True)[:most]
    towards = vectors[order[values[order] > 0]].mean(0) - vectors.mean(0)
    towards = towards - (towards @ shared) * shared
    length = towards.norm()
    if not torch.isfinite(length) or length < FLAT:
        return None
    return (towards / length).half().numpy()
