"""Where an atlas is read from: a folder, or storage or the Hub, from which files are fetched as they are wanted."""

import mmap
import re
from collections.abc import Iterator, Set
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from microscope_atlas.atlas import releases, schema, store
from microscope_atlas.atlas.bucket import Bucket
from microscope_atlas.atlas.releases import Release
from microscope_atlas.atlas.store import Manifest, Root
from microscope_atlas.errors import AtlasDamaged
from microscope_atlas.hub.repo import Repo

MAPPED = 256  # files kept open
FETCHED = 4096  # slices kept, some 20 KB each

REMOTE = re.compile(r"([\w.-]+/[\w.-]+)@([\w./-]+)")


class Source(Protocol):
    """An atlas to read."""

    @property
    def name(self) -> str:
        """As the command line takes it."""

    def manifest(self) -> Manifest:
        """AtlasDamaged where there is none, or it cannot be read."""

    def releases(self) -> list[Release]:
        """See releases.read."""

    def card(self) -> str | None:
        """Its README.md; None where it has none."""

    def files(self) -> Set[str]:
        """Paths of all Parquet files."""

    def holding(self, path: str) -> AbstractContextManager[Path]:
        """A folder that holds one of `files` at its path, within the context."""

    def slice(self, path: str, offset: int, length: int) -> bytes:
        """Some bytes of one of `files`, and no others; index says which are an image."""


@dataclass(frozen=True)
class Folder:
    """An atlas on this machine."""

    root: Path

    @property
    def name(self) -> str:
        return str(self.root)

    def manifest(self) -> Manifest:
        return store.read_manifest(self.root)

    def releases(self) -> list[Release]:
        return releases.read(self.root)

    def card(self) -> str | None:
        path = self.root / schema.CARD
        return path.read_text(errors="replace") if path.is_file() else None

    def files(self) -> Set[str]:
        return frozenset(store.shard_files(self.root))

    @contextmanager
    def holding(self, path: str) -> Iterator[Path]:
        yield self.root

    def slice(self, path: str, offset: int, length: int) -> bytes:
        file = self.root / path
        return _mapped(file, file.stat().st_mtime_ns)[offset : offset + length]


@dataclass(frozen=True)
class Stored:
    """An atlas in storage with a URL. A shard lasts as long as it is looked at; an image is read alone."""

    bucket: Bucket

    @property
    def name(self) -> str:
        return str(self.bucket)

    def manifest(self) -> Manifest:
        return store.read_manifest(self.bucket)

    def releases(self) -> list[Release]:
        return releases.read(self.bucket)

    def card(self) -> str | None:
        with self.holding(schema.CARD) as root:
            path = root / schema.CARD
            return path.read_text(errors="replace") if path.is_file() else None

    def files(self) -> Set[str]:
        return frozenset(store.shard_files(self.bucket))

    def holding(self, path: str) -> AbstractContextManager[Path]:
        return self.bucket.holding(path)

    def slice(self, path: str, offset: int, length: int) -> bytes:
        return self.bucket.slice(path, offset, length)


@dataclass(frozen=True)
class Revision:
    """An atlas on the Hub, at one commit.

    Small files stay in huggingface_hub's cache; a shard lasts as long as it is looked at, so that an atlas larger than
    the disk can be checked.
    """

    repo: Repo
    revision: str  # as it was asked for: a tag, branch or commit
    commit: str

    @property
    def name(self) -> str:
        return f"{self.repo.name}@{self.revision}"

    def manifest(self) -> Manifest:
        if schema.MANIFEST not in self._paths:
            raise AtlasDamaged(f"{self.name} holds no atlas (no {schema.MANIFEST})")
        return store.read_manifest(self.repo.download(schema.MANIFEST, self.commit).parent)

    def releases(self) -> list[Release]:
        if schema.RELEASES not in self._paths:
            return []
        return releases.read(self.repo.download(schema.RELEASES, self.commit).parent)

    def card(self) -> str | None:
        if schema.CARD not in self._paths:
            return None
        return self.repo.download(schema.CARD, self.commit).read_text()

    def files(self) -> Set[str]:
        return frozenset(path for path in self._paths if path.endswith(".parquet"))

    @contextmanager
    def holding(self, path: str) -> Iterator[Path]:
        with TemporaryDirectory() as folder:
            self.repo.download(path, self.commit, Path(folder))
            yield Path(folder)

    def slice(self, path: str, offset: int, length: int) -> bytes:
        return _fetched(self.repo, path, self.commit, offset, length)

    @cached_property
    def _paths(self) -> frozenset[str]:
        return frozenset(self.repo.tree(self.commit))


@lru_cache(maxsize=MAPPED)
def _mapped(path: Path, modified_ns: int) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


@lru_cache(maxsize=FETCHED)
def _fetched(repo: Repo, path: str, commit: str, offset: int, length: int) -> bytes:
    """At a commit a slice never changes."""
    return repo.slice(path, commit, offset, length)


def place(atlas: str) -> Root:
    """Where an atlas is, to write it: a folder, or storage with a URL, such as `s3://bucket/atlas`."""
    if atlas.startswith("file://"):
        return Path(url2pathname(urlsplit(atlas).path))
    return Bucket(atlas) if "://" in atlas else Path(atlas)


def at(root: Root) -> Source:
    """The atlas at a place, to read it."""
    return Stored(root) if isinstance(root, Bucket) else Folder(root)


def opened(atlas: str) -> Source:
    """The atlas in a folder, in storage with a URL, or at `owner/name@revision` on the Hub.

    HubFailed, or StorageFailed, where it is not there.
    """
    if "://" in atlas:
        return at(place(atlas))
    remote = REMOTE.fullmatch(atlas)
    if remote is None or Path(atlas).exists():
        return Folder(Path(atlas))
    repo = Repo(remote[1], "dataset")
    return Revision(repo, remote[2], repo.resolve(remote[2]))
