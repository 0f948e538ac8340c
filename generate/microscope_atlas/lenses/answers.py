"""Answers of units: their responses to natural pictures, read back, as vectors that can be compared."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import pyarrow.compute as pc
import torch
from torch import Tensor

from microscope_atlas.atlas.tables import Scope
from microscope_atlas.lenses.correlation import standardized, varying
from microscope_atlas.lenses.lens import Subject

RESPONSES = "responses"
KEY = ("model", "layer", "unit")


class Pictures(NamedTuple):
    """What responses were measured on; only where it is the same can they be compared."""

    pictures: str
    revision: str | None
    number: int


def answers(
    subject: Subject, places: Mapping[tuple[Any, ...], int], scope: Scope
) -> Iterator[tuple[Pictures, list[int], Tensor]]:
    """Responses that vary, `standardized`, and the places of their units, some at a time."""
    for part in subject.read(RESPONSES, (*KEY, "responses", "recipe"), scope):
        measured: dict[Pictures, list[int]] = {}
        lengths = pc.list_value_length(part["responses"]).to_pylist()
        for at, (recipe, length) in enumerate(zip(part["recipe"].to_pylist(), lengths, strict=True)):
            if length:  # none where they are not finite
                measured.setdefault(Pictures(*_shown(recipe), length), []).append(at)
        for pictures, rows in measured.items():
            some = part.take(rows)
            responses = torch.tensor(pc.list_flatten(some["responses"]).to_numpy()).view(len(rows), pictures.number)
            kept = varying(responses)
            if kept.any():
                there = [
                    places[tuple(row.values())]
                    for row, keep in zip(some.select(KEY).to_pylist(), kept.tolist(), strict=True)
                    if keep
                ]
                yield pictures, there, standardized(responses[kept])


@cache
def _shown(recipe: str) -> tuple[str, str | None]:
    """The picture set of a row's recipe, and its revision."""
    made = json.loads(recipe)
    return made["pictures"], made["revision"]
