"""Texts as numbers, as CLIP reads them: byte pair encoding with OpenAI's vocabulary.

https://github.com/openai/CLIP/blob/main/clip/simple_tokenizer.py. A text in lower case is taken apart into words,
digits and runs of signs; each of these into bytes, which are joined pair by pair, as the pairs were learnt.

Before that, text is brought into Unicode's form NFC, and typographic quotes become plain ones. OpenAI's code also
repairs text that was decoded wrongly, takes ligatures apart and undoes HTML's entities; here a text is what it says.
The special tokens are none where a text spells them out: they are signs and letters.
"""

import gzip
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

from microscope_atlas.errors import ExtraMissing, InvalidSetting, WeightsError
from microscope_atlas.models.download import file_hash, obtained
from microscope_atlas.models.formats.state_dict import read_state_dict
from microscope_atlas.models.organism import Source

VOCABULARY = Source(
    "pypi:open_clip_torch/open_clip/bpe_simple_vocab_16e6.txt.gz",
    read_state_dict,
    license="MIT",
    sha256="924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a",
)
MERGES = 48_894  # that are used of those in the file: with 512 letters and two special tokens, 49,408 numbers
CONTEXT = 77  # tokens, first and last included
END_OF_WORD = "</w>"
CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")  # in the order in which they are looked for
QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})

Pair = tuple[str, str]


class Tokenizer:
    """What makes numbers of texts."""

    def __init__(self, merges: Mapping[Pair, int]):
        """`merges`: pairs that are joined, each with its number; those with lower numbers are joined first."""
        self.ranks = merges
        single = list(_letters().values())
        alphabet = [*single, *(letter + END_OF_WORD for letter in single)]
        self.numbers = {token: number for number, token in enumerate(alphabet)}
        self.numbers |= {"".join(pair): len(alphabet) + rank for pair, rank in merges.items()}
        self.start = len(alphabet) + MERGES
        self.end = self.start + 1

    def __call__(self, texts: Sequence[str], context: int = CONTEXT) -> list[list[int]]:
        """Tokens of each text between those of start and end; InvalidSetting for one with more than `context`."""
        return [self._within(text, context) for text in texts]

    def _within(self, text: str, context: int) -> list[int]:
        tokens = [self.start, *self._encoded(text), self.end]
        if len(tokens) > context:
            shown = text if len(text) <= 80 else f"{text[:77]}..."
            raise InvalidSetting(
                f"the text {shown!r} has {len(tokens)} tokens, start and end included; CLIP reads {context}: shorten it"
            )
        return tokens

    def _encoded(self, text: str) -> Iterator[int]:
        letters = _letters()
        for word in words(text):
            yield from (self.numbers[token] for token in self._joined("".join(letters[byte] for byte in word.encode())))

    def _joined(self, word: str) -> list[str]:
        """The tokens of a word of one letter a byte: of all pairs that may be joined, those learnt first are first."""
        tokens = [*word[:-1], word[-1] + END_OF_WORD]
        while pairs := [pair for pair in pairwise(tokens) if pair in self.ranks]:
            first = min(pairs, key=self.ranks.__getitem__)
            joined, at = [], 0
            while at < len(tokens):
                both = tuple(tokens[at : at + 2]) == first
                joined.append("".join(first) if both else tokens[at])
                at += 2 if both else 1
            tokens = joined
        return tokens


@cache
def tokenizer() -> Tokenizer:
    """OpenAI's; ExtraMissing where the package that brings its vocabulary is not installed."""
    try:
        with obtained(VOCABULARY, Path()) as path:
            return Tokenizer(read_merges(path))
    except WeightsError as error:
        raise ExtraMissing(
            f"the vocabulary of CLIP's texts comes with open_clip_torch: pip install 'microscope-atlas[clip]' ({error})"
        ) from error


def read_merges(path: Path) -> dict[Pair, int]:
    """Pairs with their numbers from OpenAI's file; WeightsError where it is another one."""
    if not path.is_file():
        raise WeightsError(f"there is no file {path}")
    if (found := file_hash(path, "sha256")) != VOCABULARY.sha256:
        raise WeightsError(f"{path}: the file's sha256 is {found}, expected {VOCABULARY.sha256}")
    try:
        lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise WeightsError(f"{path} is damaged: {error}") from error
    pairs = [line.split() for line in lines[1 : 1 + MERGES]]
    return {(first, second): rank for rank, (first, second) in enumerate(pairs)}


def words(text: str) -> Iterator[str]:
    """What a text is taken apart into: runs of letters, single digits, runs of other signs, endings such as `'s`."""
    text = unicodedata.normalize("NFC", text.translate(QUOTES)).lower()
    at = 0
    while at < len(text):
        ending = next((each for each in CONTRACTIONS if text.startswith(each, at)), "")
        kind, stop = _kind(text[at]), at + max(1, len(ending))
        while not ending and kind != "N" and stop < len(text) and _kind(text[stop]) == kind:
            stop += 1
        if ending or kind != " ":
            yield text[at:stop]
        at = stop


def _kind(letter: str) -> str:
    """`L`, `N`, a space, or of all else the same."""
    category = unicodedata.category(letter)[0]
    return " " if letter.isspace() else category if category in "LN" else "."


@cache
def _letters() -> dict[int, str]:
    """A letter for each byte that the vocabulary is written in: the byte's own where it can be seen, else one more."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in seen]
    return {byte: chr(byte) for byte in seen} | {byte: chr(256 + number) for number, byte in enumerate(others)}
