"""Memory that is too short: a shard is made with a smaller batch, and its rows say so."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest, write_manifest
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.errors import RenderFailed
from microscope_atlas.keys import parse_key
from microscope_atlas.lenses.connections import Recipe as OtherRecipe
from microscope_atlas.lenses.feature_visualization import FeatureVisualization, Recipe
from microscope_atlas.lenses.lens import Row, Subject
from microscope_atlas.lenses.units import Recipe as WithoutBatch
from microscope_atlas.publish.check import check
from microscope_atlas.run import memory, run
from microscope_atlas.run.reproduce import reproduce
from tests.atlases import HERE, IMAGES, LAYER, LENS, MODEL, RECIPE, render, replace_rows, request, rows, shards
from tests.commands import Commands, Result

CPU = torch.device("cpu")
KEY = parse_key(f"{MODEL}/{LAYER}/1")


def batches(root: Path) -> list[int]:
    """That the rows say they were made in, each once."""
    return sorted({json.loads(row["recipe"])["batch"] for row in rows(root)})


def but_for_batch(root: Path) -> list[Row]:
    return [{**row, "recipe": {**json.loads(row["recipe"]), "batch": None}} for row in rows(root)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Batches that the lens was asked for, in their order."""
    return _short_of_memory(monkeypatch, RECIPE.batch, torch.OutOfMemoryError("never"))


def _short_of_memory(monkeypatch: pytest.MonkeyPatch, fits: int, error: Exception) -> list[int]:
    right, asked = FeatureVisualization.rows, []

    def short(self: FeatureVisualization, subject: Subject, units: range, recipe: Recipe) -> Iterator[list[Row]]:
        asked.append(recipe.batch)
        for some in right(self, subject, units, recipe):
            yield some
            if recipe.batch > fits:
                raise error

    monkeypatch.setattr(FeatureVisualization, "rows", short)
    return asked


def render_with(root: Path, batch: int | None) -> list[run.Progress]:
    told: list[run.Progress] = []
    asked = [request({LAYER: range(3)})]
    run.render(Folder(root), asked, {LENS: RECIPE}, HERE, 3, lambda progress: told.append(replace(progress)), batch)
    return told


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        MemoryError(),
    ],
    ids=["accelerator", "torch on a CPU", "mps", "Python"],
)
def test_batch_is_halved_until_it_fits_and_rows_say_so(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    asked = _short_of_memory(monkeypatch, 4, error)
    told = render_with(tmp_path, None)
    assert asked == [16, 8, 4]
    assert (batches(tmp_path), but_for_batch(tmp_path)) == ([4], but_for_batch(whole))
    assert (told[-1].done, told[-1].batch) == (3, 4)
    assert read_manifest(Folder(tmp_path)).lenses[LENS]["batch"] == 16
    assert list(check(Folder(tmp_path))) == []


def test_shard_of_a_smaller_batch_is_the_one_that_was_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _short_of_memory(monkeypatch, 4, MemoryError())
    render_with(tmp_path, None)
    asked.clear()
    render_with(tmp_path, None)
    assert asked == []
    manifest = read_manifest(Folder(tmp_path))
    manifest.shards.clear()
    write_manifest(Folder(tmp_path), manifest)  # as if killed before it was noted
    render_with(tmp_path, None)
    assert asked == []


def test_smaller_batch_can_be_asked_for_of_an_atlas_that_is_there(atlas: Path, whole: Path, asked: list[int]) -> None:
    before = but_for_batch(whole)
    shards(atlas)[0].unlink()
    render_with(atlas, 8)
    assert (asked, batches(atlas), but_for_batch(atlas)) == ([8], [8, 16], before)
    assert list(check(Folder(atlas))) == []


def test_larger_batch_than_the_recipes_is_not_taken(tmp_path: Path, asked: list[int]) -> None:
    render_with(tmp_path, 1000)
    assert (asked, batches(tmp_path)) == ([16], [16])


def test_row_is_made_again_with_its_own_batch(tmp_path: Path, asked: list[int]) -> None:
    render_with(tmp_path, 8)
    asked.clear()
    notes, remade = reproduce(Folder(tmp_path), KEY, LENS, CPU)
    assert [row.close for row in remade] == [True] * IMAGES
    assert (asked, notes) == ([8], [])


@pytest.mark.parametrize("batch", [0, 17, 8.5, "8", None])
def test_row_with_a_batch_that_never_was_is_told(atlas: Path, batch: Any) -> None:
    path = shards(atlas)[0].relative_to(atlas).as_posix()
    first, *others = read_shard(atlas / path).to_pylist()
    recipe = {**json.loads(first["recipe"]), "batch": batch}
    replace_rows(atlas, path, [{**first, "recipe": json.dumps(recipe)}, *others])
    (problem,) = check(Folder(atlas))
    assert "its recipe is not the atlas' own" in problem


def test_shard_that_never_fits_fails_alone_and_says_what_would_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _short_of_memory(monkeypatch, 0, MemoryError("of this machine"))
    with pytest.raises(RenderFailed) as caught:
        render(tmp_path, range(1))
    assert asked == [16, 8, 4, 2]
    told = "no memory left on cpu for a batch of 2, below which --batch does not help: fewer --workers leave more"
    assert f"{LENS} of {MODEL}/{LAYER} 0:1: OutOfMemory: {told}" in str(caught.value)


def test_other_errors_are_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _short_of_memory(monkeypatch, 0, RuntimeError("shapes do not match"))
    with pytest.raises(RenderFailed, match="RuntimeError: shapes do not match"):
        render(tmp_path, range(1))
    assert asked == [16]


@pytest.mark.parametrize(
    ("device", "batch", "next"), [("cpu", 3, 2), ("cpu", 2, None), ("cuda", 2, 1), ("cuda", 1, None)]
)
def test_least_batch(device: str, batch: int, next: int | None) -> None:
    assert memory.halved_batch(OtherRecipe(batch=batch), torch.device(device)) == next


def test_recipe_without_a_batch_is_left_as_it_is() -> None:
    recipe = WithoutBatch()
    assert memory.capped(recipe, 2) is recipe
    assert memory.halved_batch(recipe, CPU) is None


# With a real limit: sixteen pictures of 224 px do not fit into it, two do
PRECISE = "--quality standard --precision float32 --workers 1 --device cpu"
LARGE = f"--model {MODEL} --layer blocks_6 --units 0:16 {PRECISE}".split()


def limited(commands: Commands, root: Path, limit: int) -> Result:
    return commands.wait(commands.start("render", root, "--lens", LENS, *LARGE, memory_limit=limit))


@pytest.mark.long
def test_process_with_little_memory_goes_on_with_a_smaller_batch(commands: Commands, tmp_path: Path) -> None:
    free = tmp_path / "free"
    # what is left to the smaller batch depends on where the allocator has put what the larger one had got
    for megabytes in (250, 220, 280, 310, 340, 370):
        short = tmp_path / str(megabytes)
        ended = limited(commands, short, megabytes * 2**20)
        assert "Traceback" not in ended.err
        if ended.status == 0 and batches(short) != [16]:
            break
    assert ended.status == 0, ended.err
    (batch,) = batches(short)
    assert 2 <= batch < 16
    assert f"{LENS}: no memory left; going on with a batch of {batch}, which its rows say" in ended.err
    assert commands("render", free, "--lens", LENS, *LARGE).status == 0
    assert (batches(free), but_for_batch(free)) == ([16], but_for_batch(short))
    assert commands("check", short).status == 0
