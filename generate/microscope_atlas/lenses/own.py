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

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, get_args

from microscope_atlas.atlas import outside
from microscope_atlas.atlas.organisms import Kind
from microscope_atlas.atlas.tables import Table
from microscope_atlas.errors import AtlasError, LensFailed, unknown
from microscope_atlas.lenses.lens import Lens
from microscope_atlas.lenses.recipe import QUALITIES, Recipe, settings
from microscope_atlas.models.adapters.imported import imported as module_of

PREFIX = "own:"
KINDS: tuple[Kind, ...] = get_args(Kind)


def imported(name: str) -> Lens[Any]:
    """The lens `own:NAME`, whose promises are tried before anything is made of it.

    LensFailed or UnknownName where NAME is none, or where it cannot stand beside ours.
    """
    module, last = module_of(name.removeprefix(PREFIX), "LENS", LensFailed)
    if not hasattr(module, last):
        known = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise unknown("lens", last, module.__name__, known)
    found = getattr(module, last)
    with _told(f"{name} cannot be made"):  # what is abstract in Lens, or an argument, may be lacking
        made = found() if isinstance(found, type) else found
    if not isinstance(made, Lens):
        raise LensFailed(f"{name} is {type(made).__name__}, expected a Lens of microscope_atlas.lenses.lens")
    if not isinstance(getattr(made, "table", None), Table):
        raise LensFailed(f"{name} has no `table`; expected a Table of microscope_atlas.atlas.tables")
    if not isinstance(getattr(made, "divisible", None), bool):
        raise LensFailed(
            f"{name} does not say whether it is `divisible`; expected True where a layer's units may be spread over "
            "files at no cost, else False"
        )
    if made.shares_pass and type(made).gather is Lens.gather:
        raise LensFailed(f"{name} `shares_pass` and has no `gather`, which is to say what a pass tells of its layers")
    for quality in QUALITIES:
        with _told(f"{name}: recipe({quality!r}) fails"):
            recipe = made.recipe(quality)
        refuse_unfit(made, recipe, name)
    return made


def refuse_unfit(made: Lens[Any], recipe: Any, name: str) -> None:
    """LensFailed where settings of the lens called `name`, or its table with them, cannot be stored and read again."""
    if not isinstance(recipe, Recipe):
        raise LensFailed(f"{name} has settings that are no Recipe of microscope_atlas.lenses.recipe")
    if lost := _lost(type(recipe)):
        raise LensFailed(
            f"{name}: {', '.join(lost)} of {type(recipe).__name__} would be no settings; write "
            "@dataclass(frozen=True) above the class, and a type behind each name: size: int = 64"
        )
    with _told(f"{name} has settings that an atlas cannot hold"):
        plain = settings(recipe)
        if made.restored(plain) != recipe:
            raise ValueError(f"{recipe} comes back as {made.restored(plain)}")
    with _told(f"{name}: the count of its table fails with {recipe}"):
        counts = [made.count(plain, kind) for kind in KINDS]
    for count in counts:
        if not (count is None or (type(count) is int and count >= 0)):
            raise LensFailed(
                f"{name}: the count of its table is {count!r}, expected a number of rows, or None: {recipe}"
            )
    with _told(f"{name} has a table that an atlas cannot describe"):
        outside.table(made.name, outside.described(made.table, name, plain))


def _lost(kind: type[Recipe]) -> list[str]:
    """What looks like settings in a recipe's class, and is none for the lack of @dataclass or of a type."""
    known = {field.name for field in fields(kind)} if is_dataclass(kind) else set()
    found: dict[str, None] = {}
    for each in kind.__mro__[: kind.__mro__.index(Recipe)]:
        hints = inspect.get_annotations(each)
        plain = [key for key, value in vars(each).items() if isinstance(value, int | float | str | tuple | list)]
        for key in (*hints, *plain):
            meant = key.startswith("_") or hasattr(Recipe, key) or "ClassVar" in str(hints.get(key))
            if key not in known and not meant:
                found[key] = None
    return list(found)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Whatever a user's code raises, or what it gives does not stand, as LensFailed in one sentence."""
    try:
        yield
    except AtlasError:
        raise
    except ValueError as error:
        raise LensFailed(f"{what}: {error}") from error
    except (Exception, SystemExit) as error:
        raise LensFailed(f"{what}: {type(error).__name__}: {error}") from error
