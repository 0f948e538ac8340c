"""Units: one row a unit with what the other tables say of it in brief; the table to filter by and to join on.

What it is made from: `responses`, which it needs, and `feature_visualization`, of which it takes what is there.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.links import link
from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.errors import NotRendered
from microscope_atlas.lenses import recipe as recipes
from microscope_atlas.lenses.answers import KEY, RESPONSES, Pictures, answers
from microscope_atlas.lenses.correlation import Nearest
from microscope_atlas.lenses.lens import Lens, Row, Subject, seed
from microscope_atlas.lenses.recipe import Quality
from microscope_atlas.lenses.tile import jpeg, tile
from microscope_atlas.lenses.unit_map import NetworkMap, UnitMap, unit_map
from microscope_atlas.models.organism import Organism
from microscope_atlas.structure import Absent, between

VISUALIZATION = "feature_visualization"
STATISTICS = ("mean", "maximum", "quantiles", "sparsity", "flag")  # taken from the responses as they are
CLASSES = ("classes", "class_selectivity")  # as well, where the responses have them
RELATED = ("nearest", "nearest_elsewhere")
MAPS = ("layer_map", "model_map")
VIEW = ("method", "objective", "direction", "variant", "score", "flag")
THUMBNAIL = {"method": "fourier", "objective": "channel", "direction": 1, "variant": 0}


Answered = tuple[Pictures, list[int], Tensor]  # what was shown, and units with their answers to it


@dataclass(frozen=True)
class Recipe(recipes.Recipe):
    """Settings of units."""

    thumbnail: Annotated[int, between(8, 1024)] = 64  # px on a side
    quality: Annotated[int, between(1, 95)] = 75  # of the thumbnail's JPEG
    nearest: Annotated[int, between(1, 1000)] = 10  # units that respond most alike, within the model and elsewhere
    classes: Annotated[bool, Absent(False)] = True  # whether rows say which classes a unit speaks for
    perplexity: Annotated[int, between(0, 1000), Absent(0)] = 30  # of maps; 0: rows have no place on one


class Units(Lens[Recipe]):
    """The lens."""

    table = schema.UNITS
    divisible = False
    unit_seconds = 0.02  # measured on inception_4c of inceptionv1_caffe, with a thousand photos; most of it is the map

    def recipe(self, quality: Quality) -> Recipe:
        return Recipe()

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        responses = _responses(subject, units)
        visualized = _visualized(subject, recipe)
        related = _related(subject, units, recipe)
        layer, organism = subject.layer, subject.organism
        for unit in units:
            seen, response = visualized.get(unit, _Visualized()), responses[unit]
            natural = {(n["objective"], n["direction"]): n["activation"] for n in response["natural"]}
            yield [
                {
                    "unit": unit,
                    "kind": layer.kind,
                    "branch": branch(layer, unit),
                    "class_name": class_name(organism, layer, unit),
                    "thumbnail": None if response["flag"] == "nan" else seen.thumbnail,
                    **{name: response[name] for name in STATISTICS},
                    **{name: related[unit][name] for name in RELATED},
                    "visualizations": [
                        {**view, "natural": ratio(view["score"], natural.get((view["objective"], view["direction"])))}
                        for view in seen.views
                    ],
                    "agreement": sum(seen.agreements) / len(seen.agreements) if seen.agreements else None,
                    **({name: response.get(name) for name in CLASSES} if recipe.classes else {}),
                    **({name: related[unit][name] for name in MAPS} if recipe.perplexity else {}),
                    "legacy_url": link(organism, layer.name, unit),
                }
            ]


def branch(layer: Layer, unit: int) -> str | None:
    """The node of a concatenation that a unit comes from."""
    return next((name for name, (start, stop) in layer.branches.items() if start <= unit < stop), None)


def class_name(organism: Organism, layer: Layer, unit: int) -> str | None:
    """The class that a unit stands for: in the last layer that has a unit for each, where their names are known."""
    return organism.classes[unit] if organism.classes and organism.logits == layer.name else None


def ratio(score: float | None, natural: float | None) -> float | None:
    """A picture's score in the measure of what natural pictures reach; None where these do not excite the unit."""
    if score is None or natural is None or not math.isfinite(natural) or natural <= 0:
        return None
    return score / natural


def _responses(subject: Subject, units: Sequence[int]) -> dict[int, Row]:
    """The statistics of each unit; NotRendered where one has none."""
    found = {
        row["unit"]: row
        for part in subject.read(RESPONSES, ("unit", *STATISTICS, *CLASSES, "natural"), "layer")
        for row in part.to_pylist()
    }
    for unit in units:
        if unit not in found:
            raise NotRendered(
                f"{subject.key(unit)} has no {RESPONSES}, which {Units.table.name} are made from; "
                f"render them first: --lens {RESPONSES}"
            )
    return found


@dataclass
class _Visualized:
    """What there is of a unit's visualizations."""

    thumbnail: bytes | None = None
    views: list[dict[str, Any]] = field(default_factory=list)
    agreements: list[float] = field(default_factory=list)  # of its variants


def _visualized(subject: Subject, recipe: Recipe) -> dict[int, _Visualized]:
    """Of each unit of the layer that has any."""
    units: dict[int, _Visualized] = {}
    for part in subject.read(VISUALIZATION, ("unit", *VIEW, "agreement", "image")):
        for row in part.to_pylist():
            unit = units.setdefault(row["unit"], _Visualized())
            unit.views.append({name: row[name] for name in VIEW})
            if row["agreement"] is not None:
                unit.agreements.append(row["agreement"])
            if row["image"] is not None and THUMBNAIL.items() <= row.items():
                unit.thumbnail = jpeg(tile(row["image"]["bytes"], recipe.thumbnail), recipe.quality)
    return units


def _related(subject: Subject, units: Sequence[int], recipe: Recipe) -> dict[int, Row]:
    """Of each unit what takes the answers of others: those that respond most alike, in its own network and in others,
    and its places on the maps of its layer and its network, None where it has none.
    """
    keys = [tuple(row.values()) for part in subject.read(RESPONSES, KEY) for row in part.to_pylist()]
    places = {key: place for place, key in enumerate(keys)}
    model, most = subject.organism.name, recipe.nearest
    network = NetworkMap(
        [place for place, key in enumerate(keys) if key[0] == model], recipe.perplexity, seed(model, "map")
    )
    compared = [
        (pictures, own, vectors, Nearest(vectors, own, most), Nearest(vectors, own, most))
        for pictures, own, vectors in answers(subject, places, "layer")
    ]
    for pictures, there, vectors in answers(subject, places, "atlas"):
        ours = keys[there[0]][0] == model
        if ours and recipe.perplexity:
            network.see(pictures, there, vectors)
        for on, _, _, within, elsewhere in compared:
            if pictures == on:
                (within if ours else elsewhere).see(vectors, there)

    def named(found: list[tuple[int, float]]) -> list[Row]:
        return [dict(zip(KEY, keys[place], strict=True)) | {"correlation": value} for place, value in found]

    answered = [(pictures, [keys[place][2] for place in own], vectors) for pictures, own, vectors, _, _ in compared]
    on_layer = _mapped(subject, answered, recipe.perplexity) if recipe.perplexity else {}
    related: dict[int, Row] = {
        unit: {"nearest": [], "nearest_elsewhere": [], "layer_map": None, "model_map": None} for unit in units
    }
    for (pictures, own, vectors, within, elsewhere), (_, numbers, _) in zip(compared, answered, strict=True):
        on_network = _rows(numbers, network.places(pictures, own, vectors))
        for unit, near, far in zip(numbers, within.found(), elsewhere.found(), strict=True):
            related[unit] = {
                "nearest": named(near),
                "nearest_elsewhere": named(far),
                "layer_map": on_layer.get(unit),
                "model_map": on_network.get(unit),
            }
    return related


def _mapped(subject: Subject, answered: Sequence[Answered], perplexity: int) -> dict[int, Row]:
    """The place of each unit on the map of its layer; none where there is no map, or its responses do not vary.

    Where units were measured on several sets of pictures, the map is of those that the most were measured on.
    """
    found: dict[Pictures, list[Answered]] = {}
    for each in answered:
        found.setdefault(each[0], []).append(each)
    if not found:
        return {}
    most = max(found.values(), key=lambda parts: sum(len(units) for _, units, _ in parts))
    units = [unit for _, some, _ in most for unit in some]
    return _rows(units, unit_map(torch.cat([own for _, _, own in most]), perplexity, seed(subject.key(), "map")))


def _rows(units: Sequence[int], made: UnitMap | None) -> dict[int, Row]:
    """The place of each unit on a map, as its row has it; none where there is no map."""
    if made is None:
        return {}
    return {
        unit: {"x": float(x), "y": float(y), "trustworthiness": made.trustworthiness}
        for unit, (x, y) in zip(units, made.places, strict=True)
    }
