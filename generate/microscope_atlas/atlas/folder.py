"""An atlas in a folder on this machine."""

import errno
import os
import posixpath
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from filelock import FileLock, Timeout

from microscope_atlas.atlas.storage import WritableStorage
from microscope_atlas.errors import AtlasBusy, AtlasUnwritable

UNFINISHED = ".part"  # suffix of a file that is being written; the next run removes what a killed one left

LOCK = ".lock"  # held by who writes

ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}  # nothing is there, nor behind a link
FULL = {errno.ENOSPC, errno.EDQUOT}
# Refusals that whatever is written next would meet too
REFUSALS = FULL | {errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR, errno.ENOTDIR, errno.EEXIST}


@dataclass(frozen=True)
class Folder(WritableStorage):
    """An atlas on this machine. Links within it are followed, wherever it is listed, read or written."""

    root: Path
    held: tuple[int, int] | None = field(default=None, init=False, repr=False, compare=False)  # while it is locked
    near: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return str(self.root)

    def files(self) -> Mapping[str, int]:
        found = {}
        for folder, names in self._folders():
            inner = folder.relative_to(self.root)
            for name in names:
                if name.startswith(".") or name.endswith(UNFINISHED):
                    continue
                size = _size(folder / name)
                if size is not None:
                    found[posixpath.join(*inner.parts, name)] = size
        return found

    def size(self, path: str) -> int | None:
        return _size(self.root / path)

    def stamp(self, path: str) -> object:
        try:
            about = (self.root / path).stat()
        except OSError:
            return None
        return about.st_mtime_ns, about.st_size, about.st_ino

    @contextmanager
    def local_copy(self, path: str) -> Iterator[Path]:
        file = self.root / path
        if not file.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
        yield file

    def slice(self, path: str, offset: int, length: int) -> bytes:
        with (self.root / path).open("rb") as file:  # no memory map: a file that is cut short would end the process
            file.seek(offset)
            return file.read(length)

    @contextmanager
    def atomic_write(self, path: str) -> Iterator[Path]:
        """See WritableStorage. The file is written beside its place, synced to disk and renamed.

        Where that fails nothing is left of it, so that a full disk has room for the manifest.
        """
        file = self.root / path
        beside = file.with_name(f"{file.name}.{os.getpid()}{UNFINISHED}")
        with _refusals(file):
            self._refuse_moved()
            if not file.parent.is_dir():
                file.parent.mkdir(parents=True, exist_ok=True)
            try:
                yield beside
                self._refuse_moved()
                with beside.open("rb") as written:
                    os.fsync(written.fileno())
                os.replace(beside, file)
            except BaseException:
                beside.unlink(missing_ok=True)
                self._refuse_moved()
                raise
            folder = os.open(file.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def remove(self, path: str) -> None:
        (self.root / path).unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        try:
            with _refusals(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
                held = FileLock(self.root / LOCK).acquire(timeout=0)
        except Timeout as error:
            raise AtlasBusy(
                f"another run is writing {self.root}; wait for it, or render into another folder"
            ) from error
        with held:
            object.__setattr__(self, "held", _which(self.root))
            try:
                self.remove_unfinished()
                yield
            finally:
                object.__setattr__(self, "held", None)

    def _refuse_moved(self) -> None:
        """AtlasUnwritable where the folder that was locked is no longer here; workers know it from whom they are of."""
        if self.held is not None and _which(self.root) != self.held:
            raise AtlasUnwritable(
                f"{self.root} was moved, or removed, while it was written to. What is finished stays where it is now; "
                "the same command goes on there"
            )

    def folds_case(self) -> bool:
        return (self.root / LOCK.upper()).exists()

    def remove_unfinished(self) -> None:
        with _refusals(self.root):
            for folder, names in self._folders():
                for name in names:
                    if name.endswith(UNFINISHED):
                        (folder / name).unlink(missing_ok=True)

    def _folders(self) -> Iterator[tuple[Path, list[str]]]:
        """Every folder within, with the names in it that are no folders; a link that leads back is followed once."""
        seen = set()
        for folder, inner, names in os.walk(self.root, followlinks=True):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            if (real := os.path.realpath(folder)) in seen:
                inner.clear()
                continue
            seen.add(real)
            yield Path(folder), sorted(names)


def _size(file: Path) -> int | None:
    """Bytes of a file; None where none is."""
    try:
        about = file.stat()
    except OSError as error:
        if error.errno not in ABSENT:
            raise
        return None
    except ValueError:  # no file can have that name
        return None
    return about.st_size if stat.S_ISREG(about.st_mode) else None


def _which(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from every other one, whatever it is called; None where there is none."""
    try:
        about = folder.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """AtlasUnwritable where the disk refuses what is done here, and would refuse the next shard, too."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        room = ""
        if error.errno in FULL:
            disk = shutil.disk_usage(next(folder for folder in path.parents if folder.is_dir()))
            room = f" ({disk.free:,} of {disk.total:,} bytes are free)"
        raise AtlasUnwritable(f"{path} cannot be written: {os.strerror(error.errno)}{room}") from error
