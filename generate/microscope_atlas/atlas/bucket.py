"""Storage with a URL, such as `s3://bucket/atlas`: whatever fsspec knows, as a place for an atlas.

A file is put as one object, so it is there whole or not at all, and is read back before it counts. For writing, an
atlas is held by a lease: an object that says who writes, and is renewed while the writer lives.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fsspec

from microscope_atlas.atlas.lease import LEASE, Lease
from microscope_atlas.atlas.storage import WritableStorage
from microscope_atlas.errors import AtlasBusy, AtlasDamaged, AtlasError, AtlasUnwritable, ExtraMissing, StorageFailed


class Bucket(WritableStorage):
    """An atlas in storage. Credentials and settings are those of the environment, or of fsspec's configuration."""

    def __init__(self, url: str):
        """ExtraMissing where the library for its kind is not installed, StorageFailed where its kind is not known."""
        self.url = url.rstrip("/")
        self._lease: Lease | None = None
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

    @property
    def name(self) -> str:
        return self.url

    def files(self) -> Mapping[str, int]:
        with self._translated_errors(""):
            self._fs.invalidate_cache()
            found = self._fs.find(self._base, detail=True)
        sizes = {key[len(self._base) + 1 :]: facts["size"] for key, facts in found.items()}
        return {path: size for path, size in sizes.items() if not path.rpartition("/")[2].startswith(".")}

    def size(self, path: str) -> int | None:
        with self._translated_errors(path):
            self._fs.invalidate_cache()
            try:
                about = self._fs.info(self._key(path))
            except FileNotFoundError:
                return None
        return int(about["size"]) if about["type"] == "file" else None

    def stamp(self, path: str) -> object:
        with self._translated_errors(path):
            self._fs.invalidate_cache()
            try:
                about = self._fs.info(self._key(path))
            except FileNotFoundError:
                return None
        return {name: str(about.get(name)) for name in ("size", "ETag", "etag", "LastModified", "mtime", "created")}

    def slice(self, path: str, offset: int, length: int) -> bytes:
        with self._translated_errors(path):
            return bytes(self._fs.cat_file(self._key(path), start=offset, end=offset + length))

    @contextmanager
    def local_copy(self, path: str) -> Iterator[Path]:
        with TemporaryDirectory() as folder:
            copy = Path(folder) / Path(path).name
            with self._translated_errors(path):
                copy.write_bytes(self._fs.cat_file(self._key(path)))
            yield copy

    @contextmanager
    def atomic_write(self, path: str) -> Iterator[Path]:
        """See WritableStorage. The file is put as one object, and read back.

        AtlasDamaged where it does not read back, AtlasUnwritable where storage refuses, AtlasBusy where another run has
        taken the atlas over.
        """
        with TemporaryDirectory() as folder:
            copy = Path(folder) / Path(path).name
            yield copy
            content = copy.read_bytes()
            with self._translated_errors(path):
                if self._lease and not self._lease.is_held():
                    raise AtlasBusy(
                        f"another run has taken over {self}: this one was silent for too long. What it finished stays"
                    )
                try:
                    self._fs.pipe_file(self._key(path), content)
                except PermissionError as error:
                    raise AtlasUnwritable(f"{self._key(path)} cannot be written: {error}") from error
                if self._fs.cat_file(self._key(path)) != content:
                    raise AtlasDamaged(f"{self.url}/{path} does not read back as it was written")

    def remove(self, path: str) -> None:
        with self._translated_errors(path), suppress(FileNotFoundError):
            self._fs.rm_file(self._key(path))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """See WritableStorage.

        A lease is made only if there is none, which S3, Google Cloud Storage and Azure decide in one step; on others
        two runs that begin at the same moment may both believe that they hold it. A run that was killed leaves its
        lease: whoever comes next watches it for SILENCE_SECONDS of its own clock, and takes it over if nothing renews
        it. A run that was cut off for longer and comes back finds its lease gone and stops before it writes another
        manifest; the shards that its workers finish meanwhile are those that its successor would make, byte for byte.
        """
        self._lease = Lease(self._fs, self._key(LEASE), self.name)
        with self._translated_errors(LEASE):
            self._lease.take()
        try:
            yield
        finally:
            with self._translated_errors(LEASE):
                self._lease.release()
            self._lease = None

    def remove_unfinished(self) -> None:
        """Nothing: no object is there before it is finished."""

    def _key(self, path: str) -> str:
        return f"{self._base}/{path}"

    @contextmanager
    def _translated_errors(self, path: str) -> Iterator[None]:
        """StorageFailed where storage answers with an error of its own kind, whatever library it is reached by."""
        try:
            yield
        except (FileNotFoundError, AtlasError):
            raise
        except Exception as error:
            raise StorageFailed(f"{self.url}/{path}: {type(error).__name__}: {error}") from error
