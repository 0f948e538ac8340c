"""An atlas on the Hugging Face Hub, at one commit."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from microscope_atlas.atlas.storage import Storage
from microscope_atlas.hub.repo import Repo

FETCHED = 4096  # slices kept, some 20 KB each


@dataclass(frozen=True)
class Revision(Storage):
    """An atlas on the Hub. What is at a commit never changes.

    Small files stay in huggingface_hub's cache; a shard lasts as long as it is looked at, so that an atlas larger than
    the disk can be checked.
    """

    repo: Repo
    revision: str  # as it was asked for: a tag, branch or commit
    commit: str

    @property
    def name(self) -> str:
        return f"{self.repo.name}@{self.revision}"

    def files(self) -> Mapping[str, int]:
        return {path: size for path, size in self._sizes.items() if not path.rpartition("/")[2].startswith(".")}

    def size(self, path: str) -> int | None:
        return self._sizes.get(path)

    @contextmanager
    def local_copy(self, path: str) -> Iterator[Path]:
        if path not in self._sizes:
            raise FileNotFoundError(f"{self.name} has no {path}")
        if not path.endswith(".parquet"):
            yield self.repo.download(path, self.commit)
            return
        with TemporaryDirectory() as folder:
            yield self.repo.download(path, self.commit, Path(folder))

    def slice(self, path: str, offset: int, length: int) -> bytes:
        return _fetched(self.repo, path, self.commit, offset, length)

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return self.repo.sizes(self.commit)


@lru_cache(maxsize=FETCHED)
def _fetched(repo: Repo, path: str, commit: str, offset: int, length: int) -> bytes:
    return repo.slice(path, commit, offset, length)
