import os
import threading
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image

from microscope_atlas.errors import PicturesFailed
from microscope_atlas.pictures import cuts, places
from microscope_atlas.pictures.cuts import squares
from microscope_atlas.pictures.dataset import _commit
from microscope_atlas.pictures.decoder import fitted
from microscope_atlas.pictures.folder import pictures_in
from microscope_atlas.pictures.picture_set import PictureSet
from microscope_atlas.pictures.revisions import revision_of
from microscope_atlas.pictures.sets import at_place, note_place, picture_set, place_of, with_pictures
from microscope_atlas.pictures.sources import DEFAULT, SOURCES, source

CPU = torch.device("cpu")


def grey(level: int, width: int = 40, height: int = 30) -> Image.Image:
    return Image.new("RGB", (width, height), (level, level, level))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures, the darker the earlier in the order of their paths, and a file that is none."""
    for level, name in enumerate(["a.png", "b/a.PNG", "b/b.png", "b2.png", "c.png"]):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        grey(50 * level).save(path)
    (tmp_path / "photos" / "labels.txt").write_text("tench")
    return tmp_path / "photos"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A folder that load_dataset reads, with a column of images among others."""
    features = Features({**Dataset.from_dict({"label": [0]}).features, "photo": ImageFeature()})
    rows = {"label": [1, 2, 3], "photo": [grey(0), grey(100), grey(200)]}
    (tmp_path / "rows").mkdir()
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "rows" / "train.parquet")
    return tmp_path / "rows"


def levels(pictures: PictureSet) -> list[int]:
    return [int(np.asarray(pictures[number])[0, 0, 0]) for number in range(len(pictures))]


def test_default_set_is_squares_of_every_source_as_high_as_it_is() -> None:
    found = picture_set(DEFAULT)
    assert found.revision == cuts.default_revision()
    assert found.photos is not None and set(found.photos) == set(SOURCES)
    for number in range(0, len(found), 7):
        photo = source(found.photos[number])
        assert found[number].size == (min(photo.size), min(photo.size))
    assert np.array_equal(np.asarray(found[0]), np.asarray(source(found.photos[0]).crop((0, 0, *found[0].size))))


def test_set_of_0_1_is_kept_as_it_was() -> None:
    revision = "017f393f9d4446d2acced7475c8b9cc923c86c8021dbd2d21cbc02501cd96dc3"
    found = picture_set(DEFAULT, revision)
    assert (found.revision, len(found), found.photos) == (revision, 339, None)
    first = source("astronaut")
    assert np.array_equal(np.asarray(found[3]), np.asarray(first.crop(squares(*first.size, (1.0, 0.7, 0.45), 0.5)[3])))
    with pytest.raises(PicturesFailed, match=r"default has revision .* here, 1 is expected"):
        picture_set(DEFAULT, "1")


def test_squares_cover_the_picture_and_overlap() -> None:
    boxes = squares(600, 400, (1.0, 0.7, 0.45), 0.5)
    assert all(right - left == bottom - top for left, top, right, bottom in boxes)
    smallest = sorted(box for box in boxes if box[2] - box[0] == 180)
    assert (smallest[0][:2], smallest[-1][2:]) == ((0, 0), (600, 400))
    lefts = sorted({box[0] for box in smallest})
    assert max(b - a for a, b in pairwise(lefts)) <= 90
    assert len(boxes) == len(set(boxes))


def test_revision_changes_with_the_photos_and_the_cuts() -> None:
    now = cuts.NOW
    others = [now, replace(now, step=0.5), replace(now, shares=(0.5,)), replace(now, photos=("cat",))]
    assert len({cut.revision for cut in others}) == len(others)


def test_folder_is_read_recursively_in_the_order_of_its_paths(folder: Path) -> None:
    assert levels(picture_set(str(folder))) == [0, 50, 100, 150, 200]


def test_set_of_a_folder_is_what_is_in_it_wherever_and_whenever(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = picture_set(str(folder))
    assert first.name == "folder"
    found = []
    monkeypatch.chdir(tmp_path)
    found.append(picture_set("photos"))
    found.append(picture_set("./photos/../photos/"))
    for path in folder.rglob("*"):
        os.utime(path, (1e9, 1e9))
    found.append(picture_set(str(folder)))
    copied = tmp_path / "unzipped elsewhere"
    for path in sorted(folder.rglob("*.*"), reverse=True):  # written in another order
        (copied / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        (copied / path.relative_to(folder)).write_bytes(path.read_bytes())
    found.append(picture_set(str(copied)))
    found.append(picture_set(str(folder.rename(tmp_path / "moved"))))
    assert {(each.name, each.revision) for each in found} == {(first.name, first.revision)}


def test_set_of_a_folder_is_another_with_other_pictures_or_another_order(folder: Path) -> None:
    before = picture_set(str(folder)).revision
    (folder / "c.png").rename(folder / "0.png")
    renamed = picture_set(str(folder)).revision
    (folder / "0.png").rename(folder / "c.png")
    assert picture_set(str(folder)).revision == before
    content, stat = (folder / "a.png").read_bytes(), (folder / "a.png").stat()
    grey(7).save(folder / "a.png")
    other = picture_set(str(folder)).revision
    (folder / "a.png").write_bytes(content)
    os.utime(folder / "a.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert picture_set(str(folder)).revision == before
    assert len({before, renamed, other}) == 3


def test_nothing_is_read_again_while_no_file_has_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = picture_set(str(folder))
    monkeypatch.setattr(Path, "read_bytes", None)
    again = picture_set(first.name, first.revision)
    assert (again.name, again.revision, levels(again)) == (first.name, first.revision, levels(first))


def test_rows_find_their_set_by_its_content(folder: Path, tmp_path: Path) -> None:
    first = picture_set(str(folder))
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(PicturesFailed, match=r"photos, with the pictures of revision .* is gone; say with --pictures"):
        picture_set(first.name, first.revision)
    note_place(str(moved))
    assert levels(picture_set(first.name, first.revision)) == [0, 50, 100, 150, 200]
    with pytest.raises(PicturesFailed, match=r"nobody noted where .* the folder of pictures with revision 0"):
        picture_set("folder", "0" * 64)


def test_spoilt_notes_of_places_are_none(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path / "cache"))
    first = picture_set(str(folder))
    for spoilt in ("", "[]", "{", '{"a": 1}', "[" * 100_000):
        (tmp_path / "cache" / places.FILE).write_text(spoilt)
        assert places.find(first.revision) is None
        assert picture_set(str(folder)).revision == first.revision
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", "/proc/none")  # nothing can be written there
    assert picture_set(str(folder)).revision == first.revision


def test_another_machine_is_told_where_the_set_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    @dataclass(frozen=True)
    class Recipe:
        pictures: str
        revision: str

    first = picture_set(str(folder))
    recipe = Recipe(first.name, first.revision)
    where = place_of(recipe)
    assert where == str(folder)
    assert place_of(Recipe(DEFAULT, cuts.default_revision())) is None
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path / "of another machine"))
    at_place(recipe, where)
    assert levels(picture_set(first.name, first.revision)) == levels(first)


def test_hidden_files_are_no_pictures(folder: Path) -> None:
    before = picture_set(str(folder)).revision
    for name in ("._a.jpg", ".DS_Store", "Thumbs.db", ".hidden.png", ".cache/a.png", "__MACOSX/._a.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"no picture")
    assert picture_set(str(folder)).revision == before


def test_links_are_followed_once(folder: Path, tmp_path: Path) -> None:
    grey(90).save(tmp_path / "elsewhere.png")
    (folder / "d.png").symlink_to(tmp_path / "elsewhere.png")
    (tmp_path / "more").mkdir()
    grey(95).save(tmp_path / "more" / "x.png")
    (folder / "e").symlink_to(tmp_path / "more")
    (folder / "b" / "back").symlink_to(folder)
    assert levels(picture_set(str(folder))) == [0, 50, 100, 150, 200, 90, 95]
    assert len(pictures_in(folder)) == 7


def test_link_that_leads_nowhere_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "d.png").symlink_to(tmp_path / "nothing.png")
    with pytest.raises(PicturesFailed, match=r"1 files in .*\n  d\.png: "):
        picture_set(str(folder))


def test_a_folder_is_one_whatever_its_name(folder: Path, tmp_path: Path) -> None:
    for name in ("phash#1", "default", "folder", "a:b@c"):
        named = folder.rename(tmp_path / name)
        if name != DEFAULT:  # which is ours
            assert len(picture_set(str(named))) == 5
        folder = named


def test_all_bad_files_are_named_before_anything_is_made(folder: Path) -> None:
    content = (folder / "b" / "b.png").read_bytes()
    (folder / "b" / "b.png").write_bytes(content[: len(content) // 2])
    (folder / "c.png").write_bytes(b"")
    (folder / "page.jpg").write_text("<html>not found")
    with pytest.raises(PicturesFailed) as refused:
        picture_set(str(folder))
    assert str(refused.value).startswith(f"3 files in {folder} cannot be read as pictures; mend them, take them out")
    assert all(f"\n  {name}: " in str(refused.value) for name in ("b/b.png", "c.png", "page.jpg"))


def test_bad_files_are_left_out_where_that_is_asked_and_rows_say_so(folder: Path) -> None:
    (folder / "b2.png").write_bytes(b"")
    found = picture_set(str(folder), skip_bad=True)
    assert (found.name, levels(found)) == ("folder#readable", [0, 50, 100, 200])
    again = picture_set(found.name, found.revision)
    assert (again.name, again.revision, levels(again)) == (found.name, found.revision, levels(found))
    with pytest.raises(PicturesFailed, match="1 files in"):
        picture_set(str(folder))
    note_place(str(folder))
    with pytest.raises(PicturesFailed, match="--skip-bad-pictures leaves files of a folder out"):
        picture_set(f"{folder}-none#train", skip_bad=True)


def test_folders_of_0_1_are_known_by_path_names_and_sizes(folder: Path) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".png")
    revision = revision_of([[path.relative_to(folder).as_posix(), path.stat().st_size] for path in paths])
    assert levels(picture_set(str(folder), revision)) == [0, 50, 100, 150, 200]
    with pytest.raises(PicturesFailed, match="is expected"):
        picture_set(str(folder), "0" * 64)


def test_dataset_is_read_by_its_column_of_images(dataset: Path) -> None:
    found = picture_set(f"{dataset}#train")
    assert levels(found) == [0, 100, 200]
    assert len(picture_set(f"{dataset}#train[:2]")) == 2
    assert found.revision == picture_set(f"{dataset}#train").revision != picture_set(f"{dataset}#train[:2]").revision


def test_dataset_in_a_folder_is_what_is_in_it_too(dataset: Path, tmp_path: Path) -> None:
    found = picture_set(f"{dataset}#train")
    assert found.name == "folder#train"
    os.utime(dataset / "train.parquet", (1e9, 1e9))
    assert picture_set(f"{dataset}#train").revision == found.revision
    moved = dataset.rename(tmp_path / "moved")
    again = picture_set(f"{moved}#train")
    assert (again.name, again.revision) == (found.name, found.revision)
    assert levels(picture_set(found.name, found.revision)) == levels(found)


def test_only_the_files_of_the_split_are_fetched(dataset: Path) -> None:
    (dataset / "train.parquet").rename(dataset / "validation.parquet")
    (dataset / "train.parquet").write_bytes(b"nothing that could be read")
    assert levels(picture_set(f"{dataset}#validation[1:]")) == [100, 200]
    with pytest.raises(PicturesFailed, match="cannot be loaded"):
        picture_set(f"{dataset}#train")
    with pytest.raises(PicturesFailed, match="cannot be loaded"):
        picture_set(f"{dataset}#test")


def test_dataset_of_the_hub_has_the_commit_for_its_revision() -> None:
    commit = "0123456789" * 4
    assert _commit([f"hf://datasets/owner/name@{commit}/a.parquet", f"hf://datasets/owner/name@{commit}/b"]) == commit
    assert _commit(["/data/a.parquet"]) is None


def test_dataset_without_images_is_refused(tmp_path: Path) -> None:
    Dataset.from_dict({"label": [1, 2]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(PicturesFailed, match="has no column of images; its columns are label"):
        picture_set(f"{tmp_path}#train")


def test_what_is_no_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PicturesFailed, match="no such folder; expected 'default', a folder"):
        picture_set(str(tmp_path / "nothing"))
    with pytest.raises(PicturesFailed, match="cannot be loaded"):
        picture_set(f"{tmp_path / 'nothing'}#train")
    with pytest.raises(PicturesFailed, match="has no pictures"):
        picture_set(str(tmp_path))


def test_other_pictures_than_expected_are_refused(folder: Path) -> None:
    revision = picture_set(str(folder)).revision
    (folder / "a.png").unlink()
    with pytest.raises(PicturesFailed, match=f"{revision} is expected"):
        picture_set(str(folder), revision)


def test_broken_picture_is_named_and_never_skipped(folder: Path) -> None:
    found = picture_set(str(folder))
    content = (folder / "b" / "b.png").read_bytes()
    (folder / "b" / "b.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(PicturesFailed, match=r"b/b\.png cannot be read as a picture"):
        list(found.batches(8, 2, CPU))


def test_photo_is_turned_upright(tmp_path: Path) -> None:
    picture, turned = grey(0, 40, 30), Image.Exif()
    picture.paste("white", (0, 0, 40, 5))
    turned[0x0112] = 6  # orientation: the camera was held on its side, the top is at the right
    picture.save(tmp_path / "photo.png", exif=turned)
    upright = picture_set(str(tmp_path))[0]
    assert upright.size == (30, 40)
    assert upright.getpixel((29, 20)) == (255, 255, 255)


def test_network_sees_the_middle_square() -> None:
    wide = Image.new("RGB", (90, 30), "red")
    wide.paste("blue", (30, 0, 60, 30))
    assert fitted(wide, 30).getcolors() == [(900, (0, 0, 255))]
    assert fitted(wide, 12).getpixel((6, 6)) == (0, 0, 255)


def test_batches_are_all_pictures_in_order_as_a_network_sees_them(folder: Path) -> None:
    found = picture_set(str(folder))
    batches = list(found.batches(16, 2, CPU))
    assert [tuple(batch.shape) for batch in batches] == [(2, 3, 16, 16), (2, 3, 16, 16), (1, 3, 16, 16)]
    assert torch.cat(batches)[:, 0, 0, 0].tolist() == pytest.approx([0, 50 / 255, 100 / 255, 150 / 255, 200 / 255])
    default = picture_set(DEFAULT)
    (first, *_) = default.batches(32, 2, CPU)
    expected = torch.from_numpy(np.array(fitted(default[1], 32))).permute(2, 0, 1) / 255
    assert torch.equal(first[1], expected)


def test_pictures_are_read_only_a_little_ahead() -> None:
    read, lock = [], threading.Lock()

    def note(number: int) -> Image.Image:
        with lock:
            read.append(number)
        return grey(0)

    batches = PictureSet("counted", "", 1000, note, str).batches(8, 4, CPU)
    next(batches)
    next(batches)
    batches.close()
    assert 8 <= len(read) <= 16


def test_recipe_is_set_to_another_set(folder: Path) -> None:
    @dataclass(frozen=True)
    class Recipe:
        pictures: str = DEFAULT
        revision: str = ""
        batch: int = 8

    changed = with_pictures(Recipe(batch=3), str(folder))
    assert changed == Recipe("folder", picture_set(str(folder)).revision, batch=3)
