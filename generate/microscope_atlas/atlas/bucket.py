"""Storage with a URL, such as `s3://bucket/atlas`: whatever fsspec knows, as a place for an atlas.

A file is put as one object, so it is there whole or not at all, and is read back before it counts. For writing, an
atlas is held by a lease: an object that says who writes, and is renewed while the writer lives.
"""

import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fsspec

from microscope_atlas.errors import AtlasBusy, AtlasDamaged, AtlasError, AtlasUnwritable, ExtraMissing, StorageFailed

LEASE = ".lease"
HEARTBEAT_SECONDS = 10.0  # between two renewals of a lease
SILENCE_SECONDS = 60.0  # without a renewal, after which its owner counts as dead


class Bucket:
    """An atlas in storage. Credentials and settings are those of the environment, or of fsspec's configuration."""

    def __init__(self, url: str):
        """ExtraMissing where the library for its kind is not installed, StorageFailed where its kind is not known."""
        self.url = url.rstrip("/")
        self._lease: _Lease | None = None
        try:
            self._fs, self._base = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            raise ExtraMissing(
                f"{url} cannot be reached: {error}; for S3, pip install 'microscope-atlas[s3]'"
            ) from error
        except ValueError as error:
            raise StorageFailed(f"{url} cannot be reached: {error}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return Bucket, (self.url,)  # workers write shards under the lease of the run that has them

    def __str__(self) -> str:
        return self.url

    def files(self) -> dict[str, int]:
        """All files of the atlas, with their lengths in bytes."""
        with self._asking(""):
            self._fs.invalidate_cache()
            found = self._fs.find(self._base, detail=True)
        return {key[len(self._base) + 1 :]: facts["size"] for key, facts in found.items()}

    def size(self, path: str) -> int | None:
        """Of a file in bytes; None where it is not there."""
        with self._asking(path):
            self._fs.invalidate_cache()
            try:
                return int(self._fs.info(self._key(path))["size"])
            except FileNotFoundError:
                return None

    def slice(self, path: str, offset: int, length: int) -> bytes:
        """Some bytes of a file."""
        with self._asking(path):
            return bytes(self._fs.cat_file(self._key(path), start=offset, end=offset + length))

    @contextmanager
    def holding(self, path: str) -> Iterator[Path]:
        """A folder that holds a copy of the file at its path, within the context; nothing where it is not there."""
        with TemporaryDirectory() as folder:
            copy = Path(folder) / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            with self._asking(path), suppress(FileNotFoundError):
                copy.write_bytes(self._fs.cat_file(self._key(path)))
            yield Path(folder)

    @contextmanager
    def placing(self, path: str) -> Iterator[Path]:
        """A name on this machine to write a file under; when the context ends, it is put into its place.

        AtlasDamaged where it does not read back, AtlasUnwritable where storage refuses, AtlasBusy where another run has
        taken the atlas over.
        """
        with TemporaryDirectory() as folder:
            copy = Path(folder) / Path(path).name
            yield copy
            if self._lease and self._lease.lost.is_set():
                raise AtlasBusy(f"another run has taken over {self}: this one was silent for too long")
            content = copy.read_bytes()
            with self._asking(path):
                try:
                    self._fs.pipe_file(self._key(path), content)
                except PermissionError as error:
                    raise AtlasUnwritable(f"{self._key(path)} cannot be written: {error}") from error
                if self._fs.cat_file(self._key(path)) != content:
                    raise AtlasDamaged(f"{self.url}/{path} does not read back as it was written")

    def remove(self, path: str) -> None:
        """A file, if it is there."""
        with self._asking(path), suppress(FileNotFoundError):
            self._fs.rm_file(self._key(path))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the atlas for writing; AtlasBusy where another run does.

        A lease is made only if there is none, which S3, Google Cloud Storage and Azure decide in one step; on others
        two runs that begin at the same moment may both believe that they hold it. A run that was killed leaves its
        lease: whoever comes next watches it for SILENCE_SECONDS of its own clock, and takes it over if nothing renews
        it. A run that was cut off for longer and comes back finds its lease gone and stops before it writes another
        manifest; the shards that its workers finish meanwhile are those that its successor would make, byte for byte.
        """
        self._lease = _Lease(self)
        self._lease.take()
        try:
            yield
        finally:
            self._lease.release()
            self._lease = None

    def _key(self, path: str) -> str:
        return f"{self._base}/{path}"

    @contextmanager
    def _asking(self, path: str) -> Iterator[None]:
        """StorageFailed where storage answers with an error of its own kind, whatever library it is reached by."""
        try:
            yield
        except (FileNotFoundError, AtlasError):
            raise
        except Exception as error:
            raise StorageFailed(f"{self.url}/{path}: {type(error).__name__}: {error}") from error


class _Lease:
    """An object that says who writes to an atlas."""

    def __init__(self, bucket: Bucket):
        self._bucket, self._key, self._fs = bucket, bucket._key(LEASE), bucket._fs
        self._owner = {"owner": f"{socket.gethostname()}:{os.getpid()}", "id": uuid.uuid4().hex}
        self._beats = 0
        self._ended = threading.Event()
        self._renewer = threading.Thread(target=self._renew, daemon=True)
        self.lost = threading.Event()

    def take(self) -> None:
        """AtlasBusy where another run has it, and lives."""
        with self._bucket._asking(LEASE):
            other = self._create()
            waited = 0.0
            while other is not None and waited < SILENCE_SECONDS:
                self._ended.wait(HEARTBEAT_SECONDS * 1.5)
                waited += HEARTBEAT_SECONDS * 1.5
                now = self._read()
                if now not in (other, None):
                    raise self._busy(now)
            if other is not None:
                with suppress(FileNotFoundError):
                    self._fs.rm_file(self._key)
                if (winner := self._create()) is not None:
                    raise self._busy(winner)
        self._renewer.start()

    def release(self) -> None:
        self._ended.set()
        self._renewer.join()
        with self._bucket._asking(LEASE), suppress(FileNotFoundError):
            if self._is_ours():
                self._fs.rm_file(self._key)

    def _create(self) -> bytes | None:
        """None where it is ours now, else whose it is."""
        while True:
            try:
                self._fs.pipe_file(self._key, self._content(), mode="create")
            except FileExistsError:
                if (other := self._read()) is not None:
                    return other
            else:
                return None

    def _renew(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            try:
                if not self._is_ours():
                    self.lost.set()
                    return
                self._beats += 1
                self._fs.pipe_file(self._key, self._content())
            except Exception:
                continue  # storage does not answer: the next beat may come through, or the lease is lost

    def _is_ours(self) -> bool:
        content = self._read()
        return content is not None and json.loads(content)["id"] == self._owner["id"]

    def _read(self) -> bytes | None:
        with suppress(FileNotFoundError):
            return bytes(self._fs.cat_file(self._key))
        return None

    def _content(self) -> bytes:
        return json.dumps({**self._owner, "beat": self._beats}).encode()

    def _busy(self, content: bytes | None) -> AtlasBusy:
        owner = json.loads(content or b"{}").get("owner", "somebody")
        return AtlasBusy(f"another run is writing {self._bucket} ({owner}); wait for it, or render into another place")
