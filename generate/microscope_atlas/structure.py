"""Plain values, as JSON and command lines hold them, taken into the types that they are meant for.

    structure(Ascent, {"steps": 128})           Ascent(steps=128), whose other settings have their defaults
    structure(Ascent, {"steps": 0})             ValueError: steps is 0, expected a whole number, 1 or more
    structure(Ascent, {"step": 128})            ValueError: there is no step; nearest: steps

Types are read from annotations: dataclasses, tuples, mappings, unions, Literals, and `Annotated` with a Limit.
"""

import json
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from math import isfinite
from re import Pattern
from reprlib import Repr
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from microscope_atlas.errors import nearest

T = TypeVar("T")

MOST = 2**63 - 1  # of whole numbers
UNIONS = (Union, types.UnionType)
PLAIN = {int: "a whole number", float: "a number", str: "text", bool: "true or false", types.NoneType: "none"}

_short = Repr()
_short.maxstring = _short.maxother = 80
_short.maxlevel = 3


@dataclass(frozen=True)
class Limit:
    """What a value may be, of those that its type allows: `Annotated[int, at_least(1)]`."""

    words: str  # behind "expected a whole number, "
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Absent:
    """What a field is meant to be where it was written before there was such a field, if that is not its default."""

    value: Any


def at_least(low: float) -> Limit:
    """A number that is not lower."""
    return Limit(f"{low:g} or more", lambda value: value >= low)


def above(low: float) -> Limit:
    """A number that is higher."""
    return Limit(f"above {low:g}", lambda value: value > low)


def between(low: float, high: float) -> Limit:
    """A number from `low` to `high`, both included."""
    return Limit(f"{low:g} to {high:g}", lambda value: low <= value <= high)


def one_of(names: Collection[str]) -> Limit:
    """One of some words."""
    return Limit(f"one of {', '.join(names)}", lambda value: value in names)


def matching(pattern: Pattern[str], words: str) -> Limit:
    """Text of a form that `words` describe."""
    return Limit(words, lambda value: pattern.fullmatch(value) is not None)


Count = Annotated[int, at_least(1)]

PRINTABLE = Limit("that can be printed", str.isprintable)
EACH_ONCE = Limit("one or more, each once", lambda values: 0 < len(values) == len(set(values)))
NONE_TWICE = Limit("each once", lambda values: len(values) == len(set(values)))


def structure(type: type[T], plain: Any, at: str = "") -> T:
    """A value of `type` from what JSON held; `at` is where it stands, for messages.

    Fields that are absent get what Absent says, else their default. Whole numbers count as numbers, and no other kind
    counts as another. ValueError, which says where, what is there and what was expected, for all that does not fit.
    """
    made: T = _made(type, plain, at)
    return made


def before(type: Any, plain: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """What fields of `type`, by their paths, are in `plain`, which was written before there were such: see Absent."""
    found: dict[str, Any] = {}
    for name, each in _fields(type).items():
        if name in plain and _has_fields(each.hint) and isinstance(plain[name], Mapping):
            found |= before(each.hint, plain[name], f"{above}{name}.")
        elif name not in plain and each.absent_means is not None:
            found[f"{above}{name}"] = each.absent_means.value
    return found


def hint(type: Any, path: str) -> Any:
    """The type at a path of fields within a dataclass, `views.shift`; ValueError with the nearest where there is none.

    ValueError, too, where the path ends at a dataclass: it has fields of its own to be named.
    """
    found: Any = type
    above = ""
    for name in path.split("."):
        known = _fields(found) if _has_fields(found) else {}
        if name not in known:
            raise ValueError(_absent(path, (f"{above}{each}" for each in known) if known else [above[:-1]]))
        found, above = known[name].hint, f"{above}{name}."
    if _has_fields(found):
        raise ValueError(
            f"{path} has settings of its own; name one: {', '.join(above + name for name in _fields(found))}"
        )
    return found


def from_text(type: Any, text: str) -> Any:
    """What a command line's words mean where a value of `type` is expected, as a plain value to be structured.

    `none` where there may be none; parts of a list stand between commas; all else is as in JSON, text without quotes.
    """
    origin, inner = get_origin(type), get_args(type)
    if origin is Annotated:
        return from_text(inner[0], text)
    if origin in UNIONS:
        if types.NoneType in inner and text.lower() in ("none", "null"):
            return None
        return from_text(next(each for each in inner if each is not types.NoneType), text)
    if origin is tuple:
        return [from_text(inner[0], part.strip()) for part in text.split(",") if part.strip()]
    if type in (int, float, bool):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):  # the latter: lists in lists in lists
            return text
    return text


def described(type: Any) -> str:
    """What is expected of a value, in words."""
    origin, inner = get_origin(type), get_args(type)
    if origin is Annotated:
        limits = [each.words for each in inner[1:] if isinstance(each, Limit)]
        return ", ".join([described(inner[0]), *limits])
    if origin in UNIONS:
        return ", or ".join(map(described, inner))
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is tuple:
        return f"a list of {described(inner[0])}"
    if type in (list, set, tuple) or origin in (list, set):
        return "a tuple; annotate it so, as in tuple[int, ...]"
    return PLAIN.get(type, "names with values")


@dataclass(frozen=True)
class _Known:
    """A field of a dataclass."""

    field: Field[Any]
    hint: Any

    @property
    def absent_means(self) -> Absent | None:
        """What is said of it; None: nothing is."""
        told = get_args(self.hint) if get_origin(self.hint) is Annotated else ()
        return next((each for each in told if isinstance(each, Absent)), None)

    def absent(self) -> Any:
        """What it is where nothing is said; MISSING where something has to be."""
        if self.absent_means is not None:
            return self.absent_means.value
        return self.field.default if self.field.default_factory is MISSING else self.field.default_factory()


@cache
def _fields(type: Any) -> dict[str, _Known]:
    hints = get_type_hints(type, include_extras=True)
    return {field.name: _Known(field, hints[field.name]) for field in fields(type)}


def _has_fields(type: Any) -> bool:
    return is_dataclass(type)


def _made(type: Any, plain: Any, at: str, told: Any = None) -> Any:
    """See structure. `told` is the type that a message names, limits and all."""
    if plain.__class__ is type and (type is str or (type is int and -MOST <= plain <= MOST)):
        return plain  # as most are, of the tens of thousands in a manifest
    told = told or type
    origin, inner = get_origin(type), get_args(type)
    if origin is Annotated:
        value = _made(inner[0], plain, at, told)
        if not all(limit.holds(value) for limit in inner[1:] if isinstance(limit, Limit)):
            raise _misfit(told, plain, at)
        return value
    if origin in UNIONS:
        (other,) = (each for each in inner if each is not types.NoneType)
        return None if plain is None else _made(other, plain, at, told)
    if origin is tuple and isinstance(plain, list | tuple):
        kinds = inner[:1] * len(plain) if inner[1:] == (...,) else inner
        if len(kinds) == len(plain):
            return tuple(
                _made(kind, each, f"{at}[{i}]") for i, (kind, each) in enumerate(zip(kinds, plain, strict=True))
            )
    if origin in (dict, Mapping) and isinstance(plain, Mapping):
        return {_made(inner[0], name, at): _made(inner[1], value, _within(at, name)) for name, value in plain.items()}
    if is_dataclass(type) and isinstance(plain, Mapping):
        return _dataclass(type, plain, at)
    if type is float and plain.__class__ is int and abs(plain) < 1 << 53:
        return float(plain)
    fits = type is Any or (plain.__class__ is type and (type is not float or isfinite(plain)))
    if fits and type is int and abs(plain) > MOST:
        digits = len(str(abs(plain)))
        raise ValueError(f"{at or 'it'} is a number of {digits} digits, expected {described(told)}, below 2^63")
    if origin is Literal:
        fits = any(plain == each and plain.__class__ is each.__class__ for each in inner)
    if not fits:
        raise _misfit(told, plain, at)
    return plain


def _dataclass(type: Any, plain: Mapping[str, Any], at: str) -> Any:
    known = _fields(type)
    for name in plain:
        if name not in known:
            raise ValueError(_absent(_within(at, name), (_within(at, each) for each in known)))
    values = {}
    for name, each in known.items():
        if name in plain:
            values[name] = _made(each.hint, plain[name], _within(at, name))
        elif (absent := each.absent()) is MISSING:
            raise ValueError(f"{_within(at, name)} is absent, expected {described(each.hint)}")
        else:
            values[name] = absent
    return type(**values)


def _within(at: str, name: object) -> str:
    return f"{at}.{name}" if at else str(name)


def _absent(path: str, known: Any) -> str:
    return f"there is no {_short.repr(path)[1:-1]}; nearest: {nearest(path, known)}"


def _misfit(type: Any, plain: Any, at: str) -> ValueError:
    return ValueError(f"{at or 'it'} is {_short.repr(plain)}, expected {described(type)}")
