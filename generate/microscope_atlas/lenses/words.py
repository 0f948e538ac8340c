"""Word lists: texts that pictures are compared with, a line each.

A list is named by what its file is called and by the sha256 of its bytes, `animals@9f86d0...`, never by where it lies.
Ours, `default`, comes with the package: plain words for things, beings, places, properties, feelings and kinds of
pictures. A file of one's own is copied into the cache when it is named, and found there by its hash from then on.
"""

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from microscope_atlas.cache import cache, whole
from microscope_atlas.errors import InvalidSetting

DEFAULT = "default"
NAMED = re.compile(r"([^@]+)@([0-9a-f]{64})")  # a list that was taken in
OURS = Path(__file__).with_name("words.txt")
MOST = 100_000  # texts of a list
MOST_BYTES = 1 << 25  # of a file


def taken(words: str) -> str:
    """The name of a list, `NAME@SHA256`, given so, as `default`, or as a text file, which is copied into the cache.

    InvalidSetting where there is no such file, or it is no list of texts.
    """
    if NAMED.fullmatch(words):
        return words
    path = OURS if words == DEFAULT else Path(words)
    content = _content(path)
    sha256 = hashlib.sha256(content).hexdigest()
    _texts(content, str(path))
    if words == DEFAULT:
        return f"{DEFAULT}@{sha256}"
    name = "".join(letter if letter.isprintable() and letter != "@" else "_" for letter in path.stem)
    _keep(content, sha256)
    return f"{name}@{sha256}"


@lru_cache(maxsize=2)
def texts(words: str) -> tuple[str, ...]:
    """The texts of a list that was `taken`; InvalidSetting where it is not on this machine, or was changed."""
    name, sha256 = parts(words)
    ours = name == DEFAULT and hashlib.sha256(OURS.read_bytes()).hexdigest() == sha256
    path = OURS if ours else _kept(sha256)
    if not path.is_file():
        raise InvalidSetting(
            f"the word list {name} with sha256 {sha256} is not on this machine; have its file as {path}, or name it: "
            "--set texts.words=FILE"
        )
    content = _content(path)
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise InvalidSetting(f"{path} has sha256 {found}, expected {sha256}; remove it, and name the word list again")
    return _texts(content, str(path))


def parts(words: str) -> tuple[str, str]:
    """Name and sha256 of a list that was `taken`."""
    name, _, sha256 = words.rpartition("@")
    return name, sha256


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InvalidSetting(f"the word list {path} has more than {MOST_BYTES:,} bytes; expected a text a line")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # the latter: a zero in the name
        raise InvalidSetting(
            f"the word list {str(path)!r} cannot be read: {error}; expected {DEFAULT!r} or a text file, a text a line"
        ) from error


def _texts(content: bytes, path: str) -> tuple[str, ...]:
    """A text a line; InvalidSetting, with the line, for what is none."""
    try:
        lines = content.decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        line = 1 + content[: error.start].count(b"\n")
        raise InvalidSetting(f"the word list {path} is not UTF-8 in line {line}; save it as UTF-8") from error
    if not 2 <= len(lines) <= MOST:
        raise InvalidSetting(f"the word list {path} has {len(lines):,} lines, expected 2 to {MOST:,}, a text each")
    found: dict[str, int] = {}
    texts = [line.strip() for line in lines]
    for number, text in enumerate(texts, 1):
        where = f"the word list {path}, line {number}"
        if not text:
            raise InvalidSetting(f"{where}, is blank; expected a text")
        if not text.isprintable():
            raise InvalidSetting(f"{where}, {text!r}, has signs that cannot be printed; take them out")
        if (first := found.setdefault(text.lower(), number)) != number:
            raise InvalidSetting(f"{where}, {text!r}, stands in line {first} already, upper case aside; take it out")
    return tuple(texts)


def _kept(sha256: str) -> Path:
    return cache() / "words" / f"{sha256}.txt"


def _keep(content: bytes, sha256: str) -> None:
    try:
        with whole(_kept(sha256)) as beside:
            beside.write_bytes(content)
    except OSError as error:
        raise InvalidSetting(f"the word list cannot be kept in the cache: {error}") from error
