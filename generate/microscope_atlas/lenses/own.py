"""Lenses of a user's own: `own:mypackage.mymodule.MyLens` is that class, or an instance of one.

    # mypackage/mymodule.py
    from microscope_atlas.lenses.lens import Lens

    class MyLens(Lens[MyRecipe]):
        table = Table("my_lens", "what a row holds", (*UNIT_KEY, Column(...), ..., *PROVENANCE))
        divisible = True

        def recipe(self, quality): return MyRecipe()
        def rows(self, subject, units, recipe): yield [{"unit": unit, ...} for unit in units]

    PYTHONPATH=. microscope-atlas render atlas --lens own:mypackage.mymodule.MyLens

In an atlas, and in `--set`, it is called as its table is.
"""

from importlib import import_module
from typing import Any

from microscope_atlas.atlas.outside import refuse_unfit
from microscope_atlas.errors import LensFailed, unknown
from microscope_atlas.lenses.lens import Lens
from microscope_atlas.lenses.recipe import QUALITIES, Recipe

PREFIX = "own:"


def imported(name: str) -> Lens[Any]:
    """The lens `own:NAME`; LensFailed or UnknownName where NAME is none, or where it cannot stand beside ours."""
    path, _, last = name.removeprefix(PREFIX).rpartition(".")
    try:
        module = import_module(path)
    except (ImportError, ValueError) as error:
        raise LensFailed(
            f"{name}: {path or 'its module'!r} cannot be imported: {error}; expected own:PACKAGE.MODULE.LENS, "
            "installed, or found with PYTHONPATH=FOLDER"
        ) from error
    if not hasattr(module, last):
        raise unknown("lens", last, path, [key for key, value in vars(module).items() if isinstance(value, type)])
    found = getattr(module, last)
    try:
        made = found() if isinstance(found, type) else found
    except TypeError as error:  # what is abstract in Lens, or an argument, is lacking
        raise LensFailed(f"{name} cannot be made: {error}") from error
    if not isinstance(made, Lens):
        raise LensFailed(f"{name} is {type(made).__name__}, expected a Lens of microscope_atlas.lenses.lens")
    try:
        refuse_unfit(made.table)
    except (ValueError, AttributeError) as error:
        raise LensFailed(f"{name}: {error}") from error
    for quality in QUALITIES:
        if not isinstance(made.recipe(quality), Recipe):
            raise LensFailed(f"{name} has settings that are no Recipe of microscope_atlas.lenses.recipe")
    return made
