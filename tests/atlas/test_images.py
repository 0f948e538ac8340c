"""The index, Parquet and the bytes on disk say the same."""

import errno
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from microscope_atlas.atlas import images as index
from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.locate import open_atlas
from microscope_atlas.atlas.manifest import Shard, read_manifest, write_manifest
from microscope_atlas.atlas.shards import Parser, read_shard, write_index, write_shard
from microscope_atlas.atlas.tables import IMAGE, Column, Table
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.errors import AtlasDamaged, AtlasUnwritable, UnknownName
from microscope_atlas.publish.card import render_card
from microscope_atlas.publish.check import check
from microscope_atlas.publish.publish import plan, publish
from tests.atlases import IMAGES, LAYER, LENS, MODEL, render, rows, shards
from tests.hub_double import Hub

PATH = schema.index_path(MODEL)
ALONE = Shard(UnitRange(LENS, MODEL, LAYER, 0, 1), "id", "sha256", 1, 1)
IMAGES_ALONE = Table("images", "an image", (Column("image", IMAGE, "an image"),))


def entries(root: Path) -> list[dict[str, Any]]:
    return read_shard(root / PATH).to_pylist()


def test_every_image_is_where_the_index_says(whole: Path) -> None:
    told = {entry["name"]: entry for entry in entries(whole)}
    assert len(told) == len(entries(whole)) == 3 * IMAGES
    for row in rows(whole):
        entry = told[row["image"]["path"]]
        content = (whole / entry["file"]).read_bytes()
        assert content[entry["offset"] : entry["offset"] + entry["length"]] == row["image"]["bytes"]
        assert [entry[name] for name in ("model", "layer", "unit")] == [
            row[name] for name in ("model", "layer", "unit")
        ]
        assert (entry["table"], entry["column"]) == (LENS, "image")


images = st.none() | st.binary(max_size=64) | st.sampled_from([b"", b"\x00\x00\x00\x00", b"same" * 700])


@settings(max_examples=100, deadline=None)
@given(contents=st.lists(images, min_size=1, max_size=30))
def test_slices_are_the_images_whatever_they_hold(tmp_path_factory: pytest.TempPathFactory, contents: Any) -> None:
    root = tmp_path_factory.mktemp("slices")
    blank = dict.fromkeys(column.name for column in schema.table(LENS).columns)
    made = [
        {**blank, "unit": unit, "method": "fourier", "objective": "channel", "direction": 1, "variant": 0}
        | {"image": None if content is None else {"bytes": content, "path": str(unit)}}
        for unit, content in enumerate(contents)
    ]
    required = {
        "model": MODEL,
        "layer": LAYER,
        "seed": 0,
        "recipe": "",
        "weights_sha256": "",
        "software": "",
        "device": "",
    }
    shard = write_shard(
        Folder(root), UnitRange(LENS, MODEL, LAYER, 0, len(made)), "id", [row | required for row in made]
    )
    path = root / shard.path
    content = path.read_bytes()
    table = schema.table(LENS)
    entries = index.rows(path, shard, table)
    found = {entry["row"]: content[entry["offset"] :][: entry["length"]] for entry in entries}
    assert found == {row: content for row, content in enumerate(contents) if content is not None}
    assert entries == index.rows(path, shard, table, Parser()(content, path))


def test_images_in_several_row_groups_are_found(tmp_path: Path) -> None:
    images = [{"bytes": bytes([i]) * 50, "path": str(i)} for i in range(7)]
    table = pa.table({"image": pa.array(images, IMAGE)})
    options = {"compression": "none", "use_dictionary": False, "row_group_size": 3}
    pq.write_table(table, tmp_path / "groups.parquet", **options)
    path = tmp_path / "groups.parquet"
    content = path.read_bytes()
    for parsed in (None, Parser()(content, path)):
        entries = index.rows(path, ALONE, IMAGES_ALONE, parsed)
        found = [content[entry["offset"] :][: entry["length"]] for entry in entries]
        assert found == [image["bytes"] for image in images]


def test_image_in_no_slice_is_refused(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([{"bytes": b"z" * 5000, "path": "z"}], IMAGE)})
    pq.write_table(table, tmp_path / "packed.parquet", compression="zstd", use_dictionary=False)
    path = tmp_path / "packed.parquet"
    for parsed in (None, Parser()(path.read_bytes(), path)):
        with pytest.raises(AtlasDamaged, match="the image of row 0 is not one slice"):
            index.rows(path, ALONE, IMAGES_ALONE, parsed)


def test_index_grows_with_the_atlas_and_looks_at_new_files_alone(atlas: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    right = index.rows
    monkeypatch.setattr(
        index, "rows", lambda file, shard, *more: looked.append(shard.path) or right(file, shard, *more)
    )
    render(atlas, range(5))
    assert looked == [shards(atlas)[-1].relative_to(atlas).as_posix()]
    monkeypatch.undo()
    assert {entry["unit"] for entry in entries(atlas)} == set(range(5))
    assert list(check(Folder(atlas))) == []


def test_index_does_not_depend_on_the_order_of_the_work(whole: Path, tmp_path: Path) -> None:
    render(tmp_path, range(2))
    render(tmp_path)
    assert (tmp_path / PATH).read_bytes() == (whole / PATH).read_bytes()


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"PAR1")])
def test_lost_or_shortened_index_is_made_again(atlas: Path, harm: Any) -> None:
    before = (atlas / PATH).read_bytes()
    harm(atlas / PATH)
    assert list(check(Folder(atlas))) == [
        f"{PATH}: missing, or not of the shards that are there; running render again makes it"
    ]
    render(atlas)
    assert (atlas / PATH).read_bytes() == before


def test_index_that_points_elsewhere_is_told(atlas: Path) -> None:
    manifest = read_manifest(Folder(atlas))
    wrong = [{**entry, "offset": entry["offset"] + 1} for entry in entries(atlas)]
    manifest.indexes[MODEL] = write_index(Folder(atlas), MODEL, wrong, manifest.indexes[MODEL].of)
    write_manifest(Folder(atlas), manifest)
    Folder(atlas).write(schema.CARD, render_card(manifest))
    assert list(check(Folder(atlas))) == [f"{PATH}: does not say where the images lie"]


def test_images_decode_from_their_slices(whole: Path) -> None:
    for entry in entries(whole):
        with (whole / entry["file"]).open("rb") as file:
            file.seek(entry["offset"])
            assert Image.open(io.BytesIO(file.read(entry["length"]))).size == (32, 32)


def test_image_is_read_from_a_folder_by_its_name(whole: Path) -> None:
    images = index.Images(Folder(whole), MODEL)
    for row in rows(whole):
        assert images.read(LENS, row["image"]["path"]) == row["image"]["bytes"]


@pytest.mark.parametrize("block", [1, 2, 5, 3 * IMAGES])
def test_image_is_found_in_whichever_block(whole: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(index, "BLOCK", block)
    images = index.Images(Folder(whole), MODEL)
    assert len(images) == 3 * IMAGES
    for entry in entries(whole):
        place = images.place(LENS, entry["name"])
        assert (place.file, place.offset, place.length) == (entry["file"], entry["offset"], entry["length"])
    for number in range(50):  # before the first, behind the last, and between any
        with pytest.raises(UnknownName):
            images.place(LENS, f"{number}.jpg")


@pytest.mark.parametrize("taken", [0, 1])
def test_full_temporary_folder_is_told(whole: Path, monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    files = [tempfile.TemporaryFile] * taken

    def full() -> Any:
        if files:
            return files.pop()()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(index, "TemporaryFile", full)
    with pytest.raises(AtlasUnwritable, match="cannot be noted in a temporary file: No space left on device"):
        index.Images(Folder(whole), MODEL)


def test_index_that_is_gone_is_no_matter_of_temporary_files(atlas: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Folder, "size", lambda *_: 1)
    (atlas / PATH).unlink()
    with pytest.raises(AtlasDamaged, match=rf"{PATH} cannot be read: .*No such file"):
        index.Images(Folder(atlas), MODEL)


def test_image_is_read_from_the_hub_by_one_request_of_its_own_size(hub: Hub, whole: Path) -> None:
    publish(plan(Folder(whole), "owner/atlas", "2026.11.0"))
    images = index.Images(open_atlas("owner/atlas@v2026.11.0"), MODEL)
    image = rows(whole)[5]["image"]
    before = len(hub.requests)
    assert images.read(LENS, image["path"]) == image["bytes"]
    (entry,) = (entry for entry in entries(whole) if entry["name"] == image["path"])
    assert hub.ranges == [f"bytes={entry['offset']}-{entry['offset'] + entry['length'] - 1}"]
    assert entry["length"] == len(image["bytes"])
    assert len(hub.requests) == before + 1
    assert images.read(LENS, image["path"]) == image["bytes"]
    assert len(hub.requests) == before + 1  # kept


def test_image_that_is_not_there_is_answered_with_the_nearest(whole: Path) -> None:
    with pytest.raises(UnknownName, match=f"nearest: {MODEL}-{LAYER}-"):
        index.Images(Folder(whole), MODEL).read(LENS, f"{MODEL}-{LAYER}-7-channel-1-0.jpg")


def test_model_without_an_index_is_told(whole: Path) -> None:
    with pytest.raises(AtlasDamaged, match="has no index of alexnet"):
        index.Images(Folder(whole), "alexnet")
