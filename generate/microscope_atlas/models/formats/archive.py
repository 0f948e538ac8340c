"""Files out of .tar, .tar.gz and .tgz archives, whatever they are called, and of .gz files."""

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

from microscope_atlas.errors import WeightsError

MAX_BYTES = 1 << 30  # unpacked; InceptionV4's checkpoint, the largest, has 172 MB. An archive may claim any length
GZIP = b"\x1f\x8b"  # begins every .gz
BLOCK_BYTES = 512  # of a tar archive; its first has the magic `ustar` at byte 257


def is_tar(start: bytes) -> bool:
    """Whether a file that begins so is a tar archive."""
    return start[257:262] == b"ustar"


def unpacked(path: Path, wanted: Callable[[str], bool]) -> dict[str, memoryview]:
    """The wanted files of an archive, by name; of a single file that is compressed, it, by the archive's name.

    Empty where the path is no archive. Raises WeightsError where it is damaged, or has no such file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(BLOCK_BYTES)
            if not start.startswith(GZIP) and not is_tar(start):
                return {}
            file.seek(0)
            content = _content(file.read(MAX_BYTES + 1), path)
        if not is_tar(content[:BLOCK_BYTES]):
            return {path.name: memoryview(content)}
        found = {}
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                name = Path(member.name).name
                # no link, and no sparse file, which may be of any length
                if wanted(name) and member.isreg() and not member.issparse():
                    inner = archive.extractfile(member)
                    assert inner is not None  # it is a regular one
                    found[name] = memoryview(inner.read())
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        raise WeightsError(f"{path} is a damaged archive: {error}. Is it complete?") from error
    if not found:
        raise WeightsError(f"{path} has no .ckpt in it, and no .index")
    return found


def _content(data: bytes, path: Path) -> bytes:
    """The bytes, decompressed to the end, where the checksum is; WeightsError where there are too many."""
    if data.startswith(GZIP):
        with gzip.open(io.BytesIO(data)) as compressed:
            data = compressed.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise WeightsError(f"{path} holds more than {MAX_BYTES} bytes; expected a checkpoint of less")
    return data
