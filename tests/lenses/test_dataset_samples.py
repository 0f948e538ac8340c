import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.organisms import Field, Layer
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.errors import NotRendered, PicturesFailed
from microscope_atlas.lenses.dataset_samples import DatasetSamples, Recipe, seen
from microscope_atlas.lenses.lens import Row, Subject
from microscope_atlas.lenses.recipe import settings
from microscope_atlas.lenses.responses import Recipe as ResponsesRecipe
from microscope_atlas.lenses.responses import Responses
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.organism import Organism
from microscope_atlas.pictures import cuts
from microscope_atlas.pictures.sets import with_pictures
from microscope_atlas.pictures.sources import DEFAULT
from microscope_atlas.publish.check import check
from microscope_atlas.run import run
from tests import atlases, toy

LENS = DatasetSamples()
SIZE = 8
HANDMADE = Organism("handmade", "", "", 2026, "", SIZE, toy.handmade, toy.HANDMADE_LAYERS, ())
RED = 1  # unit of the handmade network's conv1


def never() -> Network:
    raise AssertionError("a derived lens does not look at the network")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Noise with red pixels at places of their own, so that every crop is another."""
    random = np.random.default_rng(0)
    for number, (x, y) in enumerate(((2, 3), (7, 0), (4, 4), (0, 7), (5, 1))):
        pixels = random.integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8)
        pixels[y, x] = 180 + 15 * number, 0, 0
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def responses(folder: Path, layer: str, **graph: float) -> pa.Table:
    """The table of all units of a layer."""
    recipe = with_pictures(Responses().recipe("draft"), str(folder))
    recipe = replace(recipe, top=2, per_bucket=1)
    network = toy.handmade()
    for name, value in graph.items():
        network.get_submodule(name).bias[RED] = value
    looked = Subject(HANDMADE, HANDMADE.layer(layer), torch.device("cpu"), lambda: network)
    made = {"model": "handmade", "layer": layer, "weights_sha256": "0", "software": "0", "device": "cpu"}
    made["recipe"] = json.dumps(settings(recipe))
    (rows,) = Responses().rows(looked, range(HANDMADE.layer(layer).units), recipe)
    return pa.Table.from_pylist([{**made, **row} for row in rows], schema=schema.table("responses").arrow)


def subject(layer: str, table: pa.Table) -> Subject:
    def read(name: str, columns: Sequence[str], scope: str = "atlas") -> Iterator[pa.Table]:
        yield {"responses": table}[name].select(columns)

    return Subject(HANDMADE, HANDMADE.layer(layer), torch.device("cpu"), never, read)


def samples(folder: Path, layer: str, units: range, crops: bool = True, **graph: float) -> list[Row]:
    recipe = replace(with_pictures(LENS.recipe("draft"), str(folder)), crops=crops)
    seen = subject(layer, responses(folder, layer, **graph))
    return [row for some in LENS.rows(seen, units, recipe) for row in some]


def pixels(folder: Path, number: int) -> Any:
    with Image.open(folder / f"{number}.png") as image:
        return np.array(image)


def box(row: Mapping[str, Any]) -> tuple[int, int, int, int]:
    return row["left"], row["top"], row["right"], row["bottom"]


def test_image_is_what_the_unit_sees_at_its_best_position(folder: Path) -> None:
    found = {(row["bucket"], row["rank"]): row for row in samples(folder, "conv1", range(RED, RED + 1))}
    best, second = found["top", 0], found["top", 1]
    assert (best["picture"], second["picture"]) == (4, 3)
    assert box(best) == (4, 0, 7, 3)  # 3 x 3 around column 5, row 1
    assert box(second) == (0, 6, 2, 8)  # around column 0, row 7, cut at the border
    for row in found.values():
        left, top, right, bottom = box(row)
        assert np.array_equal(row["image"], pixels(folder, row["picture"])[top:bottom, left:right])


def test_deeper_layers_see_more(folder: Path) -> None:
    for row in samples(folder, "conv2", range(2)):
        assert row["image"].shape[:2] == (row["bottom"] - row["top"], row["right"] - row["left"])
        assert 3 <= row["bottom"] - row["top"] <= 5


def test_neurons_see_the_whole_picture(folder: Path) -> None:
    for row in samples(folder, "logits", range(2)):
        assert box(row) == (0, 0, SIZE, SIZE)
        assert np.array_equal(row["image"], pixels(folder, row["picture"]))


def test_rows_are_the_samples_of_the_responses(folder: Path) -> None:
    table = responses(folder, "conv1")
    recipe = with_pictures(LENS.recipe("draft"), str(folder))
    for some in LENS.rows(subject("conv1", table), range(3), recipe):
        stated = table["samples"].to_pylist()[some[0]["unit"]]
        names = ("bucket", "rank", "picture", "activation")
        assert [[row[name] for name in names] for row in some] == [[each[name] for name in names] for each in stated]
        assert {(row["set"], row["revision"]) for row in some} == {(recipe.pictures, recipe.revision)}


def test_only_the_units_asked_for_have_rows(folder: Path) -> None:
    assert {row["unit"] for row in samples(folder, "conv1", range(1, 3))} == {1, 2}


def test_pointers_need_no_pictures_and_hold_none(folder: Path) -> None:
    with_images = samples(folder, "conv1", range(3))
    table = responses(folder, "conv1")
    recipe = replace(with_pictures(LENS.recipe("draft"), str(folder)), crops=False)
    folder.rename(folder.with_name("gone"))
    found = [row for some in LENS.rows(subject("conv1", table), range(3), recipe) for row in some]
    assert found == [{**row, "image": None} for row in with_images]


def test_unit_that_is_not_a_number_has_a_row_that_says_so(folder: Path) -> None:
    (row,) = samples(folder, "conv1", range(RED, RED + 1), conv1_pre=torch.nan)
    assert (row["flag"], row["bucket"], row["rank"]) == ("nan", "top", 0)
    assert {row[name] for name in ("activation", "picture", "image", "left", "top", "right", "bottom")} == {None}


def test_dead_unit_is_flagged(folder: Path) -> None:
    assert {row["flag"] for row in samples(folder, "conv1", range(RED, RED + 1), conv1_pre=-9.0)} == {"dead"}


@pytest.mark.parametrize(("revision", "num_photos"), [(cuts.NOW.revision, 87), (cuts.OF_0_1.revision, None)])
def test_row_says_of_how_many_photos_its_set_are_crops(folder: Path, revision: str, num_photos: int | None) -> None:
    rows = responses(folder, "conv1").to_pylist()
    for row in rows:
        row["recipe"] = json.dumps({**json.loads(row["recipe"]), "pictures": DEFAULT, "revision": revision})
    table = pa.Table.from_pylist(rows, schema=schema.table("responses").arrow)
    recipe = replace(LENS.recipe("draft"), revision=revision, crops=False)
    found = [row for some in LENS.rows(subject("conv1", table), range(3), recipe) for row in some]
    assert found
    assert {row.get("recipe", {}).get("num_photos") for row in found} == {num_photos}


def test_responses_to_other_pictures_are_refused(folder: Path) -> None:
    with pytest.raises(PicturesFailed, match=r"has responses to folder at .*, not to default at"):
        list(LENS.rows(subject("conv1", responses(folder, "conv1")), range(3), LENS.recipe("draft")))


def test_missing_responses_are_refused(folder: Path) -> None:
    recipe = with_pictures(LENS.recipe("draft"), str(folder))
    with pytest.raises(NotRendered, match=r"no responses of units \[1, 2\] of handmade/conv1"):
        list(LENS.rows(subject("conv1", responses(folder, "conv1").slice(0, 1)), range(3), recipe))


def test_field_is_cut_at_the_border() -> None:
    layer = Layer("l", "conv", 1, 11, 4, {}, origin=-3)
    rows = {at: seen(layer, at, at, 32)[0] for at in (0, 1, 7, None)}
    assert rows == {0: (0, 8), 1: (1, 12), 7: (25, 32), None: (0, 32)}
    assert seen(replace(layer, receptive_field=None), 3, 3, 32) == ((0, 32), (0, 32))


def test_position_that_padding_puts_beyond_the_picture_sees_what_is_next_to_it() -> None:
    layer = Layer("l", "conv", 1, 1, 1, {}, origin=-2)  # a kernel of 1, padded by 2
    rows = {at: seen(layer, at, at, 32)[0] for at in (0, 1, 2, 33, 34, 35)}
    assert rows == {0: (0, 1), 1: (0, 1), 2: (0, 1), 33: (31, 32), 34: (31, 32), 35: (31, 32)}


def test_box_of_a_long_field_is_long() -> None:
    layer = Layer("l", "conv", 1, None, 1, {}).seeing(Field(3, 2, -1), Field(9, 1, 0))
    assert seen(layer, 4, 4, 32) == ((7, 10), (4, 13))


def test_atlas_holds_both_tables_and_keeps_its_promises(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "atlas"
    pictures = with_pictures(ResponsesRecipe("", ""), str(folder))
    recipes = {"responses": pictures, "dataset_samples": Recipe(pictures.pictures, pictures.revision)}
    requests = [atlases.request({"stem": range(3), "logits": range(2)}, "random")]
    run.render(Folder(root), requests, recipes, atlases.HERE, 2, lambda *_: None)
    assert not list(check(Folder(root)))
    shards = {path.parent.parent.name: read_shard(path) for path in sorted(root.rglob("stem.*.parquet"))}
    assert shards["responses"].num_rows == 3
    images = shards["dataset_samples"]["image"].to_pylist()
    assert all(image["bytes"].startswith(b"\xff\xd8") for image in images)


def test_every_picture_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = responses(folder, "conv1")
    read = []
    monkeypatch.setattr("microscope_atlas.lenses.dataset_samples.fitted", lambda image, size: read.append(1) or image)
    recipe = with_pictures(LENS.recipe("draft"), str(folder))
    rows = [row for some in LENS.rows(subject("conv1", table), range(3), recipe) for row in some]
    assert len(read) == len({row["picture"] for row in rows}) < len(rows)
