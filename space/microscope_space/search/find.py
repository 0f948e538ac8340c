"""What a visitor may mean by some words: networks, layers, units by number, and by what is said of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.keys import Key
from microscope_space.search import index as indexes
from microscope_space.search.given import named
from microscope_space.search.index import Index
from microscope_space.search.places import Place
from microscope_space.search.said import ANSWERED, LABEL, TEXT, Said
from microscope_space.search.spelling import atoms, words

MOST = 48  # found
NEAR = 8  # nearest, where nothing is found
FEW = 6  # words of which any one may be wrong
LONGEST = 256  # characters looked for
WAIT_SECONDS = 1.0  # for what is being read, at most
NUMBER = re.compile(r"[0-9]{1,9}")
# said of units, layers and networks, but no part of their names; left out where nothing is found with them
FILLERS = {
    "a", "channel", "class", "feature", "for", "in", "layer", "model", "network", "neuron", "of", "pre", "relu", "the",
    "unit",
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """Something of the atlas, and what it was found by."""

    key: Key
    what: str


@dataclass(frozen=True)
class Results:
    """What was found."""

    found: tuple[Found, ...]  # the first of them
    total: int
    spelt: str = ""  # what was looked for instead, where nothing is called as was typed
    nearest: bool = False  # whether nothing was found, and these are what is nearest
    missing: tuple[str, ...] = ()  # what could not be looked through


@dataclass(frozen=True)
class Word:
    """A word to look for, as FTS5 takes it: as it stands, and as the beginning of a longer one."""

    exact: str
    begins: str
    atoms: tuple[str, ...]  # its letters and digits apart
    number: str | None = None  # the word, where it may be a unit's number


def find(atlas: Atlas, typed: str, most: int = MOST) -> Results:
    """What the words may mean, the likeliest first; where that is nothing, what is spelt alike, or nearest."""
    typed = typed.strip()[:LONGEST]
    index = indexes.of(atlas)
    given = words(typed)
    if not given:
        return Results((), 0)
    whole = index.read.wait(WAIT_SECONDS)
    missing = tuple(index.missing) if whole else ("names of classes that are still being read",)
    exact = [Found(key, "key")] if (key := named(atlas, typed)) else []
    brief = [word for word in given if word not in FILLERS]
    for each in _each_once(given, brief, _joined(index, brief)):
        total, found = _found(index, list(map(_word, each)), exact, most)
        if found:
            return Results(found, total, missing=missing)
    for each in _each_once(given, brief):
        if spelt := _spelt(index, each):
            total, found = _found(index, [word for word, _ in spelt], [], most)
            if found:
                return Results(found, total, " ".join(text for _, text in spelt), missing=missing)
    near = _nearest(index, brief or given)
    return Results(near, len(near), nearest=True, missing=missing)


def _each_once(*several: Sequence[str]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(map(tuple, several)))


def _word(word: str) -> Word:
    quoted = f'"{word}"'
    if word.isdigit():
        return Word(quoted, quoted, (word,), word if NUMBER.fullmatch(word) else None)
    return Word(quoted, f"{quoted}*", tuple(atoms(word)))


def _joined(index: Index, given: Sequence[str]) -> list[str]:
    """The words, of which two are one where names have it so: `alex net` -> alexnet."""
    found: list[str] = []
    for word in given:
        if found and index.knows(found[-1] + word):
            found[-1] += word
        else:
            found.append(word)
    return found


def _spelt(index: Index, given: Sequence[str]) -> list[tuple[Word, str]]:
    """The words as names have them, and how those are spelt; none where one has nothing like it."""
    found = []
    for word in given:
        if word.isdigit() or index.knows(word):
            found.append((_word(word), word))
            continue
        parts = [_word(part) for part in atoms(word)]
        if len(parts) > 1 and all(part.number or index.knows(part.exact.strip('"')) for part in parts):
            found += [(part, part.exact.strip('"')) for part in parts]
        elif alike := index.alike(word):
            any_of = f"({' OR '.join(f'{chr(34)}{each}{chr(34)}' for each in alike)})"
            found.append((Word(any_of, any_of, tuple(atoms(alike[0]))), alike[0]))
        else:
            return []
    return found


def _found(index: Index, asked: Sequence[Word], exact: list[Found], most: int) -> tuple[int, tuple[Found, ...]]:
    """How much has all the words, and the first of it: networks, layers, units, classes and texts, parts of layers."""
    if not asked:
        return 0, ()
    named = _named(index, asked)
    whole = [place for place in named if not place.part]
    numbered = _numbered(index, asked)
    num_said, said = index.said(_all_of(asked), most)
    parts = [place for place in named if place.part]
    found = chain(
        exact,
        map(_place, whole),
        (_unit(place, unit) for place, units in numbered for unit in units),
        (Found(key, _about(each)) for key, each in said),
        map(_place, parts),
    )
    first: dict[Key, Found] = {}
    for each in found:
        first.setdefault(each.key, each)
        if len(first) == most:
            total = len(named) + sum(len(units) for _, units in numbered) + num_said
            return max(total, most), tuple(first.values())
    return len(first), tuple(first.values())


def _named(index: Index, asked: Sequence[Word]) -> list[Place]:
    """Places whose names have all the words; of parts those of which the layer has not."""
    exact = set(index.named(_all_of(asked, exact=True)))
    given = [part for word in asked for part in word.atoms]
    found = []
    for number in index.named(_all_of(asked)):
        place = index.places[number]
        found.append((number not in exact, place.key.layer is not None, _beside(place, given), number))
    places = [index.places[number] for *_, number in sorted(found)]
    layers = {place.key for place in places if not place.part}
    return [place for place in places if not (place.part and place.key in layers)]


def _beside(place: Place, given: Sequence[str]) -> tuple[int, int, int]:
    """How far a name is from what was typed: whether it is the model's alone that was; what was not, of the place's.

    And what was not typed of the model's. 0 each, where it was just that.
    """
    wanted, glued = {*given}, "".join(given)
    own = []
    for parts in _atoms(place.names):
        apart = wanted.symmetric_difference(parts)
        own.append((wanted.isdisjoint(parts), len(apart) - ("".join(parts) in glued)))
    elsewhere, apart_by = min(own)
    among = [len({*parts} - wanted) for parts in _atoms(place.above) if not wanted.isdisjoint(parts)]
    return int(elsewhere), 0 if elsewhere else apart_by, min(among, default=0)


@lru_cache(8192)
def _atoms(names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(atoms(name)) for name in names)


def _numbered(index: Index, asked: Sequence[Word]) -> list[tuple[Place, range]]:
    """Units with a number that was typed, of the places that the other words name; then those that begin with it."""
    for at in reversed(range(len(asked))):
        number, rest = asked[at].number, [*asked[:at], *asked[at + 1 :]]
        if number is None:
            continue
        where = [place for place in (_named(index, rest) if rest else index.places) if place.stop]
        if not rest:
            where = [place for place in where if not place.part]
        same = [(place, range(unit, unit + 1)) for place in where if (unit := place.unit(int(number))) is not None]
        more = [(place, units) for place in where for units in place.beginning(number)] if rest else []
        if same or more:
            return same + more
    return []


def _unit(place: Place, unit: int) -> Found:
    return Found(
        Key(place.key.model, place.key.layer, unit),
        f"unit {unit - place.start} of {place.part}" if place.part else "unit",
    )


def _about(said: Said) -> str:
    if said.kind == LABEL:
        return f"label: {said.text} ({said.by})"
    if said.kind == TEXT:
        return f"text {said.rank + 1}: {said.text}"
    return f"answers pictures of {said.text}" if said.kind == ANSWERED else said.text


def _all_of(asked: Sequence[Word], exact: bool = False) -> str:
    """The expression for all of the words, in any order."""
    return " AND ".join(word.exact if exact else word.begins for word in asked)


def _nearest(index: Index, given: Sequence[str]) -> tuple[Found, ...]:
    """What has all the words, spelt as far from them as it has to be, or all but one; else what has most of them."""
    spelt: list[str] = []
    for word in given:
        known = word.isdigit() or index.knows(word)
        spelt += [word] if known else index.nearest(word)
    asked = list(map(_word, spelt))
    fewer = [[*asked[:at], *asked[at + 1 :]] for at in reversed(range(len(asked)))]
    for some in (asked, *(fewer if len(asked) <= FEW else ())):
        _, found = _found(index, some, [], NEAR)
        if found:
            return found
    long = [word.exact for word, text in zip(asked, spelt, strict=True) if len(text) > 2]
    likeliest = index.likeliest(" OR ".join(long), NEAR) if long else []
    return tuple(_place(each) if isinstance(each, Place) else Found(each[0], _about(each[1])) for each in likeliest)


def _place(place: Place) -> Found:
    if place.part:
        return Found(place.key, f"{place.part}: units {place.start} to {place.stop - 1}")
    return Found(place.key, "network" if place.key.layer is None else "layer")
