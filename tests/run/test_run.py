import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import UNFINISHED, Folder
from microscope_atlas.atlas.manifest import read_manifest, write_manifest
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.errors import AtlasDamaged, AtlasUnwritable, InvalidSetting, RenderFailed, SettingsDiffer
from microscope_atlas.lenses.feature_visualization import FeatureVisualization, Recipe
from microscope_atlas.lenses.lens import Row, Subject
from microscope_atlas.lenses.responses import Responses
from microscope_atlas.models.catalog import organism
from microscope_atlas.publish.check import check
from microscope_atlas.rendering import objectives
from microscope_atlas.run import run
from microscope_atlas.run.engines.engine import Event
from microscope_atlas.run.plan import Job
from microscope_atlas.run.run import Outcome
from tests.atlases import HERE, IMAGES, LAYER, LENS, MODEL, RECIPE, content, quick, render, request, rows, shards

FIRST = f"{LENS}/{MODEL}/{LAYER}.00000-00002.parquet"
LAST = f"{LENS}/{MODEL}/{LAYER}.00002-00003.parquet"


def times(root: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in shards(root)}


def test_second_run_makes_nothing_and_leaves_every_file(atlas: Path) -> None:
    before, touched = content(atlas), times(atlas)
    assert render(atlas) == Outcome(present=3 * IMAGES, made=0)
    assert (content(atlas), times(atlas)) == (before, touched)


def test_units_asked_for_later_are_the_only_ones_made(atlas: Path) -> None:
    touched = times(atlas)
    assert render(atlas, range(1, 5)) == Outcome(present=3 * IMAGES, made=2 * IMAGES)
    assert times(atlas).items() > touched.items()
    assert [row["unit"] for row in rows(atlas)] == [unit for unit in range(5) for _ in range(IMAGES)]


def test_plan_grows_with_what_is_asked(atlas: Path) -> None:
    render(atlas, range(1, 5))
    (planned,) = read_manifest(Folder(atlas)).planned
    assert (planned.start, planned.stop) == (0, 5)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(3)), per_shard=st.integers(1, 3))
def test_rows_are_the_same_in_any_slicing_and_any_order(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, order: Sequence[int], per_shard: int
) -> None:
    root = tmp_path_factory.mktemp("sliced")
    render(root, range(order[0], order[0] + 1))
    render(root, range(order[1], order[1] + 1))
    render(root, per_shard=per_shard)
    assert rows(root) == rows(whole)


@pytest.mark.parametrize(
    ("recipe", "named"),
    [
        (replace(RECIPE, ascent=replace(RECIPE.ascent, steps=3)), "ascent.steps is 2 in the atlas, 3 asked"),
        (replace(RECIPE, max_size=40), "max_size is 32 in the atlas, 40 asked"),
    ],
)
def test_other_settings_are_refused_by_name(atlas: Path, recipe: Recipe, named: str) -> None:
    before = content(atlas)
    with pytest.raises(SettingsDiffer, match=named):
        render(atlas, range(5), recipe)
    assert content(atlas) == before


def test_derived_lens_of_another_version_is_refused(atlas: Path) -> None:
    manifest = read_manifest(Folder(atlas))
    manifest.lenses["units"] = {"thumbnail": 48, "rounded": True}
    manifest.planned.append(replace(manifest.planned[0], lens="units"))
    write_manifest(Folder(atlas), manifest)
    with pytest.raises(SettingsDiffer, match=r"units was made by another version, .* there is no rounded"):
        render(atlas)


def test_other_weights_are_refused(atlas: Path) -> None:
    before = content(atlas)
    with pytest.raises(SettingsDiffer, match=f"{MODEL}: weights_sha256 is "):
        render(atlas, kind="random")
    assert content(atlas) == before


def test_lost_shard_is_made_again(atlas: Path) -> None:
    before = content(atlas)
    (atlas / LAST).unlink()
    assert render(atlas).made == IMAGES
    assert content(atlas) == before


@pytest.mark.parametrize("per_shard", [1, 2])
def test_shortened_shard_is_made_again(atlas: Path, per_shard: int) -> None:
    before = rows(atlas)
    os.truncate(atlas / FIRST, 5000)
    assert render(atlas, per_shard=per_shard).made == 2 * IMAGES
    assert rows(atlas) == before  # and so no piece of the shortened one is left


def test_shard_finished_but_not_noted_is_taken_in(atlas: Path) -> None:
    before, touched = content(atlas), times(atlas)
    manifest = read_manifest(Folder(atlas))
    del manifest.shards[FIRST]
    write_manifest(Folder(atlas), manifest)
    assert render(atlas).made == 0
    assert (content(atlas), times(atlas)) == (before, touched)


def test_shard_under_another_name_is_not_taken_in(atlas: Path) -> None:
    before = content(atlas)
    (atlas / FIRST).rename(atlas / FIRST.replace(LAYER, "head"))
    assert render(atlas).made == 2 * IMAGES
    assert before.items() <= content(atlas).items()


def test_shard_of_other_settings_is_not_taken_in(atlas: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    render(other, recipe=replace(RECIPE, max_size=40))
    before = content(atlas)
    (other / LAST).replace(atlas / LAST)
    manifest = read_manifest(Folder(atlas))
    del manifest.shards[LAST]
    write_manifest(Folder(atlas), manifest)
    assert render(atlas).made == IMAGES
    assert content(atlas) == before


def test_shards_without_a_manifest_are_refused(atlas: Path) -> None:
    (atlas / schema.MANIFEST).unlink()
    before = content(atlas)
    with pytest.raises(AtlasDamaged, match=r"holds shards but no atlas\.json"):
        render(atlas)
    assert content(atlas) == before


@dataclass(frozen=True)
class Untidy:
    """An engine one of whose workers was killed while it wrote."""

    def run(self, jobs: Sequence[Job], storage: Folder) -> Iterator[Event]:
        yield from HERE.run(jobs, storage)
        (storage.root / FIRST).with_suffix(UNFINISHED).touch()


def test_nothing_is_left_of_what_a_worker_did_not_finish(whole: Path, tmp_path: Path) -> None:
    render(tmp_path, engine=Untidy())
    assert content(tmp_path) == content(whole)


def test_shard_that_fails_fails_alone(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = FeatureVisualization.rows

    def failing(self: FeatureVisualization, subject: Subject, units: range, recipe: Recipe) -> Iterator[list[Row]]:
        for some in right(self, subject, units, recipe):
            yield some
            if 1 in units:
                raise ValueError("no light")

    with monkeypatch.context() as patch:
        patch.setattr(FeatureVisualization, "rows", failing)
        with pytest.raises(RenderFailed) as caught:
            render(tmp_path, per_shard=1)
    assert "1 of the shards failed" in str(caught.value)
    assert f"{LENS} of {MODEL}/{LAYER} 1:2: ValueError: no light" in str(caught.value)
    assert [row["unit"] for row in rows(tmp_path)] == [0] * IMAGES + [2] * IMAGES
    assert render(tmp_path, per_shard=1) == Outcome(present=2 * IMAGES, made=IMAGES)
    assert rows(tmp_path) == rows(whole)


@pytest.mark.parametrize("step", range(RECIPE.ascent.steps))
def test_nan_in_the_middle_becomes_a_flagged_row_without_a_picture_and_leaves_the_others(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    right, called = objectives.Channel.__call__, []

    def poisoned(self: objectives.Channel, acts: torch.Tensor) -> torch.Tensor:
        called.append(self)
        now = sum(one is self for one in called) == step + 1
        return torch.where((self.units == 1) & now, math.nan, 1.0) * right(self, acts)

    monkeypatch.setattr(objectives.Channel, "__call__", poisoned)
    render(tmp_path)

    def poor(row: Row) -> bool:
        return bool(row["unit"] == 1 and row["objective"] == "channel")

    assert [(row["image"], row["score"], row["flag"]) for row in rows(tmp_path) if poor(row)] == [
        (None, None, "nan")
    ] * 2
    assert [row for row in rows(tmp_path) if not poor(row)] == [row for row in rows(whole) if not poor(row)]


def test_card_keeps_what_its_owner_wrote(atlas: Path) -> None:
    card = atlas / schema.CARD
    with card.open("a") as added:
        added.write("## Notes\n")
    assert list(check(Folder(atlas))) == []
    render(atlas, range(4))
    assert card.read_text().endswith("\n## Notes\n")
    assert list(check(Folder(atlas))) == []
    assert not (atlas / "README.edited.md").exists()


def test_card_that_was_edited_above_the_line_is_kept_beside_the_new_one(atlas: Path) -> None:
    card = atlas / schema.CARD
    edited = card.read_text().replace("# Microscope Atlas", "# My atlas", 1) + "## Notes\n"
    card.write_text(edited)
    assert list(check(Folder(atlas))) == [
        f"{schema.CARD}: does not agree with the data; running render again writes it"
    ]
    render(atlas)
    assert (atlas / "README.edited.md").read_text() == edited
    assert "# My atlas" not in card.read_text() and card.read_text().endswith("\n## Notes\n")
    assert list(check(Folder(atlas))) == []


@pytest.mark.parametrize("place", [FIRST, schema.MANIFEST, schema.CARD])
def test_folder_in_a_files_place_is_named(atlas: Path, place: str) -> None:
    render(atlas)
    (atlas / place).unlink()
    (atlas / place).mkdir()
    with pytest.raises(
        (AtlasUnwritable, AtlasDamaged), match=re.escape(place if place != schema.MANIFEST else "holds shards but no")
    ):
        render(atlas)
    (atlas / place).rmdir()


def test_file_in_a_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / LENS).touch()
    with pytest.raises(AtlasUnwritable, match=LENS):
        render(tmp_path)


def test_layers_that_would_be_one_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Folder, "folds_case", lambda self: True)
    render(tmp_path / "one")
    manifest = read_manifest(Folder(tmp_path / "one"))
    manifest.planned.append(replace(manifest.planned[0], layer=LAYER.upper()))
    write_manifest(Folder(tmp_path / "one"), manifest)
    with pytest.raises(InvalidSetting, match=f"takes {MODEL}/STEM and {MODEL}/stem for one name"):
        render(tmp_path / "one")


def test_folder_knows_whether_its_disk_tells_case_apart(tmp_path: Path) -> None:
    with Folder(tmp_path).lock():
        assert Folder(tmp_path).folds_case() == (tmp_path / ".Lock").exists()
        (tmp_path / ".LOCK").touch()
        assert Folder(tmp_path).folds_case()


def test_progress_is_told_of_every_lens_as_its_rows_come(tmp_path: Path) -> None:
    told: list[tuple[str, Fraction, int]] = []

    def listen(progress: run.Progress) -> None:
        told.append((progress.lens, progress.done, progress.todo))

    sevenths = replace(RECIPE, variants=3, batch=1)  # of a unit, which add up to less than 1 in floating point
    run.render(Folder(tmp_path), [request({LAYER: range(3)})], {LENS: sevenths}, HERE, 2, listen)
    assert (told[0], told[-1]) == ((LENS, 0, 3), (LENS, 3, 3))
    assert told == sorted(told)
    assert len(told) > 3


def test_what_is_left_of_a_shared_pass_is_made_in_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[list[str]] = []
    right = Responses.gather

    def noting(self: Responses, subjects: list[Subject], recipe: Any) -> Iterator[Any]:
        passes.append([subject.layer.name for subject in subjects])
        yield from right(self, subjects, recipe)

    monkeypatch.setattr(Responses, "gather", noting)
    model = "own:tests.models.own_networks.small"
    layers = {name: range(layer.units) for name, layer in organism(model).layers.items()}
    asked = [request(layers, model=model)]

    def again() -> Outcome:
        return run.render(Folder(tmp_path), asked, {"responses": quick("responses")}, HERE, 2, lambda *_: None)

    again()
    before = content(tmp_path)
    lost = list(layers)[1:3]
    for layer in lost:
        (tmp_path / UnitRange("responses", model, layer, 0, len(layers[layer])).path).unlink()
    assert again().made == sum(len(layers[layer]) for layer in lost)
    assert passes == [list(layers), lost]
    assert content(tmp_path) == before


def test_every_row_says_how_it_was_made(whole: Path) -> None:
    model = read_manifest(Folder(whole)).models[MODEL]
    for row in rows(whole):
        assert json.loads(row["recipe"])["ascent"]["steps"] == RECIPE.ascent.steps
        assert row["weights_sha256"] == model["weights_sha256"]
        assert f"torch {torch.__version__}" in row["software"]
        assert row["device"] == "cpu"
    assert len({row["seed"] for row in rows(whole)}) == 3 * IMAGES
