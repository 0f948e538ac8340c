"""Words on pictures that the Space draws: in the letters that come with Pillow, else in a font of the machine.

Pillow's own know little beyond English: no umlaut, no Greek. What no font here can show becomes its base letter where
it has one, `ö` an `o`, and else a box, as fonts draw what they lack.
"""

import unicodedata
from collections.abc import Iterator
from functools import cache

from PIL import ImageFont

SMALLEST = 20  # px of letters
# by the names that Pillow looks for among a machine's fonts: of most Linux, of macOS, of Windows
FONTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "Arial.ttf", "arial.ttf",
)  # fmt: skip
LACKING = "\ufffe"  # no font has it: what is drawn for it is drawn for all that a font lacks


def letters(size: int, words: str = "") -> ImageFont.FreeTypeFont:
    """Letters of this height, in px, that can show the words; Pillow's where none here can."""
    own, *others = (each for each in (_font(name, size) for name in ("", *FONTS)) if each)
    return next((font for font in (own, *others) if shows(font, words)), own)


def legible(words: str) -> str:
    """The words in letters that can be shown here, as far as there are any."""
    if shows(letters(SMALLEST, words), words):
        return words
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", words) if not unicodedata.combining(letter))
    return plain if shows(letters(SMALLEST, plain), plain) else words


def fitting(words: str, size: int, room: int) -> ImageFont.FreeTypeFont:
    """Letters of at most `size` px, smaller where the words would not fit in `room` px."""
    font = letters(size, words)
    return font if font.getlength(words) <= room or size <= SMALLEST else fitting(words, size - 4, room)


def wrapped(words: str, font: ImageFont.FreeTypeFont, room: int) -> Iterator[str]:
    """Lines of at most `room` px; a word that is longer than a line is broken where the line ends."""
    line = ""
    for word in words.split():
        longer = f"{line} {word}".strip()
        if font.getlength(longer) <= room:
            line = longer
            continue
        if line:
            yield line
        line = word
        while len(line) > 1 and font.getlength(line) > room:
            most = next(end for end in range(len(line) - 1, 0, -1) if end == 1 or font.getlength(line[:end]) <= room)
            yield line[:most]
            line = line[most:]
    if line:
        yield line


def shows(font: ImageFont.FreeTypeFont, words: str) -> bool:
    """Whether the font has every letter of the words."""
    return all(_has(font, letter) for letter in set(words) if not letter.isspace())


def _has(font: ImageFont.FreeTypeFont, letter: str) -> bool:
    drawn, lacking = font.getmask(letter), font.getmask(LACKING)
    return (drawn.size, bytes(drawn)) != (lacking.size, bytes(lacking))


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    """A font of this machine, Pillow's own without a name; None where there is none so called."""
    if name:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            return None
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow's own, of every wheel
    return font
