"""What callers give, taken as it is meant or refused in one sentence."""

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

from microscope_atlas.errors import InvalidSetting, UnknownName


def whole(name: str, value: Any, least: int = 0, most: int = 2**31) -> int:
    """A whole number, Python's or NumPy's; InvalidSetting for anything else."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not least <= int(value) <= most:
        raise InvalidSetting(f"{name} is {value!r}, expected a whole number, {least} to {most}")
    return int(value)


def number(name: str, value: Any, above: float | None = None) -> float:
    """A number that is finite; InvalidSetting for anything else."""
    fits = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or (above is not None and value <= above):
        raise InvalidSetting(f"{name} is {value!r}, expected a number{'' if above is None else f' above {above:g}'}")
    return float(value)


def names(what: str, given: str | Sequence[str] | None) -> list[str]:
    """Several names, or one alone; none for None."""
    found = [given] if isinstance(given, str) else list(given or [])
    for name in found:
        if not isinstance(name, str) or not name:
            raise UnknownName(f"{what} {name!r}; expected a name, or several")
    return found


def ranges(units: int | Iterable[int] | None) -> list[range | None]:
    """Units in as few ranges as there can be; [None] for all."""
    if units is None:
        return [None]
    if isinstance(units, str):
        raise InvalidSetting(f"units {units!r}; expected a number, several, or a range")
    given = [units] if isinstance(units, Integral) else units
    found: list[range] = []
    for unit in sorted({whole("unit", each) for each in given}):  # type: ignore[union-attr]  # a number was one
        if found and found[-1].stop == unit:
            found[-1] = range(found[-1].start, unit + 1)
        else:
            found.append(range(unit, unit + 1))
    if not found:
        raise InvalidSetting(f"units {units!r} are none; leave it out for all")
    return list(found)
