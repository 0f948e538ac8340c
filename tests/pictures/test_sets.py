import threading
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image

from microscope_atlas.errors import PicturesFailed
from microscope_atlas.pictures import sets
from microscope_atlas.pictures.decoder import fitted
from microscope_atlas.pictures.sets import PictureSet, picture_set, squares, with_pictures
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


def test_default_set_is_some_hundreds_of_squares_of_every_source() -> None:
    found = picture_set(DEFAULT)
    assert 250 <= len(found) <= 400
    assert found.revision == sets.default_revision()
    assert {found.describe(number).split()[0] for number in range(len(found))} == set(SOURCES)
    assert all(found[number].width == found[number].height >= 128 for number in range(0, len(found), 7))


def test_default_set_is_cut_from_its_sources() -> None:
    found = picture_set(DEFAULT)
    first = source(next(iter(SOURCES)))
    box = squares(*first.size)[3]
    assert np.array_equal(np.asarray(found[3]), np.asarray(first.crop(box)))


def test_squares_cover_the_picture_and_overlap() -> None:
    boxes = squares(600, 400)
    assert all(right - left == bottom - top for left, top, right, bottom in boxes)
    smallest = sorted(box for box in boxes if box[2] - box[0] == 180)
    assert (smallest[0][:2], smallest[-1][2:]) == ((0, 0), (600, 400))
    lefts = sorted({box[0] for box in smallest})
    assert max(b - a for a, b in pairwise(lefts)) <= 90
    assert len(boxes) == len(set(boxes))


def test_revision_changes_with_the_pictures_and_the_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sets.default_revision()
    monkeypatch.setattr(sets, "STEP", 0.25)
    assert sets.default_revision() != before
    monkeypatch.undo()
    # not deleted from the dictionary itself: put back, it would be the last
    monkeypatch.setattr(sets, "SOURCES", {name: known for name, known in SOURCES.items() if name != "cat"})
    assert sets.default_revision() != before


def test_folder_is_read_recursively_in_the_order_of_its_paths(folder: Path) -> None:
    assert levels(picture_set(str(folder))) == [0, 50, 100, 150, 200]


def test_revision_of_a_folder_is_that_of_its_names_and_files(folder: Path, tmp_path: Path) -> None:
    before = picture_set(str(folder)).revision
    moved = folder.rename(tmp_path / "moved")
    assert picture_set(str(moved)).revision == before
    (moved / "c.png").rename(moved / "d.png")
    renamed = picture_set(str(moved)).revision
    grey(7, 90, 90).save(moved / "a.png")
    assert len({before, renamed, picture_set(str(moved)).revision}) == 3


def test_dataset_is_read_by_its_column_of_images(dataset: Path) -> None:
    found = picture_set(f"{dataset}#train")
    assert levels(found) == [0, 100, 200]
    assert len(picture_set(f"{dataset}#train[:2]")) == 2
    assert found.revision == picture_set(f"{dataset}#train").revision != picture_set(f"{dataset}#train[:2]").revision


def test_dataset_of_the_hub_has_the_commit_for_its_revision() -> None:
    commit = "0123456789" * 4
    assert (
        sets._commit([f"hf://datasets/owner/name@{commit}/a.parquet", f"hf://datasets/owner/name@{commit}/b"]) == commit
    )
    assert sets._commit(["/data/a.parquet"]) is None


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
    content = (folder / "b" / "b.png").read_bytes()
    (folder / "b" / "b.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(PicturesFailed, match=r"b/b\.png cannot be read as a picture"):
        list(picture_set(str(folder)).batches(8, 2, CPU))


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
    assert changed == Recipe(str(folder), picture_set(str(folder)).revision, batch=3)
