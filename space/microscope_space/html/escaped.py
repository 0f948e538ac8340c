"""HTML told from text by its type: whatever is no Markup is escaped where it is put in, so nobody has to remember to.

A test holds that templates are literals and that nothing else of the Space makes Markup.
"""

from collections.abc import Iterable
from functools import cache
from typing import LiteralString

from markupsafe import Markup, escape

NOTHING = Markup()


def html(template: LiteralString, *values: object) -> Markup:
    """The template with a value in place of each `{}`: HTML as it is, anything else as text."""
    first, *others = _pieces(template)
    filled = [first]
    for value, piece in zip(values, others, strict=True):
        filled += (escape(value), piece)
    return Markup("".join(filled))


def joined(parts: Iterable[object], between: LiteralString = "") -> Markup:
    """The parts one after another: HTML as it is, anything else as text."""
    return Markup(between).join(parts)  # type: ignore[arg-type]  # escapes whatever it is given


@cache
def _pieces(template: str) -> list[str]:
    return template.split("{}")
