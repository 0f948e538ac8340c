"""Recipes: the settings of lenses, what the run asks of them, and how they become plain values and come back.

A recipe is a frozen dataclass of plain values, tuples, and dataclasses of such. Its annotations say which values there
may be: see structure. As plain values it is part of every row, and of what a shard's content id is made from, so a new
setting must have a default; `Absent` says what it is in recipes that are older, where that is another one.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal, Self, TypeVar

import torch

from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.errors import InvalidSetting
from microscope_atlas.models.device import multiplies_bfloat16
from microscope_atlas.pictures.sets import with_pictures
from microscope_atlas.pictures.sources import SOURCES
from microscope_atlas.rendering.ascend import Ascent
from microscope_atlas.rendering.ascend import Precision as Precision
from microscope_atlas.structure import Absent, between, from_text, hint, one_of, structure

Quality = Literal["draft", "standard", "microscope"]
QUALITIES: tuple[Quality, ...] = ("draft", "standard", "microscope")


def precision_for(device: torch.device) -> Precision:
    """The precision in which pictures are made soonest on a device, as this machine has it."""
    return "bfloat16" if multiplies_bfloat16(device) else "float32"


SourceName = Annotated[str, one_of(SOURCES)]  # a picture that comes with the package

RobustViews = Annotated[int, between(0, 256), Absent(0)]  # that `robust_score` is taken from; 0: rows have none


@dataclass(frozen=True)
class Recipe:
    """Settings of a lens."""

    @property
    def max_batch(self) -> int | None:
        """Its setting `batch`, how many pictures are made at once at most; None where it has none."""
        batch: int | None = vars(self).get("batch")
        return batch

    def with_batch(self, batch: int) -> Self:
        """The same with another `batch`."""
        return replace(self, batch=batch)  # type: ignore[call-arg]  # of recipes that have one

    @property
    def ascents(self) -> dict[str, Ascent]:
        """Its settings of gradient ascent, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Ascent)}

    def in_precision(self, precision: Precision) -> Self:
        """The same with all ascents in this precision."""
        return replace(self, **{name: replace(each, precision=precision) for name, each in self.ascents.items()})

    def picture_size(self, layer: Layer, input_size: int) -> int:
        """Pixels on a side of what the network is shown of a layer: its input's size unless a recipe says otherwise."""
        return input_size

    @classmethod
    def taken(cls, plain: Mapping[str, Any]) -> dict[str, Any]:
        """Plain values as they are kept, of those that a person gave: files by their content, where they name any."""
        return dict(plain)

    def with_pictures(self, name: str, skip_bad: bool = False) -> Self:
        """The same on another set of natural pictures, where it has to do with any; see pictures.sets."""
        return self


@dataclass(frozen=True)
class PicturesRecipe(Recipe):
    """Settings of a lens that has to do with a set of natural pictures."""

    pictures: str  # name of the set
    revision: str  # of its content

    def with_pictures(self, name: str, skip_bad: bool = False) -> Self:
        """See Recipe."""
        return with_pictures(self, name, skip_bad)


R = TypeVar("R", bound=Recipe)


def settings(recipe: Recipe) -> dict[str, Any]:
    """A recipe as the plain values that JSON gives back: lists, no tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return plain


def restored(kind: type[R], settings: Mapping[str, Any]) -> R:
    """A recipe from its plain values, those that came later at what they are where nothing is said.

    ValueError for settings that it does not have, or values that they cannot have.
    """
    return structure(kind, settings)


def with_what_came_later(there: Mapping[str, Any], complete: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of an older recipe, with those of `complete` where it has none, in all its depth."""
    inner = {
        name: with_what_came_later(there[name], value)
        for name, value in complete.items()
        if isinstance(value, dict) and isinstance(there.get(name), dict)
    }
    return {**complete, **there, **inner}


def changed(recipe: R, changes: Mapping[str, Any]) -> R:
    """A recipe with other settings, each named by its path: `{"ascent.steps": 64}`.

    InvalidSetting, with the nearest, where there is none of that name, and with what may be where it has a wrong value.
    """
    plain = settings(recipe)
    try:
        for path, value in changes.items():
            hint(type(recipe), path)
            *above, name = path.split(".")
            inner = plain
            for each in above:
                inner = inner[each]
            inner[name] = value
        return restored(type(recipe), recipe.taken(plain))
    except ValueError as error:
        raise InvalidSetting(str(error)) from error


def read(recipe: Recipe, path: str, text: str) -> Any:
    """What the words of a command line mean for the setting at a path; InvalidSetting where there is none there."""
    try:
        return from_text(hint(type(recipe), path), text)
    except ValueError as error:
        raise InvalidSetting(str(error)) from error
