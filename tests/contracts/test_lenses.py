"""What every lens promises."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import FrozenInstanceError, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import load_dataset

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import Shard, read_manifest
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.errors import WrongLevel
from microscope_atlas.keys import Key
from microscope_atlas.lenses.lens import refuse_level
from microscope_atlas.lenses.recipe import QUALITIES, settings
from microscope_atlas.lenses.registry import LENSES, UNASKED, rounds
from microscope_atlas.publish.check import check
from microscope_atlas.rendering import ascend
from microscope_atlas.run import reproduce, run
from tests import atlases
from tests.atlases import HERE, MODEL, quick, render_every, request

NAMES = tuple(LENSES)
EVERYWHERE = (*UNASKED, "activation_atlas", "groups", "scores")  # those that look at all networks
LAYERS = {"stem": range(3), "blocks_0": range(2)}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of two layers through every lens. Nobody may write to it."""
    root = tmp_path_factory.mktemp("every") / "microscope-atlas"
    render_every(root, LAYERS, lenses=EVERYWHERE)
    return root


def shards(root: Path, name: str) -> Iterator[Shard]:
    return (shard for _, shard in sorted(read_manifest(Folder(root)).shards.items()) if shard.units.lens == name)


def rows(root: Path, name: str) -> list[dict[str, Any]]:
    return [row for shard in shards(root, name) for row in read_shard(root / shard.path).to_pylist()]


def key(name: str, row: Mapping[str, Any]) -> tuple[Any, ...]:
    return schema.table(name).sort_key(dict(row))


@pytest.mark.parametrize("name", NAMES)
def test_lens_is_named_after_its_table_which_is_about_what_it_looks_at(name: str) -> None:
    assert LENSES[name].name == name
    keys = [column.name for column in schema.table(name).keys]
    assert keys[:2] == ["model", "layer"]
    assert (keys[2:3] == ["unit"]) == (LENSES[name].level == "unit")


@pytest.mark.parametrize("name", NAMES)
def test_derived_lens_reads_lenses_above_it_and_of_earlier_rounds(name: str) -> None:
    round_of = {derived: i for i, some in enumerate(rounds(NAMES)) for derived in some}
    assert (name in round_of) == bool(LENSES[name].reads)
    for read in LENSES[name].reads:
        assert NAMES.index(read) < NAMES.index(name)
        assert round_of.get(read, -1) < round_of[name]


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("name", NAMES)
def test_recipe_is_frozen_and_comes_back_from_json(name: str, quality: Any) -> None:
    recipe = LENSES[name].recipe(quality)
    assert is_dataclass(recipe)
    with pytest.raises(FrozenInstanceError):
        setattr(recipe, fields(recipe)[0].name, None)
    again = LENSES[name].restored(json.loads(json.dumps(settings(recipe))))
    assert again == recipe


@pytest.mark.parametrize("name", NAMES)
def test_level_that_it_does_not_look_at_is_refused(name: str) -> None:
    layer, unit = Key("inceptionv1", "mixed4c"), Key("inceptionv1", "mixed4c", 447)
    right, wrong = (layer, unit) if LENSES[name].level == "layer" else (unit, layer)
    refuse_level(LENSES[name], right)
    kind = "unit" if wrong == unit else "layer"
    with pytest.raises(WrongLevel, match=f"{name} looks at a {LENSES[name].level}; {wrong} is a {kind}"):
        refuse_level(LENSES[name], wrong)
    with pytest.raises(WrongLevel, match="inceptionv1 is a model"):
        refuse_level(LENSES[name], Key("inceptionv1"))


def test_atlas_of_every_lens_is_in_order(every: Path) -> None:
    assert list(check(Folder(every))) == []


@pytest.mark.parametrize("name", EVERYWHERE)
def test_every_unit_or_layer_has_its_rows(every: Path, name: str) -> None:
    found = rows(every, name)
    each = LENSES[name].count(settings(quick(name)))
    if LENSES[name].level == "unit":
        about = [(layer, unit) for layer, units in LAYERS.items() for unit in units]
        counted = {at: sum((row["layer"], row["unit"]) == at for row in found) for at in about}
    else:
        counted = {at: sum(row["layer"] == at for row in found) for at in LAYERS}
    assert sum(counted.values()) == len(found)
    assert all(number >= 1 if each is None else number == each for number in counted.values())


@pytest.mark.parametrize("name", EVERYWHERE)
def test_row_says_how_it_was_made(every: Path, name: str) -> None:
    made_with = settings(quick(name))
    for row in rows(every, name):
        assert made_with.items() <= json.loads(row["recipe"]).items()
        assert row["weights_sha256"] == read_manifest(Folder(every)).models[MODEL]["weights_sha256"]
        assert "microscope-atlas" in row["software"]


@pytest.mark.parametrize("name", EVERYWHERE)
def test_datasets_loads_its_config(every: Path, name: str, tmp_path: Path) -> None:
    loaded = load_dataset(str(every), name, split=MODEL, cache_dir=str(tmp_path))
    assert loaded.column_names == [column.name for column in schema.table(name).columns]
    assert len(loaded) == len(rows(every, name))
    for column in schema.table(name).images:
        shown = [image for image in loaded[column] if image is not None]
        assert all(min(image.size) > 0 for image in shown)


@pytest.mark.parametrize("name", EVERYWHERE)
def test_rows_are_made_again_as_they_were(every: Path, name: str) -> None:
    unit = 1 if LENSES[name].level == "unit" else None
    notes, remade = reproduce.reproduce(Folder(every), Key(MODEL, "stem", unit), name, CPU)
    found = list(remade)
    assert found
    assert notes == []
    for row in found:
        assert (row.score or 0.0, row.likeness or 1.0, row.numbers, row.mismatched) == (
            0.0,
            pytest.approx(1.0),
            0.0,
            (),
        )


@pytest.mark.parametrize("name", [name for name in NAMES if not LENSES[name].reads])
def test_row_does_not_depend_on_what_else_is_asked_for(every: Path, name: str, tmp_path: Path) -> None:
    layers = {"stem": range(1, 2)}
    run.render(Folder(tmp_path), [request(layers)], {name: quick(name)}, HERE, 2, lambda *_: None)
    beside_others = {key(name, row): row for row in rows(every, name)}
    for row in rows(tmp_path, name):
        assert row == beside_others[key(name, row)]


def test_second_run_makes_nothing(every: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(every, tmp_path / "atlas"))
    before = atlases.content(root)
    assert render_every(root, LAYERS, lenses=EVERYWHERE).made == 0
    assert atlases.content(root) == before


@pytest.mark.parametrize("name", EVERYWHERE)
def test_lost_shard_is_made_again_byte_for_byte(every: Path, name: str, tmp_path: Path) -> None:
    root = Path(shutil.copytree(every, tmp_path / "atlas"))
    before = atlases.content(root)
    (root / next(shards(root, name)).path).unlink()
    assert render_every(root, LAYERS, lenses=EVERYWHERE).made > 0
    assert atlases.content(root) == before


@pytest.mark.parametrize("name", [name for name in NAMES if "seed" in schema.table(name).arrow.names])
def test_nan_is_flagged_and_never_a_picture(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = ascend.Frame

    def poisoned(step: int, pictures: torch.Tensor, scores: torch.Tensor, *more: Any) -> ascend.Frame:
        return right(step, pictures * torch.nan, scores * torch.nan, *more)

    monkeypatch.setattr(ascend, "Frame", poisoned)
    run.render(Folder(tmp_path), [request({"stem": range(1)})], {name: quick(name)}, HERE, 2, lambda *_: None)
    found = rows(tmp_path, name)
    assert {(row["flag"], row["score"], row["image"]) for row in found} == {("nan", None, None)}
    assert list(check(Folder(tmp_path))) == []


def test_derived_lenses_follow_what_they_are_made_from(every: Path, tmp_path: Path) -> None:
    """More units through one lens alone: every derived lens that read its rows is made anew, all others stay."""
    root = Path(shutil.copytree(every, tmp_path / "atlas"))
    before = {shard.path: shard.id for shard in read_manifest(Folder(root)).shards.values()}
    name = "feature_visualization"
    run.render(Folder(root), [request({"stem": range(4)})], {name: quick(name)}, HERE, 2, lambda *_: None)
    after = {shard.path: shard.id for shard in read_manifest(Folder(root)).shards.values()}
    changed = {path.partition("/")[0] for path, id in before.items() if after.get(path) != id}
    assert changed == {"sheets"}
    (sheet,) = [
        row
        for row in rows(root, "sheets")
        if (row["layer"], row["objective"], row["direction"]) == ("stem", "channel", 1)
    ]
    assert sheet["num_pictures"] == 4
    assert list(check(Folder(root))) == []
