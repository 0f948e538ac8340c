"""An atlas in storage that speaks S3, served by a real server on this machine."""

import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import torch

from microscope_atlas.atlas import lease, schema
from microscope_atlas.atlas.bucket import LEASE, Bucket
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.images import Images
from microscope_atlas.atlas.locate import open_atlas, storage_at
from microscope_atlas.atlas.manifest import read_manifest, write_manifest
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.errors import AtlasBusy, AtlasDamaged, AtlasUnwritable, StorageFailed
from microscope_atlas.publish.check import check
from microscope_atlas.run import run
from microscope_atlas.run.engines.local import LocalEngine
from microscope_atlas.run.run import Outcome
from tests.atlases import IMAGES, LAYER, LENS, MODEL, RECIPE, at, content, quick, render, request
from tests.s3 import credentials, s3_server

RECIPES = {LENS: RECIPE, "sheets": quick("sheets")}  # the second reads what the first has made


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(params=["s3", "memory"])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place of its own."""
    name = f"atlases-{uuid.uuid4().hex}"
    if request.param == "memory":
        return f"memory://{name}/one"
    for key, value in credentials(request.getfixturevalue("server")).items():
        monkeypatch.setenv(key, value)
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
    return f"s3://{name}/one"


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Connections are kept by their settings, which are other ones in the next test."""
    yield
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def files(url: str) -> dict[str, bytes]:
    """Every object of an atlas, byte for byte."""
    bucket = Bucket(url)
    return {path: bucket.slice(path, 0, size) for path, size in bucket.files().items()}


def rendered(root: Path | Bucket, units: range = range(3)) -> Outcome:
    recipes, engine = RECIPES, LocalEngine(torch.device("cpu"))
    return run.render(at(root), [request({LAYER: units})], recipes, engine, 2, lambda *_: None)


def test_objects_are_the_files_of_a_folder_byte_for_byte(url: str, tmp_path: Path) -> None:
    assert rendered(Bucket(url)) == rendered(tmp_path)
    there = content(tmp_path)
    there.pop(".lock", None)
    assert files(url) == there


def test_atlas_in_storage_is_checked_read_and_continued(url: str) -> None:
    rendered(Bucket(url))
    atlas = open_atlas(url)
    assert list(check(atlas)) == []
    for shard in read_manifest(atlas).shards.values():
        with atlas.local_copy(shard.path) as file:
            for row in read_shard(file).to_pylist():
                image = row["image"]
                assert Images(atlas, MODEL).read(shard.units.lens, image["path"]) == image["bytes"]
    assert rendered(Bucket(url)).made == 0
    assert render(Bucket(url), range(4), per_shard=2).made > IMAGES  # the unit, and the sheets that show it


@pytest.mark.long
def test_workers_write_to_storage_by_themselves(url: str, tmp_path: Path) -> None:
    if url.startswith("memory:"):
        pytest.skip("each process has a memory of its own")
    render(Bucket(url), per_shard=1, engine=LocalEngine(torch.device("cpu"), workers=2))
    render(tmp_path, per_shard=1)
    there = content(tmp_path)
    there.pop(".lock", None)
    assert files(url) == there


def test_lost_and_shortened_objects_are_made_again(url: str) -> None:
    bucket = Bucket(url)
    rendered(bucket)
    before = files(url)
    one, two, *_ = sorted(read_manifest(bucket).shards)
    bucket.remove(one)
    bucket.write(two, before[two][:1000])
    assert rendered(Bucket(url)).made > 0
    assert files(url) == before


def test_object_that_was_not_noted_is_taken_in(url: str) -> None:
    bucket = Bucket(url)
    rendered(bucket)
    before = files(url)
    manifest = read_manifest(bucket)
    del manifest.shards[min(manifest.shards)]
    write_manifest(bucket, manifest)
    assert rendered(Bucket(url)).made == 0
    assert files(url) == before


def test_object_that_does_not_read_back_is_not_counted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Bucket(url)
    right = bucket._fs.pipe_file

    def losing(path: str, content: bytes, **kwargs: object) -> None:
        right(path, content[:-1], **kwargs)

    monkeypatch.setattr(bucket._fs, "pipe_file", losing)
    with pytest.raises(AtlasDamaged, match=r"one/atlas\.json does not read back"):
        bucket.write(schema.MANIFEST, "{}")


def test_storage_that_refuses_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Bucket(url)

    def refusing(path: str, content: bytes, **kwargs: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(bucket._fs, "pipe_file", refusing)
    with pytest.raises(AtlasUnwritable, match=r"one/atlas\.json cannot be written: Access Denied"):
        bucket.write(schema.MANIFEST, "{}")


def test_storage_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StorageFailed, match="s3://nowhere/one"):
        read_manifest(open_atlas("s3://nowhere/one"))


def test_kind_of_storage_that_nobody_knows_is_named() -> None:
    with pytest.raises(StorageFailed, match="nosuch"):
        open_atlas("nosuch://bucket/one")


def test_two_runs_do_not_write_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    with Bucket(url).lock():
        with pytest.raises(AtlasBusy, match="another run is writing"), Bucket(url).lock():
            pass
        assert Bucket(url).size(LEASE)
    assert Bucket(url).size(LEASE) is None


def test_of_runs_that_begin_together_one_has_the_atlas(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.1)
    together, ended, outcomes = threading.Barrier(6), threading.Event(), []

    def begin() -> None:
        together.wait()
        try:
            with Bucket(url).lock():
                outcomes.append("has it")
                ended.wait(10)
        except AtlasBusy:
            outcomes.append("busy")
            if outcomes.count("busy") == 5:
                ended.set()

    runs = [threading.Thread(target=begin) for _ in range(6)]
    for one in runs:
        one.start()
    for one in runs:
        one.join()
    assert sorted(outcomes) == ["busy"] * 5 + ["has it"]


def test_lease_of_a_killed_run_is_taken_over_once_it_was_silent(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(lease, "SILENCE_SECONDS", 0.3)
    bucket = Bucket(url)
    bucket._fs.pipe_file(bucket._key(LEASE), json.dumps({"owner": "gone:1", "id": "1", "beat": 7}).encode())
    with Bucket(url).lock():
        assert "gone" not in Bucket(url).slice(LEASE, 0, 100).decode()
    assert Bucket(url).size(LEASE) is None


def test_run_whose_atlas_was_taken_over_writes_no_more(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    first = Bucket(url)
    with first.lock():
        first._fs.pipe_file(first._key(LEASE), json.dumps({"owner": "other:1", "id": "2", "beat": 0}).encode())
        assert first._lease
        assert first._lease.lost.wait(10)
        with pytest.raises(AtlasBusy, match="taken over"):
            first.write(schema.MANIFEST, "{}")
    assert first.size(schema.MANIFEST) is None
    assert first.size(LEASE)  # the other's


def test_run_that_was_asleep_looks_before_it_writes(url: str) -> None:
    first = Bucket(url)  # between two beats, as a stopped process wakes up
    with first.lock():
        first._fs.pipe_file(first._key(LEASE), json.dumps({"owner": "other:1", "id": "2", "beat": 0}).encode())
        with pytest.raises(AtlasBusy, match="taken over"):
            first.write(schema.MANIFEST, "{}")
    assert first.size(schema.MANIFEST) is None


def test_urls_of_files_are_folders(tmp_path: Path) -> None:
    assert storage_at(f"file://{tmp_path}/a%20b") == Folder(tmp_path / "a b")
    assert storage_at(str(tmp_path)) == Folder(tmp_path)
