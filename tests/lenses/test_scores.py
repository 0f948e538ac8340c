import json
from collections.abc import Iterator, Sequence
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
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.atlas.tables import Scope
from microscope_atlas.errors import InvalidSetting, LensFailed, NotRendered, RenderFailed, UnknownName
from microscope_atlas.keys import Key
from microscope_atlas.lenses import embedding as embeddings
from microscope_atlas.lenses.embedding import Embedding, layer_of
from microscope_atlas.lenses.lens import Row, Subject
from microscope_atlas.lenses.recipe import changed
from microscope_atlas.lenses.registry import UNASKED
from microscope_atlas.lenses.scores import Recipe, Scores, _box, _narrowed
from microscope_atlas.models.catalog import organism
from microscope_atlas.publish.check import check
from microscope_atlas.run import reproduce, run
from microscope_atlas.run.stored import encode
from tests import atlases, toy
from tests.atlases import HERE, MODEL
from tests.lenses.test_units import TOY, response

RED, BLUE = (255, 0, 0), (0, 0, 255)


def sample(unit: int, bucket: str, rank: int, picture: int, colour: Any, activation: float = 1.0) -> Row:
    image = {"bytes": encode(np.full((8, 8, 3), colour, np.uint8)), "path": "x.jpg"}
    box = {"left": 0, "top": 0, "right": 8, "bottom": 8}
    made_by = dict.fromkeys(("weights_sha256", "software", "device"), "") | {"recipe": "{}"}
    about = {"model": "toy", "layer": "conv1", "unit": unit, "bucket": bucket, "rank": rank, "set": "s"}
    seen = {"activation": activation, "picture": picture, "image": image, **box, "revision": "1", "flag": None}
    return {**about, **seen, **made_by}


def unit(number: int, colours: Sequence[Any], activation: float = 1.0) -> list[Row]:
    """A unit whose strongest samples have these colours, and a random one, red or blue in turn."""
    shown = enumerate(colours)
    top = [sample(number, "top", rank, 100 * number + rank, each, activation) for rank, each in shown]
    return [*top, sample(number, "random", 0, 1000 + number, RED if number % 2 else BLUE)]


def subject(samples: Sequence[Row], responses: Sequence[Row] = ()) -> Subject:
    def parts(table: str, columns: Sequence[str], scope: Scope = "atlas") -> Iterator[pa.Table]:
        rows, of = (responses, schema.RESPONSES) if table == "responses" else (samples, schema.DATASET_SAMPLES)
        yield pa.Table.from_pylist(list(rows), schema=of.arrow).select(columns)

    return Subject(TOY, TOY.layer("conv1"), torch.device("cpu"), toy.handmade, read=parts)


def colour(pictures: torch.Tensor, layers: Sequence[str]) -> list[torch.Tensor]:
    """The embedding that these tests know: red and blue are at a right angle."""
    return [(pictures > 0.3).float() * pictures]


def scored(about: Subject, units: Sequence[int], recipe: Recipe = Recipe()) -> list[Row]:  # noqa: B008
    known = replace(organism(MODEL), input_size=8)
    made = Embedding(known, "colour", "0" * 64, colour, torch.device("cpu"))  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embeddings, "embedding", lambda *_: made)
        return [row for some in Scores().rows(about, units, recipe) for row in some]


def test_unit_that_merges_two_meanings_scores_so_and_a_copy_names_its_twin() -> None:
    colours = ([RED] * 8, [BLUE] * 8, [RED, BLUE] * 4, [RED] * 8)
    rows = scored(subject([row for number, each in enumerate(colours) for row in unit(number, each)]), range(4))
    red, blue, merged, copy = rows
    # of the random ones, blue, red, blue, red, the pairs of different pictures: 2 of 6 are alike
    assert [row["random_likeness"] for row in rows] == [pytest.approx(2 / 6, abs=1e-3)] * 4
    assert [row["likeness"] for row in (red, blue, copy)] == [pytest.approx(1, abs=1e-4)] * 3
    assert [row["clarity"] for row in (red, blue)] == [pytest.approx(1, abs=1e-3)] * 2
    # of 28 pairs of 4 red and 4 blue, 12 are alike
    assert merged["likeness"] == pytest.approx(12 / 28, abs=1e-3)
    assert merged["clarity"] == pytest.approx((12 / 28 - 1 / 3) / (2 / 3), abs=5e-3)
    assert [row["polysemanticity"] for row in rows] == [pytest.approx(value, abs=1e-3) for value in (0, 0, 1, 0)]
    assert [row["clusters"] for row in rows] == [[8], [8], [4, 4], [8]]
    assert [(row["twin"], row["redundancy"]) for row in (red, copy)] == [(3, 1), (0, 1)]
    assert merged["redundancy"] == pytest.approx(0.5**0.5, abs=1e-3)
    assert [(row["num_samples"], row["flag"]) for row in rows] == [(8, None)] * 4


def test_answers_name_the_unit_that_answers_most_alike() -> None:
    line, hill = [0.0, 1, 2, 3], [0.0, 1, 1, 0]
    told = [response("toy", "conv1", at, values) for at, values in enumerate([line, hill, [2 * x for x in line]])]
    rows = scored(subject([each for at in range(3) for each in unit(at, [RED] * 8)], told), range(3))
    assert [(row["answers_like"], row["correlation"]) for row in rows] == [(2, 1), (0, 0), (0, 1)]


def test_unit_with_few_samples_or_dead_has_no_scores_and_says_why() -> None:
    dead = [{**row, "flag": "dead"} for row in unit(1, [RED] * 8, activation=0.0)]
    rows = scored(subject([*unit(0, [RED] * 7), *dead, *unit(2, [BLUE] * 8)]), range(3))
    assert [row["flag"] for row in rows] == ["few", "dead", None]
    for row in rows[:2]:
        named = ("clarity", "likeness", "polysemanticity", "redundancy", "twin")
        assert {row[name] for name in named} == {None}
        assert row["clusters"] == []
    assert rows[2]["twin"] is None  # nobody is left to be alike


def test_samples_that_leave_a_unit_cold_do_not_count_where_others_excite_it() -> None:
    cold = [sample(0, "top", 8 + at, 100 + at, BLUE, activation=0.0) for at in range(4)]
    (row,) = scored(subject([*unit(0, [RED] * 8), *cold]), [0])
    assert (row["num_samples"], row["likeness"]) == (8, pytest.approx(1, abs=1e-4))
    (row,) = scored(subject(unit(0, [RED] * 8, activation=-1.0)), [0])  # nothing rectifies it
    assert row["num_samples"] == 8


def test_absent_samples_are_told_with_what_renders_them() -> None:
    with pytest.raises(NotRendered, match=r"no dataset_samples of units \[1\] of toy/conv1.*--lens dataset_samples"):
        scored(subject(unit(0, [RED] * 8)), [0, 1])


def test_pictures_that_are_only_pointed_at_are_cut_out_of_their_set(monkeypatch: pytest.MonkeyPatch) -> None:
    pointed = [{**row, "image": None} for row in unit(0, [RED] * 8)]
    shown = [Image.new("RGB", (64, 64), BLUE)] * 2000
    monkeypatch.setattr("microscope_atlas.lenses.scores.picture_set", lambda name, revision: shown)
    (row,) = scored(subject(pointed), [0])
    assert (row["likeness"], row["num_samples"]) == (pytest.approx(1, abs=1e-5), 8)


def test_middle_of_a_field_is_looked_at_and_small_ones_whole() -> None:
    assert _narrowed(-135 + 6 * 16, 299, 0.4) == (-39 + 89, -39 + 89 + 120)
    assert _narrowed(10, 100, 0.4) == (28, 92)  # 64 px
    assert _narrowed(10, 31, 0.4) == (10, 41)
    row = {"unit": 1, "bucket": "top", "rank": 2, "picture": 7, "left": 0, "top": 20, "right": 100, "bottom": 224}
    assert _box(row, {(1, "top", 2): (-40, 50, 80, 170)}) == (7, 0, 50, 80, 170)
    assert _box(row, {}) == (7, 0, 20, 100, 224)
    assert _box(row, {(1, "top", 2): (-80, 50, 0, 170)}) == (7, 0, 20, 100, 224)  # it is in the padding


def test_wrong_settings_are_told() -> None:
    with pytest.raises(InvalidSetting, match="a network of the catalog"):
        changed(Recipe(), {"embedding": "own:mine.network"})
    with pytest.raises(LensFailed, match="looks at 4 samples of a unit and asks for 8"):
        Scores().refuse(organism(MODEL), None, Recipe(samples=4))
    with pytest.raises(UnknownName, match="efficientnet_lite0"):
        Scores().refuse(organism(MODEL), "0" * 64, Recipe(embedding="efficientnet_lite9"))
    with pytest.raises(UnknownName, match="head"):
        Scores().refuse(organism(MODEL), "0" * 64, Recipe(embedding_layer="heat"))


def test_it_is_rendered_where_it_is_named_alone() -> None:
    assert "scores" not in UNASKED


@pytest.mark.parametrize(
    ("name", "layer"), [("efficientnet_lite0", "head"), ("inceptionv1_caffe", "inception_5b"), ("vgg19_caffe", "fc7")]
)
def test_embedding_is_what_leads_to_the_logits(name: str, layer: str) -> None:
    assert layer_of(organism(name), None) == layer
    assert layer_of(organism("contrastive_rn50"), None) == "embedding"
    assert layer_of(organism("inceptionv1"), None) == "softmax2"  # nobody knows its classes


@pytest.fixture(scope="module")
def atlas(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of a few units with all that scores read, and theirs. Nobody may write to it."""
    root = tmp_path_factory.mktemp("scored") / "atlas"
    recipes = {name: atlases.quick(name) for name in ("responses", "dataset_samples")}
    recipes["scores"] = Recipe()
    run.render(Folder(root), [atlases.request({"stem": range(4)})], recipes, HERE, 2, lambda *_: None)
    return root


def test_rows_are_whole_and_made_again_as_they_were(atlas: Path) -> None:
    rows = [row for path in atlas.rglob("scores/**/*.parquet") for row in read_shard(path).to_pylist()]
    assert [row["unit"] for row in rows] == [0, 1, 2, 3]
    for row in rows:
        assert -1 < row["random_likeness"] < row["likeness"] + 1
        assert row["clarity"] == pytest.approx(
            (row["likeness"] - row["random_likeness"]) / (1 - row["random_likeness"]), abs=1e-5
        )
        assert (row["embedding"], row["embedding_layer"], row["flag"]) == (MODEL, "head", None)
        assert row["embedding_sha256"] == row["weights_sha256"]  # the same network, here
        assert sum(row["clusters"]) == row["num_samples"] >= 8
        assert row["twin"] != row["unit"]
        assert json.loads(row["recipe"])["samples"] == 16
    assert not list(check(Folder(atlas)))
    notes, remade = reproduce.reproduce(Folder(atlas), Key(MODEL, "stem", 1), "scores", torch.device("cpu"))
    assert [(row.numbers, row.mismatched) for row in remade] == [(0.0, ())]
    assert notes == []


def test_scores_without_samples_are_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    recipes = {"responses": atlases.quick("responses"), "scores": Recipe()}
    with pytest.raises(RenderFailed, match="render them first: --lens dataset_samples"):
        run.render(Folder(tmp_path), [atlases.request({"stem": range(1)})], recipes, HERE, 2, lambda *_: None)
    assert not list(tmp_path.rglob("scores/**/*.parquet"))
