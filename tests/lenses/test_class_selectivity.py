import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from microscope_atlas.errors import PicturesFailed
from microscope_atlas.lenses.class_selectivity import ClassResponses, selectivity
from microscope_atlas.lenses.recipe import settings
from microscope_atlas.lenses.responses import Recipe
from microscope_atlas.pictures.labels import Labels, of_folder
from microscope_atlas.pictures.sets import picture_set
from microscope_atlas.run.recipes import chosen
from tests.lenses.test_responses import LENS, RED, SIZE, rows

LEVELS = {"cat": (51, 255, 102), "dog": (0, 204), "eel": (0,)}  # of a red pixel on black; the response is level / 127.5


def pixel(level: int) -> Image.Image:
    picture = Image.new("RGB", (SIZE, SIZE))
    picture.putpixel((3, 3), (level, 0, 0))
    return picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, levels in LEVELS.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number, level in enumerate(levels):
            pixel(level).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def recipe(folder: Path) -> Recipe:
    return replace(LENS.recipe("draft").with_pictures(str(folder)), batch=4, top=3)


def dataset(folder: Path, label: Any) -> str:
    features = Features({"picture": ImageFeature(), "label": label})
    names = [name for name, levels in LEVELS.items() for _ in levels]
    pictures = [pixel(level) for levels in LEVELS.values() for level in levels]
    folder.mkdir()
    made = Dataset.from_dict({"picture": pictures, "label": names}, features=features)
    made.to_parquet(folder / "validation.parquet")
    return f"{folder}#validation"


def answered(row: dict[str, Any]) -> list[tuple[str, float, int, float]]:
    return [(each["name"], each["mean"], each["num_pictures"], each["top_share"]) for each in row["classes"]]


def test_classes_of_a_unit_are_those_worked_out_by_hand(recipe: Recipe) -> None:
    (row,) = rows(range(RED, RED + 1), recipe)
    cat, dog = 408 / 3 / 127.5, 204 / 2 / 127.5
    assert answered(row) == [
        ("cat", pytest.approx(cat), 3, pytest.approx(2 / 3)),  # of the three strongest: 255, 204, 102
        ("dog", pytest.approx(dog), 2, pytest.approx(1 / 3)),
    ]
    rest = dog / 2  # eels do not excite it
    assert row["class_selectivity"] == pytest.approx((cat - rest) / (cat + rest))


def test_index_is_that_of_the_paper_and_within_0_and_1() -> None:
    means = np.array([[1.0, 3, 0, 2], [1, 0, 0, 1], [1, 0, 0, 0]])  # alike, one alone, none, between
    np.testing.assert_allclose(selectivity(means), [0, 1, np.nan, (2 - 0.5) / 2.5])


def test_responses_below_zero_count_as_zero() -> None:
    seen = ClassResponses(Labels(("a", "b"), np.array([0, 0, 1, 1], np.int32)))
    seen.add(np.array([[-4.0], [2], [-1], [-3]], np.float32))
    (row,) = seen.rows(np.array([[1], [2]], np.int32), 5)
    assert (answered(row), row["class_selectivity"]) == ([("a", 1.0, 2, 0.5)], 1.0)


def test_batches_change_no_bit() -> None:
    values = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32)
    labels = Labels(("a", "b", "c"), np.random.default_rng(1).integers(-1, 3, 40).astype(np.int32))
    found = []
    for step in (1, 7, 40):
        seen = ClassResponses(labels)
        for start in range(0, 40, step):
            seen.add(values[start : start + step])
        found.append(seen.means.tobytes())
    assert len(set(found)) == 1


@pytest.mark.parametrize("label", [ClassLabel(names=["eel", "dog", "cat"]), Value("string")], ids=["labels", "text"])
def test_dataset_with_labels_gives_the_same_as_a_folder_of_classes(tmp_path: Path, recipe: Recipe, label: Any) -> None:
    one = rows(range(3), recipe)
    other = replace(LENS.recipe("draft").with_pictures(dataset(tmp_path / "rows", label)), batch=4, top=3)
    assert other.labels == recipe.labels
    two = rows(range(3), other)
    for name in ("classes", "class_selectivity"):
        assert [row[name] for row in one] == [row[name] for row in two]


def test_sets_without_labels_have_none(folder: Path) -> None:
    assert of_folder(folder, [folder / "cat/1.png", folder / "loose.png"]) is None
    assert of_folder(folder, [folder / "cat/1.png", folder / "dog/deep/2.png"]) is None
    assert of_folder(folder, [folder / "cat/1.png", folder / "cat/2.png"]) is None
    assert picture_set("default").labels is None
    recipe = LENS.recipe("draft").with_pictures(str(folder / "cat"))
    (row,) = rows(range(RED, RED + 1), recipe)
    assert (recipe.labels, row["classes"], row["class_selectivity"]) == (None, None, None)


def test_pictures_that_moved_to_other_classes_are_refused(folder: Path, recipe: Recipe) -> None:
    (folder / "cat").rename(folder / "ant")  # the same pictures in the same order
    picture_set(str(folder))
    with pytest.raises(PicturesFailed, match=r"classes of the pictures of folder have sha256 .* is expected"):
        rows(range(3), recipe)


def test_atlas_goes_on_with_its_classes_whatever_is_asked_for_beside(recipe: Recipe) -> None:
    there = {"dataset_samples": settings(recipe) | {"crops": True}, "responses": settings(recipe)}
    there["dataset_samples"] = {name: there["dataset_samples"][name] for name in ("pictures", "revision", "crops")}
    again = chosen(["responses", "dataset_samples"], "standard", there=there)
    assert settings(again["responses"])["labels"] == recipe.labels


def test_responses_of_before_have_no_classes(recipe: Recipe) -> None:
    old = {name: value for name, value in settings(recipe).items() if name not in ("classes", "labels")}
    restored = LENS.restored(json.loads(json.dumps(old)))
    assert (restored.classes, restored.labels) == (0, None)
    names = {column.name for column in LENS.table.made_with(old).columns}
    (row,) = rows(range(RED, RED + 1), restored)
    assert not {"classes", "class_selectivity"} & {*names, *row}
