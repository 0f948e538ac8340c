"""Units by meaning: those whose direction in a CLIP's embedding is nearest to some words."""

from typing import Any

import torch
from torch import Tensor

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.find_labels import Found, asked
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasDamaged, NotRendered
from microscope_atlas.keys import Key
from microscope_atlas.lenses import clip, embedded

TABLE = schema.LABELS_CLIP_DISSECT.name
MEASURE = "cosine, -1 to 1, between the words and the unit's direction in the embedding of {clip}"
COLUMNS = ("unit", "embedding", *schema.LEAST_SAID)


def meant(atlas: Atlas, words: str, most: int = 20) -> list[Found]:
    """The units that are nearest to some words, each with its own first label and who says so.

    The score is the cosine. Raises InvalidSetting without words, or with too many; NotRendered where the atlas has no
    embeddings; WeightsError where the CLIP's text tower is not on this machine.
    """
    asked(words)
    recipe = atlas.manifest.lenses.get(TABLE)
    if recipe is None:
        raise NotRendered(f"this atlas has no embeddings to search by meaning; render --lens {TABLE} first")
    named = str(recipe.get("clip"))
    vectors, _ = embedded.embed(clip.tower(named), [words.strip()], torch.device("cpu"))
    measure = MEASURE.format(clip=named.partition("@")[0])
    found: list[tuple[float, Key, dict[str, Any]]] = []
    for model in atlas.models:
        for layer in atlas.layers(model):
            rows = [row for row in atlas.some(TABLE, model, layer, COLUMNS).to_pylist() if row["embedding"] is not None]
            if rows:
                directions = _stacked(Key(model, layer), [row["embedding"] for row in rows], vectors.shape[1])
                scores = (directions @ vectors[0]).tolist()
                keys = [Key(model, layer, row["unit"]) for row in rows]
                found += zip(scores, keys, rows, strict=True)
    found.sort(key=lambda each: (-each[0], str(each[1])))
    return [
        Found(str(key), row["label"], row["method"], row["source"], row["license"], score, measure)
        for score, key, row in found[:most]
    ]


def _stacked(layer: Key, directions: list[list[float]], width: int) -> Tensor:
    """Directions (units, embedding), float64; AtlasDamaged where they are of another embedding."""
    if {len(each) for each in directions} != {width}:
        raise AtlasDamaged(f"{TABLE} of {layer} has embeddings of other than {width} numbers, which its CLIP has")
    return torch.tensor(directions, dtype=torch.float64)
