"""The recipes that a command line asks for: those of a quality, and what is set otherwise."""

from collections.abc import Iterable, Sequence

from microscope_atlas.errors import InvalidSetting, nearest
from microscope_atlas.lenses.recipe import Quality, Recipe, changed, read
from microscope_atlas.lenses.registry import lens


def chosen(
    names: Iterable[str], quality: Quality, pictures: str | None = None, changes: Sequence[str] = ()
) -> dict[str, Recipe]:
    """The recipe of each lens, by its name: on natural pictures of the set `pictures`, and with `changes`.

    A change is `LENS.PATH=VALUE`: `feature_visualization.ascent.steps=256`. InvalidSetting where there is no such
    lens among them, or no such setting, with the nearest; and with what may be, where the value may not.
    """
    recipes: dict[str, Recipe] = {name: lens(name).recipe(quality) for name in names}
    if pictures:
        recipes = {name: recipe.with_pictures(pictures) for name, recipe in recipes.items()}
    by_name = {lens(name).name: name for name in recipes}
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
