"""Labels by class selectivity: the class of pictures that a unit answers far more than the others.

Taken from `responses`, where these are to pictures whose classes are known; see class_selectivity for the index of
Morcos et al. 2018, which is the score. Looks at no network, and fetches nothing.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from microscope_atlas.atlas import schema
from microscope_atlas.errors import NotRendered
from microscope_atlas.lenses import recipe as recipes
from microscope_atlas.lenses.lens import Lens, Row, Subject
from microscope_atlas.lenses.recipe import Quality
from microscope_atlas.structure import Count, between

METHOD = "class_selectivity"
MEASURE = (
    "class selectivity, 0 to 1: (a - b) / (a + b), a the mean response to the class, b that to all other classes "
    "(Morcos et al. 2018, arXiv:1803.06959)"
)


@dataclass(frozen=True)
class Recipe(recipes.Recipe):
    """Settings of labels by class selectivity."""

    # index that a unit needs to have a label: at 0.5 the class excites it three times as much as others do on average
    least: Annotated[float, between(0, 1)] = 0.5
    least_pictures: Count = 5  # that a class needs to be a label: what one picture shows is no class


class LabelsClassSelectivity(Lens[Recipe]):
    """The lens."""

    table = schema.LABELS_CLASS_SELECTIVITY
    divisible = False
    named_only = True

    def recipe(self, quality: Quality) -> Recipe:
        return Recipe()

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        columns = ("unit", "classes", "class_selectivity", "flag", "recipe")
        there = {row["unit"]: row for part in subject.read("responses", columns, "layer") for row in part.to_pylist()}
        if absent := sorted({*units} - there.keys()):
            raise NotRendered(
                f"the atlas has no responses of units {absent} of {subject.key()}; render --lens responses too"
            )
        for unit in units:
            yield self._labelled(subject, there[unit], recipe)

    def _labelled(self, subject: Subject, row: Row, recipe: Recipe) -> list[Row]:
        made = json.loads(row["recipe"])
        if not (made.get("labels") and made.get("classes")):
            raise NotRendered(
                f"the responses of {subject.key()} are to {made['pictures']}, whose classes nobody knows; render them "
                "on pictures in a folder for each class, or of a dataset with a column of labels"
            )
        score = row.get("class_selectivity")
        if row["flag"] or score is None or score < recipe.least or not row["classes"]:
            return []
        best = row["classes"][0]
        if best["num_pictures"] < recipe.least_pictures:
            return []
        return [
            {
                "unit": row["unit"],
                "method": METHOD,
                "rank": 0,
                "label": best["name"],
                "score": score,
                "measure": MEASURE,
                "source": f"classes of the pictures {made['pictures']}, revision {made['revision']}",
                "source_sha256": made["labels"],
                "license": schema.LICENSE,
                "embedding": None,
            }
        ]
