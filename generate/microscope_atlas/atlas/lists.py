"""Lists: units that belong together, with a title and a sentence each, as files of an atlas: `lists/NAME.json`.

    {
     "title": "A car, of a wheel and a window",
     "about": "Zoom In, figure 5.",
     "units": [
      {"key": "inceptionv1/mixed4c/447", "note": "a car"},
      {"key": "inceptionv1/mixed4b/373", "note": "a wheel"}
     ]
    }

Whoever owns the atlas writes them. `check` reads them, `publish` sends them with the rows, `cite` names them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.manifest import Manifest
from microscope_atlas.atlas.present import refuse_absent
from microscope_atlas.atlas.storage import Storage
from microscope_atlas.errors import AtlasDamaged, AtlasError, InvalidKey, UnknownName, unknown
from microscope_atlas.keys import Key, parse_key
from microscope_atlas.structure import PRINTABLE, Limit, structure

MOST_UNITS = 64  # of a list: more are a layer's page, or a table
MOST_BYTES = 1 << 17  # of a file
MOST_CHARACTERS = 1000  # of a sentence

Sentence = Annotated[
    str, PRINTABLE, Limit(f"of at most {MOST_CHARACTERS} characters", lambda text: len(text) <= MOST_CHARACTERS)
]


@dataclass(frozen=True)
class Entry:
    """A unit of a list."""

    key: str  # `inceptionv1/mixed4c/447`
    note: Sentence = ""  # what is said of it

    @property
    def unit(self) -> Key:
        """InvalidKey where it names no unit."""
        key = parse_key(self.key)
        if key.unit is None:
            raise InvalidKey(
                f"key {self.key!r} names no unit; expected model/layer/unit, such as inceptionv1/mixed4c/447"
            )
        return key


@dataclass(frozen=True)
class UnitList:
    """Units that belong together."""

    title: Sentence
    units: tuple[Entry, ...]
    about: Sentence = ""  # what is said of all of them

    def refuse_wrong(self) -> None:
        """InvalidKey for what is no unit's key, for a unit that is listed twice, and for none or too many of them."""
        if not 1 <= len(self.units) <= MOST_UNITS:
            raise InvalidKey(f"a list of {len(self.units)} units; expected 1 to {MOST_UNITS}")
        keys = [entry.unit for entry in self.units]
        if twice := next((key for at, key in enumerate(keys) if key in keys[:at]), None):
            raise InvalidKey(f"unit {twice} is listed twice")


def names(storage: Storage) -> list[str]:
    """The lists that an atlas has."""
    return sorted(name for path in storage.files() if (name := schema.list_name(path)))


def read(storage: Storage, name: str) -> UnitList:
    """A list of an atlas; UnknownName with the nearest where it has none so called, AtlasDamaged for what is none."""
    path = schema.list_path(name)
    size = storage.size(path) if schema.list_name(path) else None
    if size is None:
        there = names(storage)
        if not there:
            raise UnknownName(f"list {name!r} is not in this atlas, which has none")
        raise unknown("list", name, "this atlas", there)
    if size > MOST_BYTES:
        raise AtlasDamaged(f"{path}: {size:,} bytes; expected at most {MOST_BYTES:,}")
    try:
        plain = json.loads(storage.read(path))
        found = structure(UnitList, plain, "")
        found.refuse_wrong()
    except (OSError, ValueError, TypeError, KeyError, RecursionError, InvalidKey) as error:
        raise AtlasDamaged(f"{path} is no list of units: {error}") from error
    return found


def problems(storage: Storage, manifest: Manifest) -> Iterator[str]:
    """What is wrong with the lists of an atlas, one line each."""
    for path in sorted(path for path in storage.files() if path.startswith(f"{schema.LISTS}/")):
        name = schema.list_name(path)
        if name is None:
            yield f"{path}: no list's name; expected {schema.list_path('car-detectors')}, or move it elsewhere"
            continue
        try:
            found = read(storage, name)
        except AtlasError as error:
            yield str(error)
            continue
        for entry in found.units:
            try:
                refuse_absent(manifest, entry.unit)
            except UnknownName as error:
                yield f"{path}: {error}"


def files(storage: Storage) -> Mapping[str, bytes]:
    """The files of an atlas' lists, by path."""
    return {path: storage.read(path) for path in map(schema.list_path, names(storage))}


def differences(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> tuple[str, ...]:
    """What became of the lists from one version to the next, by their files; a line of Markdown each."""
    lines = []
    for path in sorted({*before, *after}):
        if before.get(path) != after.get(path):
            verb = "added" if path not in before else "removed" if path not in after else "changed"
            lines.append(f"list `{schema.list_name(path)}` {verb}")
    return tuple(lines)
