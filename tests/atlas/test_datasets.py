"""The analyst's way in: the real `datasets` library reads an atlas by its name, without a network."""

import json
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from datasets import Dataset, DatasetDict, load_dataset

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest
from microscope_atlas.atlas.schema import CARD
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.publish.card import render_card
from microscope_atlas.rendering import objectives
from microscope_atlas.run import run
from tests.atlases import HERE, IMAGES, LAYER, LENS, MODEL, RECIPE, render, replace_rows, request, rows, shards

SECOND = "alexnet"


@pytest.fixture(scope="module")
def two_models(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The atlas with more of its first model, and some of a second."""
    root = Path(shutil.copytree(whole, tmp_path_factory.mktemp("two") / "microscope-atlas"))
    requests = [
        request({"blocks_1": range(2)}),
        run.RenderRequest(organism(SECOND), weights.load(organism(SECOND), "random"), "random", {"conv1": range(2)}),
    ]
    run.render(Folder(root), requests, {LENS: RECIPE}, HERE, 1, lambda *_: None)
    return root


@pytest.fixture
def load(two_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """load_dataset("microscope-atlas", ...) from the folder that holds the atlas."""

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a local atlas needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(two_models.parent)
    return partial(load_dataset, two_models.name, cache_dir=str(tmp_path))


def units(dataset: Dataset) -> list[int]:
    return sorted({int(unit) for unit in dataset["unit"]})


def test_default_config_has_a_split_for_each_model(load: Callable[..., Any]) -> None:
    loaded = load()
    assert isinstance(loaded, DatasetDict)
    assert {split: len(dataset) for split, dataset in loaded.items()} == {MODEL: 5 * IMAGES, SECOND: 2 * IMAGES}
    for split, dataset in loaded.items():
        assert set(dataset["model"]) == {split}


def test_config_is_named_after_its_lens(load: Callable[..., Any]) -> None:
    assert load(LENS)[MODEL].to_dict() == load()[MODEL].to_dict()


def test_rows_are_those_of_the_shards(load: Callable[..., Any], two_models: Path) -> None:
    loaded = load(split=SECOND).remove_columns("image")
    written = [row for row in rows(two_models) if row["model"] == SECOND]
    assert loaded.to_list() == [{name: value for name, value in row.items() if name != "image"} for row in written]


def test_images_decode_to_rgb(load: Callable[..., Any]) -> None:
    for row in load(split=MODEL):
        assert (row["image"].mode, row["image"].size) == ("RGB", (32, 32))


def test_filters_choose_layer_and_units(load: Callable[..., Any]) -> None:
    some = load(split=MODEL, filters=[("layer", "==", LAYER), ("unit", "<", 2)])
    assert len(some) == 2 * IMAGES
    assert (set(some["layer"]), units(some)) == ({LAYER}, [0, 1])


def test_columns_are_those_asked_for(load: Callable[..., Any]) -> None:
    assert load(split=MODEL, columns=["unit", "score"]).column_names == ["unit", "score"]


def test_streaming_gives_the_same_rows(load: Callable[..., Any]) -> None:
    streamed = load(split=MODEL, streaming=True)
    assert [{**row, "image": row["image"].tobytes()} for row in streamed] == [
        {**row, "image": row["image"].tobytes()} for row in load(split=MODEL)
    ]


def test_torch_format_gives_image_tensors(load: Callable[..., Any]) -> None:
    batch = load(split=MODEL).with_format("torch")[:3]
    assert batch["image"].shape == (3, 3, 32, 32)
    assert batch["image"].dtype == torch.uint8
    assert batch["score"].dtype == torch.float32


def test_one_model_is_loaded_by_its_files(load: Callable[..., Any]) -> None:
    loaded = load(LENS, data_files={"m": f"{LENS}/{SECOND}/*.parquet"})
    assert list(loaded) == ["m"]
    assert set(loaded["m"]["model"]) == {SECOND}


def test_recipe_is_json(load: Callable[..., Any]) -> None:
    assert json.loads(load(split=MODEL)[0]["recipe"])["ascent"]["steps"] == RECIPE.ascent.steps


def test_row_without_an_image_loads_as_none(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objectives.Neuron, "__call__", lambda self, acts: acts.flatten(1).sum(1) * torch.nan)
    render(tmp_path / "microscope-atlas")
    assert len(shards(tmp_path / "microscope-atlas")) == len(shards(whole))
    loaded = load_dataset(str(tmp_path / "microscope-atlas"), split=MODEL, cache_dir=str(tmp_path / "cache"))
    failed = loaded.filter(lambda flag: flag == "nan", input_columns="flag")
    assert set(failed["objective"]) == {"neuron"}
    assert [row["image"] for row in failed] == [None] * len(failed)


def loaded(root: Path, cache: Path) -> list[tuple[int, float]]:
    """Unit and score of each row, as an analyst in a process of their own would have them, their cache kept."""
    rows = load_dataset(str(root), LENS, split=MODEL, cache_dir=str(cache))
    return list(zip(rows["unit"], rows["score"], strict=True))


def stored(root: Path) -> list[tuple[int, float]]:
    return [(row["unit"], row["score"]) for row in rows(root)]


def test_atlas_that_has_grown_loads_with_its_new_rows(atlas: Path, tmp_path: Path) -> None:
    assert loaded(atlas, tmp_path / "cache") == stored(atlas)
    render(atlas, range(4))
    assert len(stored(atlas)) == 4 * IMAGES
    assert loaded(atlas, tmp_path / "cache") == stored(atlas)


def test_another_atlas_of_the_same_name_loads_its_own_rows(whole: Path, tmp_path: Path) -> None:
    """Every default atlas is called microscope-atlas, wherever it is."""
    other = tmp_path / "elsewhere" / whole.name
    render(other, range(3), recipe=replace(RECIPE, ascent=replace(RECIPE.ascent, steps=1)))
    assert [unit for unit, _ in stored(other)] == [unit for unit, _ in stored(whole)]
    assert loaded(whole, tmp_path / "cache") == stored(whole)
    assert loaded(other, tmp_path / "cache") == stored(other) != stored(whole)


def test_rows_that_were_replaced_by_others_of_the_same_size_are_loaded(atlas: Path, tmp_path: Path) -> None:
    assert loaded(atlas, tmp_path / "cache") == stored(atlas)
    manifest = read_manifest(Folder(atlas))
    path, before = next(iter(manifest.shards.items()))
    changed = [{**row, "score": 2 * row["score"]} for row in read_shard(atlas / path).to_pylist()]
    replace_rows(atlas, path, changed)
    assert read_manifest(Folder(atlas)).shards[path].bytes == before.bytes
    manifest = read_manifest(Folder(atlas))
    (atlas / CARD).write_text(render_card(manifest))
    assert loaded(atlas, tmp_path / "cache") == stored(atlas)


def test_same_atlas_is_cached_once_wherever_it_is(whole: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(whole, tmp_path / "moved" / whole.name))
    assert loaded(whole, tmp_path / "cache") == loaded(moved, tmp_path / "cache")
    assert len(list((tmp_path / "cache").rglob("dataset_info.json"))) == 1
