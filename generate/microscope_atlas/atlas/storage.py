"""What a place is that holds an atlas' files: the one protocol that everything reads and writes an atlas by.

A folder (folder.py), storage with a URL (bucket.py) and a revision on the Hub (revision.py) are its backends; locate.py
chooses. A new one is one file, and one class of tests/atlas/test_storage.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar


class Storage(ABC):
    """An atlas' files, to be read. Paths are relative to the atlas, with slashes."""

    commit: str | None = None  # that a revision on the Hub is; no other place has one
    near: ClassVar[bool] = False  # whether a slice takes microseconds, and a local copy is the file itself

    @property
    @abstractmethod
    def name(self) -> str:
        """As the command line takes it."""

    @abstractmethod
    def files(self) -> Mapping[str, int]:
        """Every file with its length in bytes, hidden ones and those that are being written left out."""

    @abstractmethod
    def size(self, path: str) -> int | None:
        """Bytes of a file; None where it is not there."""

    @abstractmethod
    def local_copy(self, path: str) -> AbstractContextManager[Path]:
        """A file on this machine with the file's content, within the context; FileNotFoundError where it is not there.

        It may be the file itself: whoever opens it does not write to it.
        """

    @abstractmethod
    def slice(self, path: str, offset: int, length: int) -> bytes:
        """`length` bytes of a file from byte `offset` on, and no others are fetched; fewer where the file ends."""

    def stamp(self, path: str) -> object:
        """Something that changes whenever a file does, and is cheap to ask for."""
        return self.size(path)

    def read(self, path: str) -> bytes:
        """A small file; FileNotFoundError where it is not there."""
        with self.local_copy(path) as file:
            return file.read_bytes()

    def __str__(self) -> str:
        return self.name


class WritableStorage(Storage):
    """An atlas' files, to be read and written."""

    @abstractmethod
    def atomic_write(self, path: str) -> AbstractContextManager[Path]:
        """A name on this machine to write a file under; when the context ends without an error it is in place, whole.

        AtlasUnwritable where the place refuses, and would refuse the next file too.
        """

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def lock(self) -> AbstractContextManager[None]:
        """Hold the atlas for writing and remove what a killed run left unfinished; AtlasBusy where another run does."""

    def folds_case(self) -> bool:
        """Whether names that differ by case alone are one file here; only for who holds the atlas."""
        return False

    @abstractmethod
    def remove_unfinished(self) -> None:
        """Remove what a run or a worker that was killed left unfinished; only for who holds the atlas."""

    def write(self, path: str, content: bytes | str) -> None:
        """Write a small file, whole or not at all."""
        with self.atomic_write(path) as beside:
            beside.write_bytes(content.encode() if isinstance(content, str) else content)
