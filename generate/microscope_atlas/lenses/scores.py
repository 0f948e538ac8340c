"""Scores of units that need no words: how clear, how polysemantic, how redundant each is, by its natural pictures.

The measures are those of SemanticLens (Dreyer et al. 2025), see sample_scores, of what `dataset_samples` shows of each
unit: its strongest pictures, cut to what it sees. They are embedded by another network, which the recipe names, so that
what counts is what that network finds alike. Clarity is told in the measure of random pictures: of what random samples
of the layer's units have in common anyway, which with some networks is most.

Beside the likeness of samples, redundancy is told by the answers: correlation of `responses`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated

import torch
from PIL import Image
from torch import Tensor

from microscope_atlas.atlas import schema
from microscope_atlas.errors import LensFailed, NotRendered
from microscope_atlas.lenses import embedding as embeddings
from microscope_atlas.lenses import recipe as recipes
from microscope_atlas.lenses import sample_scores
from microscope_atlas.lenses.answers import answers
from microscope_atlas.lenses.correlation import Nearest
from microscope_atlas.lenses.embedding import Embedding
from microscope_atlas.lenses.lens import Lens, Row, Subject
from microscope_atlas.lenses.recipe import Quality
from microscope_atlas.lenses.responses import spaced
from microscope_atlas.models.organism import Organism
from microscope_atlas.pictures.decoder import decoded, fitted
from microscope_atlas.pictures.sets import picture_set
from microscope_atlas.structure import Count, between, matching

SAMPLES = "dataset_samples"
NAMED = re.compile(r"(?!own:).+")  # an atlas that comes from elsewhere must not name code that is run
BOX = ("picture", "left", "top", "right", "bottom")  # what is seen of which picture
LEAST = 64  # px on a side, that a field is not narrowed below
KEPT = 256  # pictures in memory, of a set that is pointed at

Box = tuple[int, int, int, int, int]
Middles = dict[tuple[int, str, int], tuple[int, int, int, int]]  # left, top, right, bottom


@dataclass(frozen=True)
class Recipe(recipes.Recipe):
    """Settings of scores."""

    embedding: Annotated[str, matching(NAMED, "a network of the catalog, torchvision:, timm: or transformers:")] = (
        "efficientnet_lite0"
    )
    embedding_layer: str | None = None  # whose activations, averaged over places, embed; None: the last but the logits
    field: Annotated[float, between(0.05, 1)] = 0.4
    # share of a receptive field's side, around its middle, that is looked at: what is without weight lies at its edge
    samples: Annotated[int, between(2, 64)] = 16  # of a unit, the strongest first
    min_samples: Annotated[int, between(3, 64)] = 8  # a unit with fewer has no scores
    background: Annotated[int, between(2, 4096)] = 256  # random samples of the layer's units, evenly spaced
    batch: Count = 16  # pictures at once


class Scores(Lens[Recipe]):
    """The lens."""

    table = schema.SCORES
    divisible = False
    named_only = True
    unit_seconds = 1.0  # measured on 96 units of inception_4c of inceptionv1_caffe

    def recipe(self, quality: Quality) -> Recipe:
        return Recipe()

    def quick(self) -> Recipe:
        return Recipe(samples=8, background=8)

    def refuse(self, organism: Organism, weights_sha256: str | None, recipe: Recipe) -> None:
        """UnknownName, WeightsError where the embedding cannot be made; LensFailed where no unit could have scores."""
        if recipe.min_samples > recipe.samples:
            raise LensFailed(
                f"{self.name} looks at {recipe.samples} samples of a unit and asks for {recipe.min_samples}; "
                f"expected min_samples up to samples: --set {self.name}.samples=NUMBER"
            )
        if weights_sha256 is not None:
            embeddings.refuse(recipe.embedding, recipe.embedding_layer)

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        middles = _middles(subject, recipe.field)
        known = _known(subject, units, recipe, middles)
        embeds = embeddings.embedding(recipe.embedding, recipe.embedding_layer, subject.device)
        embedded = _embedded(subject, known, embeds, recipe.batch, middles)
        random = _random(known, embedded)
        vectors = {
            unit: torch.stack([embedded[box] for box in known.units[unit]])
            for unit, flag in known.flags.items()
            if flag is None
        }
        twins, correlated = _twins(vectors), _correlated(subject)
        shared = {
            "random_likeness": random,
            "embedding": recipe.embedding,
            "embedding_layer": embeds.layer,
            "embedding_sha256": embeds.sha256,
        }
        for unit in units:
            row: Row = {"unit": unit, "num_samples": len(known.units[unit]), "flag": known.flags[unit], **shared}
            row |= dict.fromkeys(("clarity", "likeness", "polysemanticity")) | {"clusters": []}
            if unit in vectors:
                row |= _measured(vectors[unit], random)
            row["twin"], row["redundancy"] = twins.get(unit, (None, None))
            row["answers_like"], row["correlation"] = correlated.get(unit, (None, None))
            yield [row]


def _random(known: "_Known", embedded: Mapping[Box, Tensor]) -> float | None:
    """How alike random samples of different pictures are; None where there are not two."""
    if not known.random:
        return None
    vectors = torch.stack([embedded[box] for box in known.random])
    return sample_scores.likeness_between(vectors, torch.tensor([box[0] for box in known.random]))


def _twins(vectors: Mapping[int, Tensor]) -> dict[int, tuple[int, float]]:
    """To each unit that of the layer whose samples are most alike, and how much."""
    units = list(vectors)
    if not units:
        return {}
    found = sample_scores.nearest(torch.stack([each.double().mean(0) for each in vectors.values()]))
    return {unit: (units[best[0]], best[1]) for unit, best in zip(units, found, strict=True) if best}


def _measured(vectors: Tensor, random: float | None) -> Row:
    likeness = sample_scores.likeness(vectors)
    return {
        "likeness": likeness,
        "clarity": None if random is None or random >= 1 else (likeness - random) / (1 - random),
        "polysemanticity": sample_scores.polysemanticity(vectors),
        "clusters": sample_scores.clusters(vectors),
    }


@dataclass
class _Known:
    """The samples of a layer that count."""

    units: dict[int, list[Box]] = field(default_factory=dict)  # the strongest, in their order
    flags: dict[int, str | None] = field(default_factory=dict)  # why a unit has no scores, if it has none
    random: list[Box] = field(default_factory=list)


def _middles(subject: Subject, share: float) -> Middles:
    """Of each sample, by unit, bucket and rank, the middle of what is seen there; none of neurons, which see all."""
    vertical, horizontal = subject.layer.sides
    found: Middles = {}
    for part in subject.read("responses", ("unit", "samples"), "layer"):
        for row in part.to_pylist():
            for each in row["samples"]:
                if each["x"] is not None:
                    across, down = (
                        (0, subject.organism.input_size)
                        if side.size is None
                        else _narrowed(side.origin + at * side.stride, side.size, share)
                        for side, at in ((horizontal, each["x"]), (vertical, each["y"]))
                    )
                    found[row["unit"], each["bucket"], each["rank"]] = (across[0], down[0], across[1], down[1])
    return found


def _narrowed(start: int, size: int, share: float) -> tuple[int, int]:
    """The middle part of a field's side, from where to where, px."""
    kept = max(round(size * share), min(size, LEAST))
    begin = start + (size - kept) // 2
    return begin, begin + kept


def _known(subject: Subject, units: Sequence[int], recipe: Recipe, middles: Middles) -> _Known:
    """Which samples count: the strongest above zero, or all where none is; NotRendered where a unit has none."""
    known, tops = _Known(), dict[int, list[tuple[float, Box]]]()
    for part in subject.read(SAMPLES, ("unit", "bucket", "rank", "activation", "flag", *BOX), "layer"):
        for row in part.to_pylist():
            known.flags[row["unit"]] = row["flag"]
            top = tops.setdefault(row["unit"], [])
            if row["bucket"] == "random":
                known.random.append(_box(row, middles))
            elif row["bucket"] == "top" and row["rank"] < recipe.samples and row["picture"] is not None:
                top.append((row["activation"], _box(row, middles)))
    known.units = {
        unit: [box for activation, box in top if activation > 0] or [box for _, box in top]
        for unit, top in tops.items()
    }
    if absent := sorted(set(units) - known.units.keys()):
        raise NotRendered(
            f"the atlas has no {SAMPLES} of units {absent} of {subject.key()}, which scores are made from; "
            f"render them first: --lens {SAMPLES}"
        )
    for unit, boxes in known.units.items():
        known.flags[unit] = known.flags[unit] or ("few" if len(boxes) < recipe.min_samples else None)
    known.random = [known.random[at] for at in spaced(len(known.random), recipe.background)]
    return known


def _embedded(subject: Subject, known: _Known, embeds: Embedding, batch: int, middles: Middles) -> dict[Box, Tensor]:
    """The embedding of each sample that counts."""
    left = {*known.random, *(box for unit, top in known.units.items() if not known.flags[unit] for box in top)}
    found: dict[Box, Tensor] = {}
    columns = ("unit", "bucket", "rank", *BOX, "image", "set", "revision")
    for part in subject.read(SAMPLES, columns, "layer"):
        each = ((_box(row, middles), row) for row in part.to_pylist() if row["picture"] is not None)
        rows = {box: row for box, row in each if box in left}
        left -= rows.keys()
        boxes = list(rows)
        for start in range(0, len(boxes), batch):
            some = boxes[start : start + batch]
            shown = [_picture(subject, rows[box], box) for box in some]
            found.update(zip(some, embeds(shown, subject.least(batch)), strict=True))
    return found


def _box(row: Row, middles: Middles) -> Box:
    """What is looked at: the middle of what the row shows, as far as that reaches; all of it where it does not."""
    picture, left, top, right, bottom = (int(row[name]) for name in BOX)
    middle = middles.get((row["unit"], row["bucket"], row["rank"]))
    if middle is None:
        return picture, left, top, right, bottom
    narrow = max(left, middle[0]), max(top, middle[1]), min(right, middle[2]), min(bottom, middle[3])
    if narrow[0] >= narrow[2] or narrow[1] >= narrow[3]:  # the middle is in the padding
        return picture, left, top, right, bottom
    return picture, *narrow


def _picture(subject: Subject, row: Row, box: Box) -> Image.Image:
    """What a box has of a picture: out of what the row holds, else out of the set that it points at."""
    _, left, top, right, bottom = box
    if row["image"] is not None:
        x, y = row["left"], row["top"]
        return decoded(row["image"]["bytes"]).crop((left - x, top - y, right - x, bottom - y))
    shown = _shown(row["set"], row["revision"], row["picture"], subject.organism.input_size)
    return shown.crop((left, top, right, bottom))


@lru_cache(KEPT)
def _shown(name: str, revision: str, picture: int, size: int) -> Image.Image:
    return fitted(picture_set(name, revision)[picture], size)


def _correlated(subject: Subject) -> dict[int, tuple[int, float]]:
    """To each unit that of the layer whose responses correlate most, and how much."""
    keys = [row["unit"] for part in subject.read("responses", ("unit",), "layer") for row in part.to_pylist()]
    places = {(subject.organism.name, subject.layer.name, unit): unit for unit in keys}
    parts = list(answers(subject, places, "layer"))
    found: dict[int, tuple[int, float]] = {}
    for pictures, own, vectors in parts:
        nearest = Nearest(vectors, own, 1)
        for others, there, answered in parts:
            if others == pictures:
                nearest.see(answered, there)
        found |= {unit: best[0] for unit, best in zip(own, nearest.found(), strict=True) if best}
    return found
