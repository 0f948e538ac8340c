"""The index of an atlas: names in sqlite's FTS5, in memory, found by words in any order, prefixes, parts and slips.

Names of models and layers are taken from the manifest, at once. Those of classes, and the best texts of units, are read
in the background: until then, and where they cannot be read, models, layers and units are found, and it is said what
is not.

For every network of the catalog, 310,000 units, it takes 0.3 s of CPU time to build and 0.6 MB in SQLite; 600,000 texts
of CLIP's units beside that some 10 s, in the background, and 25 MB. `python -m benchmarks.search` measures searches.
"""

import logging
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from threading import Event, Lock, Thread
from typing import Any
from weakref import finalize

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError, ExtraMissing
from microscope_atlas.keys import Key
from microscope_space.search.places import Place, places
from microscope_space.search.said import Said, answered, classes, labels, texts
from microscope_space.search.spelling import distance, forms, padded, slips, trigrams

AT_ONCE = 1000  # rows that are written while searches wait
CANDIDATES = 400  # words of the index that are compared with one that was typed, letter by letter
LONGEST = 64  # letters of a word that is compared
ALIKE = 8  # of them, at most, that are taken for it
INDEXES = 2  # kept: of an atlas, and of what it has grown to
END = "\U0010ffff"  # behind every letter
SCHEMA = """
CREATE VIRTUAL TABLE names USING fts5(words, content='', tokenize='unicode61 remove_diacritics 0');
CREATE VIRTUAL TABLE vocabulary USING fts5vocab(names, row);
CREATE VIRTUAL TABLE spelled USING fts5(word, tokenize='trigram');
CREATE TABLE said(id INTEGER PRIMARY KEY, kind INTEGER, text TEXT, by TEXT, units INTEGER);
CREATE TABLE units(said INTEGER, rank INTEGER, place INTEGER, unit INTEGER, PRIMARY KEY(said, rank, place, unit))
WITHOUT ROWID;
"""

# what is read of units, by what it is called
READ = (("names of classes", classes), ("labels", labels), ("texts", texts), ("classes answered", answered))

log = logging.getLogger(__name__)
_opening = Lock()


class Index:
    """Every name in an atlas."""

    def __init__(self, atlas: Atlas):
        """ExtraMissing where this Python's SQLite is too old."""
        self.places = tuple(places(atlas))
        self.missing: list[str] = []  # what could not be read
        self.read = Event()  # set when all is read that can be
        self._lock = Lock()
        self._spelled: set[str] = set()
        self._db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        finalize(self, self._db.close)
        try:
            self._db.executescript(SCHEMA)
        except sqlite3.OperationalError as error:
            raise ExtraMissing(
                f"search needs SQLite 3.34 or later with FTS5; this Python has {sqlite3.sqlite_version} ({error})"
            ) from error
        # a place's number here is its rank: `places` has the likeliest first
        self._write(
            "INSERT INTO names(rowid, words) VALUES (?, ?)", enumerate((_words(each.called) for each in self.places), 1)
        )
        self._spell()
        Thread(target=self._read, args=(atlas,), daemon=True).start()

    def named(self, match: str) -> list[int]:
        """Which of `places` have names that match, the likeliest first."""
        rows = self._all("SELECT rowid FROM names WHERE names MATCH ? AND rowid <= ?", match, len(self.places))
        return [number - 1 for (number,) in rows]

    def likeliest(self, match: str, most: int) -> list[Place | tuple[Key, Said]]:
        """What has most of an expression with OR, and of what is said a unit each."""
        rows = self._all("SELECT rowid FROM names WHERE names MATCH ? ORDER BY rank LIMIT ?", match, most)
        found: list[Place | tuple[Key, Said]] = []
        for (number,) in rows:
            if number <= len(self.places):
                found.append(self.places[number - 1])
            else:
                found += self._units("SELECT id, kind, text, by FROM said WHERE id = ?", number - len(self.places), 1)
        return found

    def said(self, match: str, most: int) -> tuple[int, list[tuple[Key, Said]]]:
        """How many units something is said of that matches, and the first of them: of the shortest words first."""
        behind = len(self.places)
        matching = f"SELECT rowid - {behind} FROM names WHERE names MATCH ? AND rowid > {behind}"
        ((count,),) = self._all(f"SELECT total(units) FROM said WHERE id IN ({matching})", match)
        if not count:
            return 0, []
        some = (
            f"SELECT id, kind, text, by FROM said WHERE id IN ({matching}) ORDER BY kind, length(text), id LIMIT {most}"
        )
        return int(count), self._units(some, match, most)

    def _units(self, some: str, value: object, most: int) -> list[tuple[Key, Said]]:
        """The units that `some` rows of `said` are about, those of the shortest words first."""
        rows = self._all(
            f"WITH some AS ({some}) SELECT kind, text, by, rank, unit, place FROM some JOIN units ON said = id "
            "ORDER BY kind, length(text), id, rank, place, unit LIMIT ?",
            value,
            most,
        )
        found = []
        for kind, text, by, rank, unit, place in rows:
            key = self.places[place].key
            found.append((Key(key.model, key.layer, unit), Said(kind, text, rank, unit, by)))
        return found

    def knows(self, word: str) -> bool:
        """Whether some name has a word that begins so."""
        return bool(self._all("SELECT 1 FROM vocabulary WHERE term >= ? AND term < ? LIMIT 1", word, word + END))

    def alike(self, word: str) -> list[str]:
        """Words of names that hold this one, the shortest first; else those that are the fewest slips of it away."""
        if not 3 <= len(word) <= LONGEST:
            return []
        held = self._all(
            "SELECT word FROM spelled WHERE spelled MATCH ? ORDER BY length(word), word LIMIT ?", _quoted(word), ALIKE
        )
        if held:
            return [found.strip("_") for (found,) in held]
        most, parts = slips(word), {*trigrams(word)}
        least = len(parts) - 4 * most  # parts that slips leave: a swap, the worst, changes four
        near = [each for each in self._resembling(word, CANDIDATES) if len(parts.intersection(trigrams(each))) >= least]
        away = [(distance(word, found, most), at, found) for at, found in enumerate(near)]
        best = sorted(away)[:ALIKE]
        return [found for slipped, _, found in best if slipped == best[0][0] <= most]

    def nearest(self, word: str) -> list[str]:
        """The word of names that shares most with this one, if that is a third of its parts."""
        parts = {*trigrams(word)}
        found = self._resembling(word, 1) if 3 <= len(word) <= LONGEST else []
        return [each for each in found if 3 * len(parts.intersection(trigrams(each))) >= len(parts)]

    def _resembling(self, word: str, most: int) -> list[str]:
        """Words of names that share parts with this one, those with the most and rarest first."""
        match = " OR ".join(map(_quoted, dict.fromkeys(trigrams(word))))
        rows = self._all("SELECT word FROM spelled WHERE spelled MATCH ? ORDER BY rank LIMIT ?", match, most)
        return [found.strip("_") for (found,) in rows]

    def _read(self, atlas: Atlas) -> None:
        """Take in what is said of units."""
        layers = {place.key: number for number, place in enumerate(self.places) if place.key.layer and not place.part}
        known: dict[tuple[int, str, str], int] = {}
        for what, found in READ:
            for model in atlas.models:
                try:
                    for layer, said in found(atlas, model):
                        self._take(layers[Key(model, layer)], said, known)
                except AtlasError as error:
                    log.warning("%s of %s: %s", what, model, error)
                    self.missing.append(f"the {what} of {model}")
            self._spell()
        self.read.set()

    def _take(self, place: int, said: Sequence[Said], known: dict[tuple[int, str, str], int]) -> None:
        """Take in what is said of the units of a place; `known` are the numbers of what was said before."""
        behind = len(self.places)
        for first in range(0, len(said), AT_ONCE):
            some = said[first : first + AT_ONCE]
            new = dict.fromkeys(what for each in some if (what := _what(each)) not in known)
            known.update({each: number for number, each in enumerate(new, len(known) + 1)})
            numbers = [known[_what(each)] for each in some]
            self._write("INSERT INTO said VALUES (?, ?, ?, ?, 0)", ((known[each], *each) for each in new))
            self._write(
                "INSERT INTO names(rowid, words) VALUES (?, ?)",
                ((behind + known[each], _words((each[1],))) for each in new),
            )
            self._write(
                "INSERT OR IGNORE INTO units VALUES (?, ?, ?, ?)",
                ((number, each.rank, place, each.unit) for number, each in zip(numbers, some, strict=True)),
            )
            counted = ((count, number) for number, count in Counter(numbers).items())
            self._write("UPDATE said SET units = units + ? WHERE id = ?", counted)

    def _spell(self) -> None:
        """Take in the spelling of words that are new."""
        terms = {term for (term,) in self._all("SELECT term FROM vocabulary") if not term.isdigit()}
        new = sorted(terms - self._spelled)
        self._spelled |= terms
        for first in range(0, len(new), AT_ONCE):
            rows = ((padded(term),) for term in new[first : first + AT_ONCE])
            self._write("INSERT INTO spelled(word) VALUES (?)", rows)

    def _write(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        with self._lock:
            self._db.execute("BEGIN")
            self._db.executemany(statement, rows)
            self._db.execute("COMMIT")

    def _all(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(statement, values).fetchall()


def of(atlas: Atlas) -> Index:
    """The index of an atlas, built where it is asked for first."""
    with _opening:  # or two threads would build it
        return _built(atlas)


_built = lru_cache(INDEXES)(Index)


def _what(said: Said) -> tuple[int, str, str]:
    """What is said, and by whom, of whichever unit."""
    return said.kind, said.text, said.by


def _words(names: Sequence[str]) -> str:
    return " ".join(forms(names))


def _quoted(word: str) -> str:
    """A word for FTS5; folded words hold no quote."""
    return f'"{word}"'
