"""Spelling: how names, and what is typed, are folded so that either is found whatever case and separators it has."""

import re
from collections.abc import Iterable, Iterator

from microscope_atlas.atlas.find_labels import WORD, folded

ATOM = re.compile(r"\d+|[^\W\d_]+")  # what separators, and the borders of letters and digits, leave together
MOST_WORDS = 12  # of what is typed
MOST_ATOMS = 24  # of a name
JOINED = 4  # atoms that may be written as one word: `resnet50v2`


def words(typed: str) -> list[str]:
    """The words of what was typed, each once: `InceptionV1 4c:447` -> inceptionv1, 4c, 447."""
    return list(dict.fromkeys(WORD.findall(folded(typed))))[:MOST_WORDS]


def atoms(word: str) -> list[str]:
    """Letters and digits apart: `resnet50` -> resnet, 50."""
    return ATOM.findall(folded(word))[:MOST_ATOMS]


def forms(names: Iterable[str]) -> list[str]:
    """Every way to write parts of names as one word: `Mixed_4c` -> mixed, 4, c, mixed4, 4c, mixed4c."""
    found: dict[str, None] = {}
    for name in names:
        parts = atoms(name)
        for count in range(1, JOINED + 1):
            found.update(dict.fromkeys("".join(parts[at : at + count]) for at in range(len(parts) - count + 1)))
        found["".join(parts)] = None
    return [form for form in found if form]


def trigrams(word: str) -> Iterator[str]:
    """Three letters at a time of a padded word, so that its ends count too: `cat` -> __c, _ca, cat, at_, t__."""
    text = padded(word)
    return (text[at : at + 3] for at in range(len(text) - 2))


def padded(word: str) -> str:
    """A word with both ends marked."""
    return f"__{word}__"


def slips(word: str) -> int:
    """How many slips of the pen a word of this length is allowed: one from four letters on, two from eight."""
    return 0 if len(word) < 4 or word.isdigit() else 1 if len(word) < 8 else 2


def distance(one: str, other: str, most: int) -> int:
    """Letters left out, put in, changed or swapped with the next to get from one word to the other; most + 1 if more.

    Optimal string alignment: each letter is touched once.
    """
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one, 1):
        last, before, row = before, row, [at]
        for to, wanted in enumerate(other, 1):
            cost = min(before[to] + 1, row[to - 1] + 1, before[to - 1] + (letter != wanted))
            if at > 1 and to > 1 and letter == other[to - 2] and one[at - 2] == wanted:
                cost = min(cost, last[to - 2] + 1)
            row.append(cost)
        if min(row) > most + 1:  # a swap reaches back two rows
            return most + 1
    return min(row[-1], most + 1)
