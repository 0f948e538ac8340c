"""What every place for an atlas has to do: one contract, and one class a backend."""

import hashlib
import pickle
import uuid
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

import pytest

from microscope_atlas.atlas.bucket import Bucket
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.revision import Revision
from microscope_atlas.atlas.storage import Storage, WritableStorage
from microscope_atlas.errors import AtlasBusy, AtlasUnwritable
from microscope_atlas.hub.repo import Repo
from tests.hub_double import Hub

FILES = {
    "atlas.json": b"{}\n",
    "README.md": "# größer\n".encode(),
    "units/net/stem.00000-00002.parquet": bytes(range(256)) * 4,
}


class Reads(ABC):
    """The contract of whoever reads."""

    @pytest.fixture
    @abstractmethod
    def storage(self) -> Storage:
        """A place that holds FILES, a hidden file, and nothing else."""

    def test_lists_every_file_with_its_length_but_no_hidden_one(self, storage: Storage) -> None:
        assert dict(storage.files()) == {path: len(content) for path, content in FILES.items()}

    def test_says_how_long_a_file_is_or_that_it_is_not_there(self, storage: Storage) -> None:
        assert {path: storage.size(path) for path in FILES} == {path: len(file) for path, file in FILES.items()}
        assert storage.size("units/net/head.00000-00002.parquet") is None
        assert storage.size("units/net") is None

    def test_gives_whole_files(self, storage: Storage) -> None:
        for path, content in FILES.items():
            assert storage.read(path) == content
            with storage.local_copy(path) as file:
                assert hashlib.sha256(file.read_bytes()).digest() == hashlib.sha256(content).digest()

    def test_file_that_is_not_there_is_not_found(self, storage: Storage) -> None:
        with pytest.raises(FileNotFoundError):
            storage.read("releases.json")

    def test_gives_slices_to_the_byte(self, storage: Storage) -> None:
        path = "units/net/stem.00000-00002.parquet"
        for start, length in ((0, 1), (255, 2), (1000, 24)):
            assert storage.slice(path, start, length) == FILES[path][start : start + length]

    def test_is_called_what_the_command_line_takes(self, storage: Storage) -> None:
        assert str(storage) == storage.name != ""


class Writes(Reads):
    """The contract of whoever writes, too."""

    def test_file_is_there_once_it_is_whole(self, storage: WritableStorage) -> None:
        with storage.atomic_write("index/net/index.parquet") as beside:
            beside.write_bytes(b"half")
            assert storage.size("index/net/index.parquet") is None
        assert storage.read("index/net/index.parquet") == b"half"

    def test_writing_that_fails_leaves_what_was_there(self, storage: WritableStorage) -> None:
        with suppress(RuntimeError), storage.atomic_write("README.md") as beside:
            beside.write_bytes(b"half")
            raise RuntimeError
        assert {path: storage.read(path) for path in storage.files()} == FILES

    def test_file_is_replaced_and_removed(self, storage: WritableStorage) -> None:
        storage.write("README.md", "other")
        assert storage.read("README.md") == b"other"
        for _ in range(2):  # removing what is not there is no error
            storage.remove("README.md")
            assert storage.size("README.md") is None

    def test_two_do_not_write_at_once(self, storage: WritableStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("microscope_atlas.atlas.lease.HEARTBEAT_SECONDS", 0.05)
        with storage.lock():
            with pytest.raises(AtlasBusy, match="another run is writing"), again(storage).lock():
                pass
            storage.write("README.md", "other")
        with again(storage).lock():
            pass

    def test_lock_is_no_file_of_the_atlas(self, storage: WritableStorage) -> None:
        with storage.lock():
            assert dict(storage.files()).keys() == FILES.keys()


def again(storage: WritableStorage) -> WritableStorage:
    """The same place, as another process would see it."""
    return Bucket(storage.name) if isinstance(storage, Bucket) else Folder(Path(storage.name))


class TestFolder(Writes):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Folder:
        for path, content in {**FILES, ".hidden": b"", "units/.DS_Store": b""}.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content)
        return Folder(tmp_path)

    def test_moved_while_it_is_written_to_it_is_not_begun_anew(self, storage: Folder, tmp_path: Path) -> None:
        root = tmp_path / "atlas"
        with Folder(root).lock():
            pass
        atlas = Folder(root)
        with atlas.lock():
            worker = pickle.loads(pickle.dumps(atlas))
            with pytest.raises(AtlasUnwritable, match="was moved, or removed"), worker.atomic_write("a/b"):
                root.rename(tmp_path / "elsewhere")
            with pytest.raises(AtlasUnwritable, match="was moved, or removed"):
                atlas.write("README.md", "other")
            assert not root.exists()
        assert Folder(tmp_path / "elsewhere").files() == {}

    def test_follows_links_wherever_it_looks(self, storage: Folder, tmp_path_factory: pytest.TempPathFactory) -> None:
        elsewhere = tmp_path_factory.mktemp("elsewhere") / "units"
        (storage.root / "units").rename(elsewhere)
        (storage.root / "units").symlink_to(elsewhere)
        (elsewhere / "back").symlink_to(elsewhere)  # a circle, which ends
        path = "units/net/stem.00000-00002.parquet"
        assert storage.files()[path] == storage.size(path) == len(FILES[path])
        (elsewhere / "net" / "killed.parquet.1.part").touch()
        storage.remove_unfinished()
        assert [file.name for file in (elsewhere / "net").iterdir()] == ["stem.00000-00002.parquet"]

    def test_link_that_leads_nowhere_is_no_file(self, storage: Folder) -> None:
        before = storage.files()
        for name, leads_to in (("lost", "nowhere"), ("itself", "itself"), ("inside", "README.md/file")):
            (storage.root / name).symlink_to(leads_to)
        assert storage.files() == before

    def test_file_that_is_cut_short_gives_fewer_bytes(self, storage: Folder) -> None:
        path = "units/net/stem.00000-00002.parquet"
        assert len(storage.slice(path, 0, 1024)) == 1024
        (storage.root / path).write_bytes(FILES[path][:100])
        assert storage.slice(path, 90, 1024) == FILES[path][90:100]


class TestBucket(Writes):
    @pytest.fixture
    def storage(self) -> Bucket:
        bucket = Bucket(f"memory://contract-{uuid.uuid4().hex}/one")
        for path, content in {**FILES, ".hidden": b""}.items():
            bucket.write(path, content)
        return bucket


class TestRevision(Reads):
    @pytest.fixture
    def storage(self, hub: Hub) -> Revision:
        commit = hub.commit("datasets/someone/atlas", {**FILES, ".gitattributes": b""})
        return Revision(Repo("someone/atlas", "dataset"), "main", commit.oid)
