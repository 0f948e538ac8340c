"""What a repository on the Hub is to hold, and what changes it to that: files, compared by their checksums."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

KEPT = (".gitattributes",)  # the Hub's own


@dataclass(frozen=True)
class File:
    """What a repository is to hold at a path: a file, or its content."""

    content: Path | bytes

    @property
    def size(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def read(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()

    @cached_property
    def sha256(self) -> str:
        return self._hash(hashlib.sha256())

    @cached_property
    def blob(self) -> str:
        """Git's name of the content."""
        return self._hash(hashlib.sha1(b"blob %d\0" % self.size))

    def equals(self, there: "RepoFile | None") -> bool:
        """Whether the repository's file has the same content, by its checksum."""
        if there is None or there.size != self.size:
            return False
        return there.lfs.sha256 == self.sha256 if there.lfs else there.blob_id == self.blob

    def _hash(self, digest: "hashlib._Hash") -> str:
        if isinstance(self.content, bytes):
            digest.update(self.content)
        else:
            with self.content.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        return digest.hexdigest()


Files = Mapping[str, File]  # by path within the repository


@dataclass(frozen=True)
class Changes:
    """What makes a repository hold other files."""

    add: dict[str, File]  # new, or with another content
    remove: tuple[str, ...] = ()
    num_same: int = 0

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.add.values())

    def left(self, tree: "Mapping[str, RepoFile]") -> list[str]:
        """Paths at which a repository with this tree lacks them."""
        return [path for path, file in self.add.items() if not file.equals(tree.get(path))] + sorted(
            {*self.remove} & {*tree}
        )

    def __bool__(self) -> bool:
        return bool(self.add or self.remove)


def changes(files: Files, tree: "Mapping[str, RepoFile]", ours: Callable[[str], bool] = lambda path: True) -> Changes:
    """What makes a repository with this tree hold `files`, and nothing else of what is `ours` by its path."""
    add = {path: file for path, file in files.items() if not file.equals(tree.get(path))}
    gone = sorted(path for path in {*tree} - {*files, *KEPT} if ours(path))
    return Changes(add, tuple(gone), len(files) - len(add))


def files_in(folder: Path) -> dict[str, File]:
    """The files of a folder; no hidden ones, and none that Python compiled."""
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts):
            found["/".join(parts)] = File(path)
    return found
