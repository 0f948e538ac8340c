"""The recipes that a command line asks for: those of a quality, and what is set otherwise."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from microscope_atlas.errors import InvalidSetting, nearest
from microscope_atlas.lenses.recipe import PicturesRecipe, Quality, Recipe, changed, read
from microscope_atlas.lenses.registry import lens
from microscope_atlas.structure import before


def chosen(
    names: Iterable[str],
    quality: Quality,
    pictures: str | None = None,
    changes: Sequence[str] = (),
    skip_bad: bool = False,
    there: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> dict[str, Recipe]:
    """The recipe of each lens, by its name: on natural pictures of the set `pictures`, and with `changes`.

    Without `pictures`, on those that the recipes `there`, which an atlas has already, are on. Settings that came after
    such a recipe are as they were then: an atlas goes on as it began. `skip_bad` leaves files of a folder out that are
    no whole pictures.

    A change is `LENS.PATH=VALUE`: `feature_visualization.ascent.steps=256`. InvalidSetting where there is no such
    lens among them, or no such setting, with the nearest; and with what may be, where the value may not.
    """
    recipes: dict[str, Recipe] = {name: lens(name).recipe(quality) for name in names}
    looking = next((made for made in there.values() if {"pictures", "revision"} <= made.keys()), None)
    if pictures:
        recipes = {name: recipe.with_pictures(pictures, skip_bad) for name, recipe in recipes.items()}
    elif looking:
        stated = {"pictures": looking["pictures"], "revision": looking["revision"]}
        recipes = {
            name: replace(recipe, **stated) if isinstance(recipe, PicturesRecipe) else recipe
            for name, recipe in recipes.items()
        }
    by_name = {lens(name).name: name for name in recipes}
    for short, name in by_name.items():
        if short in there:
            recipes[name] = changed(recipes[name], before(type(recipes[name]), there[short]))
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
