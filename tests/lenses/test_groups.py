import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.errors import InvalidSetting, LensFailed, PicturesFailed, RenderFailed
from microscope_atlas.lenses.activation_sample import Sample
from microscope_atlas.lenses.groups import Groups, Recipe, grouped
from microscope_atlas.lenses.recipe import changed
from microscope_atlas.lenses.registry import UNASKED
from microscope_atlas.publish.check import check
from microscope_atlas.run import run
from tests.atlases import HERE, quick, request
from tests.lenses.test_activation_sample import subject

NAME = "groups"

# two parts that share no unit: along (3, 4) of length 5, 10, 15 and 5, along the last of length 9 and 7
VECTORS = torch.tensor([[3.0, 4.0, 0.0], [6.0, 8.0, 0.0], [9.0, 12.0, 0.0], [0.0, 0.0, 9.0], [3.0, 4.0, 7.0]])
FIRST, LAST = 25 + 100 + 225 + 25, 81 + 49
WHOLE = FIRST + LAST


@pytest.fixture
def sample() -> Iterator[Sample]:
    """Five vectors of three pictures."""
    with Sample((2, 2)) as made:
        for picture, at in enumerate([[0, 1], [2, 3], [4]]):
            made.add(picture, torch.tensor(at) % 4, VECTORS[at])
        yield made


def test_groups_are_the_parts_with_their_shares_and_their_strongest_places(sample: Sample) -> None:
    found = grouped(subject(), sample, 2, 16, None)
    assert torch.allclose(found.directions, torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]), atol=1e-3)
    assert found.shares == pytest.approx([FIRST / WHOLE, LAST / WHOLE], abs=1e-4)
    assert sum(found.shares) == pytest.approx(found.explained, abs=1e-5)
    assert (found.explained, found.rectified) == (pytest.approx(1, abs=1e-5), 1)
    # of each picture one place, the strongest first; none that has nothing of the group
    assert [[number for number, _ in each] for each in found.samples] == [[2, 1, 4], [3, 4]]
    assert [weight for _, weight in found.samples[0]] == pytest.approx([15, 10, 5], abs=0.02)


def test_crops_of_a_photo_count_as_one(sample: Sample) -> None:
    found = grouped(subject(), sample, 1, 16, ("a", "a", "b"))
    assert [number for number, _ in found.samples[0]] == [2, 4]


def test_too_few_groups_leave_what_singular_values_leave(sample: Sample) -> None:
    values = torch.linalg.svdvals(VECTORS.double()).square()
    found = grouped(subject(), sample, 1, 16, None)
    assert found.explained == pytest.approx(float(values[0] / values.sum()), abs=1e-5)
    assert found.shares == pytest.approx([found.explained], abs=1e-5)


def test_what_is_below_zero_counts_as_zero_and_its_part_is_told(sample: Sample) -> None:
    with Sample((2, 2)) as signed:
        signed.add(0, torch.arange(3), torch.tensor([[3.0, -4.0], [0.0, 1.0], [-1.0, -3.0]]))
        found = grouped(subject(), signed, 2, 16, None)
    assert found.directions.tolist() == [[1, 0], [0, 1]]
    assert found.rectified == pytest.approx((9 + 1) / (9 + 1 + 16 + 1 + 9))
    assert found.explained == pytest.approx(1)


def test_vectors_that_were_not_taken_apart_are_made_up_as_well(sample: Sample) -> None:
    found = grouped(subject(), sample, 1, 1, None)  # of the first alone
    assert found.directions.tolist() == [[pytest.approx(0.6), pytest.approx(0.8), 0]]
    assert found.explained == pytest.approx(FIRST / WHOLE)
    assert [number for number, _ in found.samples[0]] == [2, 1, 4]


def test_layer_that_is_never_above_zero_is_told() -> None:
    with Sample((2, 2)) as below:
        below.add(0, torch.arange(2), -torch.ones(2, 3))
        with pytest.raises(LensFailed, match="no activation of toy/mixed is above zero"):
            grouped(subject(), below, 1, 16, None)


def test_group_that_nothing_is_left_for_is_empty() -> None:
    with Sample((1, 1)) as alike:
        alike.add(0, torch.zeros(4, dtype=torch.int64), torch.tensor([[0.0, 2.0, 0.0, 0.0, 0.0]] * 4))
        found = grouped(subject(), alike, 3, 16, None)
    assert found.directions.tolist() == [[0, 1, 0, 0, 0], [0] * 5, [0] * 5]
    assert found.shares == pytest.approx([1, 0, 0])
    assert found.samples[1:] == [[], []]


def rendered(folder: Path, recipe: Recipe | None = None, layer: str = "stem") -> run.Outcome:
    recipes = {NAME: recipe or quick(NAME)}
    return run.render(Folder(folder), [request({layer: range(1)})], recipes, HERE, 2, lambda *_: None)


def stored(folder: Path) -> list[dict[str, Any]]:
    (path,) = folder.rglob("stem.*.parquet")
    return read_shard(path).to_pylist()


def test_it_is_rendered_where_it_is_named_alone() -> None:
    assert NAME not in UNASKED


def test_too_few_pictures_are_told_before_anything_is_rendered(tmp_path: Path) -> None:
    with pytest.raises(PicturesFailed, match="folder has 12 pictures, expected 13 or more for groups"):
        rendered(tmp_path / "atlas", replace(quick(NAME), min_pictures=13))
    assert not (tmp_path / "atlas").exists()


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        (
            "min_vectors",
            97,
            r"gives 96 activations of efficientnet_lite0/stem.*, expected 97 .*look at more, --set groups.num_",
        ),
        ("groups", 33, "efficientnet_lite0/stem has 32 units, 33 groups take 33 to 8192; ask for fewer"),
    ],
)
def test_what_cannot_be_grouped_is_told_and_nothing_is_stored(
    tmp_path: Path, setting: str, value: int, told: str
) -> None:
    with pytest.raises(RenderFailed, match=told):
        rendered(tmp_path / "atlas", changed(quick(NAME), {setting: value}))
    assert not list((tmp_path / "atlas").rglob("*.parquet"))


def test_more_groups_than_activations_to_find_them_in_are_refused(tmp_path: Path) -> None:
    """Else what takes them apart would fail with words of its own."""
    with pytest.raises(
        LensFailed, match=r"takes 16 activations apart and asks for 20 groups.*--set groups\.factorised"
    ):
        rendered(tmp_path / "atlas", changed(quick(NAME), {"groups": 20, "factorised": 16}))
    assert not (tmp_path / "atlas").exists()


def test_layer_without_places_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LensFailed, match="looks at layers whose units are on a map; efficientnet_lite0/logits is none"):
        rendered(tmp_path / "atlas", layer="logits")
    assert not (tmp_path / "atlas").exists()


def test_setting_that_cannot_be_is_told_with_what_may_be() -> None:
    with pytest.raises(InvalidSetting, match="groups is 0, expected a whole number, 1 to 128"):
        changed(Groups().quick(), {"groups": 0})


def test_row_says_what_the_group_is_made_of_and_where_it_is_seen(tmp_path: Path) -> None:
    rendered(tmp_path, replace(quick(NAME), crops=False))
    rows = stored(tmp_path)
    assert [row["group"] for row in rows] == [0, 1]
    assert sum(row["share"] for row in rows) == pytest.approx(rows[0]["explained"], abs=1e-4)
    assert rows[0]["share"] >= rows[1]["share"]
    for row in rows:
        assert row["photos"] is None  # as crops are not wanted
        direction = torch.tensor(row["direction"])
        assert len(direction) == 32
        assert direction.min() >= 0
        assert float(direction.norm()) == pytest.approx(1, abs=1e-6)
        strongest = [(each["unit"], each["weight"]) for each in row["strongest"]]
        values, order = direction.sort(descending=True, stable=True)
        kept = [(unit, weight) for unit, weight in zip(order.tolist(), values.tolist(), strict=True) if weight > 0]
        assert strongest == kept[:10]
        weights = [each["weight"] for each in row["samples"]]
        assert weights == sorted(weights, reverse=True)
        assert len({each["picture"] for each in row["samples"]}) == len(weights)
        assert json.loads(row["recipe"])["groups"] == 2
    assert not list(check(Folder(tmp_path)))
