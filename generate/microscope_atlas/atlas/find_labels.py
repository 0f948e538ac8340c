"""Find units by what is said of them: their labels, and where there are none the classes that they stand for or answer.

Needs no network. Every word that is looked for begins a word of what is found.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple
from unicodedata import combining, normalize

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.atlas.schema import LABELS, LEAST_SAID, LICENSE, UNITS
from microscope_atlas.errors import InvalidSetting
from microscope_atlas.keys import Key

WORD = re.compile(r"[^\W_]+")
CLASSES = 3  # that a unit answers, at most, by which it is found


class Found(NamedTuple):
    """A unit, what it was found by, and who says so."""

    key: str
    label: str
    method: str
    source: str
    license: str
    score: float | None
    measure: str | None  # what the score measures


def find(atlas: Atlas, words: str, most: int = 20) -> list[Found]:
    """Units whose labels have all the words, those first that have no others; then by class.

    InvalidSetting without words.
    """
    given = asked(words)
    labelled = [(_place(found, rank, given), found) for found, rank in _labelled(atlas) if _fits(found.label, given)]
    classed = [(_place(found, 0, given), found) for found in _classed(atlas) if _fits(found.label, given)]
    best: dict[str, Found] = {}
    for some in (labelled, classed):
        for _, found in sorted(some, key=lambda each: each[0]):
            best.setdefault(found.key, found)
    return list(best.values())[:most]


def asked(words: str) -> list[str]:
    """The words that are looked for, folded; InvalidSetting where there are none."""
    given = _words(words)
    if not given:
        raise InvalidSetting(f"{words!r} has no words to look for; expected some, such as dog snout")
    return given


def folded(text: str) -> str:
    """The text without case and accents."""
    return "".join(each for each in normalize("NFKD", text.casefold()) if not combining(each))


def _words(text: str) -> list[str]:
    return WORD.findall(folded(text))


def _fits(label: str, given: list[str]) -> bool:
    """Whether each word begins a word of the label."""
    there = _words(label)
    return all(any(word.startswith(each) for word in there) for each in given)


def _place(found: Found, rank: int, given: list[str]) -> tuple[bool, int, int, float, str]:
    """What is sorted by: whole words first, few others, the unit's first label, the higher score."""
    there = _words(found.label)
    return (not {*given} <= {*there}, len(there), rank, -(found.score or 0.0), found.key)


def _labelled(atlas: Atlas) -> Iterator[tuple[Found, int]]:
    for model in atlas.models:
        for layer in atlas.layers(model):
            for row in atlas.some(LABELS.name, model, layer, ("unit", "rank", *LEAST_SAID)).to_pylist():
                key = str(Key(model, layer, row["unit"]))
                yield Found(key, *(row[name] for name in LEAST_SAID)), row["rank"]


def _classed(atlas: Atlas) -> Iterator[Found]:
    """What `units` says: the class that a logit stands for, and those whose pictures a unit answers most."""
    answered = "classes" in {column.name for column in atlas.manifest.table(UNITS.name).columns}
    columns = ("unit", "class_name", *(("classes",) if answered else ()))
    for model in atlas.models:
        for layer in atlas.layers(model):
            for row in atlas.some(UNITS.name, model, layer, columns).to_pylist():
                key = str(Key(model, layer, row["unit"]))
                if row["class_name"]:
                    yield Found(key, row["class_name"], "logit", f"classes of {model}", LICENSE, None, None)
                for each in (row.get("classes") or ())[:CLASSES]:
                    source = "classes of its natural pictures, in the table responses"
                    measure = "mean response to the pictures of the class"
                    yield Found(key, each["name"], "class answered", source, LICENSE, each["mean"], measure)
