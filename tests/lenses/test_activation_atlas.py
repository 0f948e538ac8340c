from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.errors import ExtraMissing, InvalidSetting, LensFailed, PicturesFailed, RenderFailed
from microscope_atlas.lenses.activation_atlas import ActivationAtlas, Recipe
from microscope_atlas.lenses.activation_cells import cells_of
from microscope_atlas.lenses.activation_sample import Sample, Spilled
from microscope_atlas.lenses.layout import Map
from microscope_atlas.lenses.recipe import changed
from microscope_atlas.lenses.registry import UNASKED
from microscope_atlas.publish.check import check
from microscope_atlas.run import run
from tests.atlases import HERE, quick, request

NAME = "activation_atlas"
VECTORS = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, 6.0], [2.0, 2.0]])
PLACES = torch.tensor([[0.1, 0.1], [0.4, 0.2], [0.9, 0.1], [0.9, 0.4], [0.6, 0.1], [0.2, 1.0]])  # from left, from top


@pytest.fixture
def sample() -> Sample:
    """Six vectors of four pictures."""
    made = Sample((2, 2), logits=Spilled())
    assert made.logits is not None
    for picture, at in enumerate([[0, 1], [2, 3], [4], [5]]):
        made.add(picture, torch.tensor(at) % 4, VECTORS[at])
    made.logits.append(torch.tensor([[3.0, 0.0, 1.0], [0.0, 6.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]))
    return made


def laid() -> Map:
    """Each vector where PLACES has it: the axes are the units themselves, and no two directions are the same."""
    known = torch.nn.functional.normalize(VECTORS, dim=1)
    distinct = torch.tensor([0, 2, 5])
    return Map(torch.zeros(2).double(), torch.eye(2).double(), known[distinct], PLACES[distinct])


def test_cell_has_the_mean_of_what_falls_into_it_its_classes_and_its_pictures(sample: Sample) -> None:
    with sample:
        cells = cells_of(sample, laid(), (2,), 1, 1e-6, ("a", "b", "c"), None)
    # vectors fall by direction: along x upper left, along y upper right, between them lower left
    assert [(cell.row, cell.column, cell.num_vectors) for cell in cells] == [(0, 0, 2), (0, 1, 3), (1, 0, 1)]
    assert [cell.mean.tolist() for cell in cells] == [[2, 0], [0, 3], [2, 2]]
    # logits of pictures 0, 0, 1, 1, 2, 3: on average 1, 2, 1
    logits = {leaning["name"]: leaning["logit"] for leaning in cells[0].classes}
    assert logits == pytest.approx({"a": 3 - 1, "b": 0 - 2, "c": 0})
    assert [leaning["name"] for leaning in cells[1].classes] == ["b", "c", "a"]
    # of each picture the vector that is most alike, of equals the first
    assert [cell.samples for cell in cells] == [[0], [2, 4], [5]]


def test_direction_is_the_mean_times_the_inverse_of_the_second_moments(sample: Sample) -> None:
    with sample:
        cells = cells_of(sample, laid(), (1,), 1, 0.5, None, None)
    moments = (VECTORS.T @ VECTORS / 6).double()
    ridged = moments + 0.5 * moments.diagonal().mean() * torch.eye(2)
    assert np.allclose(cells[0].direction, VECTORS.mean(0).double() @ torch.linalg.inv(ridged), atol=1e-6)
    assert cells[0].classes == []


def test_cells_with_few_vectors_are_left_out_and_crops_of_a_photo_count_as_one(sample: Sample) -> None:
    with sample:
        cells = cells_of(sample, laid(), (1, 2), 2, 0.1, None, ("p", "q", "q", "r"))
    assert [(cell.zoom, cell.row, cell.column) for cell in cells] == [(0, 0, 0), (1, 0, 0), (1, 0, 1)]
    assert cells[2].samples == [2]  # 4 is a crop of the same photo


def test_dead_units_can_be_whitened(sample: Sample) -> None:
    dead = Sample((1, 1))
    with sample, dead:
        dead.add(0, torch.zeros(6, dtype=torch.int64), torch.cat([VECTORS, torch.zeros(6, 1)], 1))
        axes = Map(torch.zeros(3).double(), torch.eye(3)[:, :2].double(), laid().known, laid().places)
        (cell,) = cells_of(dead, axes, (1,), 1, 0.1, None, None)
    assert cell.direction.isfinite().all()
    assert cell.direction[2] == 0


def rendered(folder: Path, recipe: Recipe | None = None, layer: str = "stem") -> run.Outcome:
    recipes = {NAME: recipe or quick(NAME)}
    return run.render(Folder(folder), [request({layer: range(1)})], recipes, HERE, 2, lambda *_: None)


def test_it_is_rendered_where_it_is_named_alone() -> None:
    assert NAME not in UNASKED


def test_too_few_pictures_are_told_before_anything_is_rendered(tmp_path: Path) -> None:
    with pytest.raises(PicturesFailed, match="folder has 12 pictures, expected 13 or more for activation_atlas"):
        rendered(tmp_path / "atlas", replace(quick(NAME), min_pictures=13))
    assert not (tmp_path / "atlas").exists()


def test_too_few_activations_are_told_and_nothing_is_stored(tmp_path: Path) -> None:
    told = (
        r"gives 96 activations of efficientnet_lite0/stem that have a direction \(0 more are all zero, 0 not finite\)"
    )
    with pytest.raises(RenderFailed, match=f"{told}, expected 97 or more"):
        rendered(tmp_path / "atlas", replace(quick(NAME), min_vectors=97))
    assert not list((tmp_path / "atlas").rglob("*.parquet"))


def test_layer_without_places_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LensFailed, match="looks at layers whose units are on a map; efficientnet_lite0/logits is none"):
        rendered(tmp_path / "atlas", layer="logits")
    assert not (tmp_path / "atlas").exists()


def test_missing_extra_is_told_before_anything_is_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microscope_atlas.lenses.layout.find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match=r"microscope-atlas\[maps\]"):
        rendered(tmp_path / "atlas")
    assert not (tmp_path / "atlas").exists()


def test_setting_that_cannot_be_is_told_with_what_may_be() -> None:
    with pytest.raises(InvalidSetting, match=r"fine is 0, expected a whole number, 1 to 256"):
        changed(ActivationAtlas().quick(), {"fine": 0})


def test_row_points_at_pictures_and_holds_them_only_where_crops_are_wanted(tmp_path: Path) -> None:
    from microscope_atlas.atlas.shards import read_shard

    rendered(tmp_path, replace(quick(NAME), crops=False))
    (path,) = tmp_path.rglob("stem.*.parquet")
    rows = read_shard(path).to_pylist()
    assert {row["photos"] for row in rows} == {None}
    for row in rows:
        assert 0 < len(row["samples"]) <= 9
        numbers = [sample["picture"] for sample in row["samples"]]
        assert len(set(numbers)) == len(numbers)
        assert all(0 <= number < 12 for number in numbers)
        assert [s["cosine"] for s in row["samples"]] == sorted((s["cosine"] for s in row["samples"]), reverse=True)
        assert row["num_placed"] == 96
        assert len(row["mean"]) == 32
        assert [len(row["classes"]), row["classes"][0]["name"] != ""] == [5, True]
    assert [sum(row["num_vectors"] for row in rows if row["zoom"] == zoom) for zoom in (0, 1)] == [96, 96]
    assert not list(check(Folder(tmp_path)))
