"""The recipes that a command line asks for: those of a quality, and what is set otherwise."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from microscope_atlas.errors import InvalidSetting, nearest
from microscope_atlas.lenses.recipe import PicturesRecipe, Precision, Quality, Recipe, changed, read
from microscope_atlas.lenses.registry import lens
from microscope_atlas.structure import before

DRAFT: Quality = "draft"


def chosen(
    names: Iterable[str],
    quality: Quality | None = None,
    pictures: str | None = None,
    changes: Sequence[str] = (),
    skip_bad: bool = False,
    there: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    precision: Precision = "float32",
) -> dict[str, Recipe]:
    """The recipe of each lens, by its name: of a quality, on natural pictures of the set `pictures`, with `changes`.

    An atlas goes on as it began. `there` are the recipes that it has rows of. Without `quality` they are taken as they
    are, and drafts where there is none; with it, settings that came after them are as they were then, and precisions as
    they are. Without `pictures`, all are on those that these are on. Drafts that begin ascend in `precision`.
    `skip_bad` leaves files of a folder out that are no whole pictures.

    A change is `LENS.PATH=VALUE`: `feature_visualization.ascent.steps=256`. InvalidSetting where there is no such
    lens among them, or no such setting, with the nearest; and with what may be, where the value may not.
    """
    recipes: dict[str, Recipe] = {name: lens(name).recipe(quality or DRAFT) for name in names}
    if quality in (None, DRAFT):
        recipes = {name: recipe.in_precision(precision) for name, recipe in recipes.items()}
    by_name = {lens(name).name: name for name in recipes}
    for short in by_name.keys() & there.keys():
        name = by_name[short]
        recipes[name] = _as_it_began(name, there[short], None if quality is None else recipes[name])
    on = [made for made in there.values() if {"pictures", "revision"} <= made.keys()]
    looking = max(on, key=lambda made: "labels" in made, default=None)  # the first that says which classes they are of
    if pictures:
        recipes = {name: recipe.with_pictures(pictures, skip_bad) for name, recipe in recipes.items()}
    elif looking:
        stated = {name: looking[name] for name in ("pictures", "revision", "labels") if name in looking}
        recipes = {
            name: replace(recipe, **{each: stated[each] for each in stated.keys() & vars(recipe).keys()})
            if isinstance(recipe, PicturesRecipe)
            else recipe
            for name, recipe in recipes.items()
        }
    for change in changes:
        where, separator, value = change.partition("=")
        short, _, path = where.strip().partition(".")
        if not separator or not path:
            raise InvalidSetting(f"--set {change!r}; expected LENS.PATH=VALUE, such as deepdream.ascent.steps=256")
        if short not in by_name:
            near = nearest(short, by_name)
            raise InvalidSetting(f"--set {change}: {short!r} is not among the lenses asked for; nearest: {near}")
        recipe = recipes[by_name[short]]
        try:
            recipes[by_name[short]] = changed(recipe, {path: read(recipe, path, value.strip())})
        except InvalidSetting as error:
            raise InvalidSetting(f"--set {change}: of {short}, {error}") from error
    return recipes


def _as_it_began(name: str, there: Mapping[str, Any], asked: Recipe | None) -> Recipe:
    """The recipe `there`, InvalidSetting where it is none; or the one asked for, what came later as it was then.

    The precision is what suited the machine on which it began.
    """
    if asked is not None:
        precisions = {
            f"{ascent}.precision": there[ascent]["precision"]
            for ascent in asked.ascents
            if "precision" in there.get(ascent, ())
        }
        return changed(asked, {**before(type(asked), there), **precisions})
    try:
        restored: Recipe = lens(name).restored(there)
    except ValueError as error:
        raise InvalidSetting(f"the atlas' recipe of {name} is none: {error}; name a --quality") from error
    return restored
