"""Labels by class selectivity: answers by hand, of a network that sees colours, and pictures in a folder a class."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.errors import RenderFailed
from microscope_atlas.keys import Key
from microscope_atlas.lenses.recipe import changed
from microscope_atlas.lenses.registry import lens
from microscope_atlas.publish.check import check
from microscope_atlas.run import reproduce
from tests import seeing_texts
from tests.seeing_texts import SEEING, rendered

NAME = "labels_class_selectivity"
# of each class the picture's colour: of `ember` red and some blue, so that blue answers 255 `sky` and 85 `ember`
CLASSES = {"ember": (255, 0, 85), "meadow": (0, 255, 0), "sky": (0, 0, 255)}


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    seeing_texts.install(tmp_path, monkeypatch)
    for name, colour in CLASSES.items():
        (tmp_path / "classes" / name).mkdir(parents=True)
        pixels = np.full((8, 8, 3), colour, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "classes" / name / "0.png")
    return tmp_path / "classes"


def recipes(pictures: Path, **changes: Any) -> dict[str, Any]:
    responses = lens("responses").recipe("draft").with_pictures(str(pictures))
    return {"responses": responses, NAME: changed(lens(NAME).recipe("draft"), {"least_pictures": 1, **changes})}


def rows(root: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(root.glob(f"{NAME}/*/*.parquet")) for row in read_shard(path).to_pylist()]


def test_unit_is_labelled_with_its_class_and_how_selective_it_is(pictures: Path, tmp_path: Path) -> None:
    """Blue answers sky with 1, ember with 1/3 and meadow with 0: (1 - 1/6) / (1 + 1/6) = 5/7. The fourth is dead."""
    rendered(tmp_path / "a", {"colours": range(4)}, recipes(pictures))
    found = rows(tmp_path / "a")
    assert [(row["unit"], row["label"], row["score"]) for row in found] == [
        (0, "ember", 1.0),
        (1, "meadow", 1.0),
        (2, "sky", pytest.approx(5 / 7)),
    ]
    assert {(row["method"], row["license"], row["rank"], row["embedding"]) for row in found} == {
        ("class_selectivity", "CC-BY-4.0", 0, None)
    }
    made = lens("responses").recipe("draft").with_pictures(str(pictures))
    assert {row["source_sha256"] for row in found} == {made.labels}
    assert all(made.revision in row["source"] and "Morcos" in row["measure"] for row in found)


def test_unit_that_is_not_selective_enough_has_no_label(pictures: Path, tmp_path: Path) -> None:
    rendered(tmp_path / "a", {"colours": range(4)}, recipes(pictures, least=0.8))
    assert [row["unit"] for row in rows(tmp_path / "a")] == [0, 1]
    assert list(check(Folder(tmp_path / "a"))) == []


def test_class_of_too_few_pictures_is_no_label(pictures: Path, tmp_path: Path) -> None:
    rendered(tmp_path / "a", {"colours": range(4)}, recipes(pictures, least_pictures=2))
    assert rows(tmp_path / "a") == []


def test_rows_are_made_again_as_they_were(pictures: Path, tmp_path: Path) -> None:
    rendered(tmp_path / "a", {"colours": range(4)}, recipes(pictures))
    assert list(check(Folder(tmp_path / "a"))) == []
    notes, again = reproduce.reproduce(
        Folder(tmp_path / "a"), Key(SEEING.name, "colours", 2), NAME, torch.device("cpu")
    )
    assert notes == []
    assert [(each.score, each.numbers, each.mismatched) for each in again] == [(0.0, 0.0, ())]


def test_pictures_without_classes_are_refused_in_a_sentence(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(RenderFailed, match="whose classes nobody knows; render them on pictures in a folder for each"):
        rendered(tmp_path / "a", {"colours": range(1)}, recipes(seeing_texts.photos(tmp_path)))
    assert rows(tmp_path / "a") == []
