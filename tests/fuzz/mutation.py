"""Files made from real ones by damage: of any kind that disks, networks and enemies do."""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from tests.fuzz.limits import reads

LENGTHS = (
    0,
    1,
    127,
    128,
    255,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**60,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
MOST_DAMAGES = 4  # a case


def mutated(files: Sequence[bytes], random: Random) -> bytes:
    """One of the files with one to four damages, among them pieces of the others."""
    content = bytearray(random.choice(files))
    for _ in range(random.randint(1, MOST_DAMAGES)):
        random.choice(DAMAGES)(content, random, files)
    return bytes(content)


def flip(content: bytearray, random: Random, files: Sequence[bytes]) -> None:
    """One bit."""
    if content:
        content[_place(content, random)] ^= 1 << random.randrange(8)


def overwrite(content: bytearray, random: Random, files: Sequence[bytes]) -> None:
    """Some bytes by any others."""
    at, length = _place(content, random), random.randint(1, 8)
    content[at : at + length] = random.randbytes(length)


def truncate(content: bytearray, random: Random, files: Sequence[bytes]) -> None:
    """The end is lost."""
    del content[_place(content, random) :]


def drop(content: bytearray, random: Random, files: Sequence[bytes]) -> None:
    """Some bytes are lost."""
    at = _place(content, random)
    del content[at : at + random.randint(1, 64)]


def repeat(content: bytearray, random: Random, files: Sequence[bytes]) -> None:
    """Some bytes come again, and again."""
    at = _place(content, random)
    piece = content[at : at + random.randint(1, 64)]
    content[at:at] = piece * random.randint(1, 32)


def splice(content: bytearray, random: Random, files: Sequence[bytes]) -> None:
    """A piece of another file in place of some bytes."""
    other = random.choice(files)
    start = random.randrange(len(other) + 1)
    piece = other[start : start + random.randint(1, 256)]
    at = _place(content, random)
    content[at : at + random.choice((0, len(piece)))] = piece


def announce(content: bytearray, random: Random, files: Sequence[bytes]) -> None:
    """What may be a length, as a fixed number of either order or as a varint, says something else."""
    length, at = random.choice(LENGTHS), _place(content, random)
    size = random.choice((1, 2, 4, 8))
    fixed = (length % 256**size).to_bytes(size, random.choice(("little", "big")))
    written = random.choice((fixed, _varint(length), str(length).encode()))
    content[at : at + random.choice((1, len(written)))] = written


DAMAGES: tuple[Callable[[bytearray, Random, Sequence[bytes]], None], ...] = (
    flip,
    overwrite,
    truncate,
    drop,
    repeat,
    splice,
    announce,
    announce,
)


def survived(
    read: Callable[[Path], object],
    files: Sequence[bytes],
    path: Path,
    cases: int,
    remade: Callable[[bytes, Random], bytes] = lambda content, random: content,
) -> int:
    """How many of so many damaged files `read` reads; it refuses the others. The same cases every time.

    `remade` puts right what every reader checks first, a checksum or a magic number, that the damage may reach further.
    The case that fails is left at `path`.
    """
    for content in files:
        path.write_bytes(content)
        assert reads(read, path, "the whole file"), "the whole file is refused"
    found = 0
    for number in range(cases):
        random = Random(f"{path.name} {number}")
        path.write_bytes(remade(mutated(files, random), random))
        found += reads(read, path, f"case {number}, left at {path}")
    return found


def _place(content: bytearray, random: Random) -> int:
    """Anywhere within it, and rather often near the beginning or the end, where headers and footers are."""
    last = max(len(content) - 1, 0)
    near = random.randrange(min(last, 64) + 1)
    return random.choice((random.randrange(last + 1), near, last - near))


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])
