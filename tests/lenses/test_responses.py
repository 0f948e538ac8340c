from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from microscope_atlas.atlas.organisms import organisms
from microscope_atlas.errors import PicturesFailed
from microscope_atlas.lenses import responses
from microscope_atlas.lenses.lens import Row, Subject
from microscope_atlas.lenses.responses import PROBABILITIES, Recipe, Responses, buckets, spaced
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.organism import Organism
from microscope_atlas.pictures.cuts import default_revision
from microscope_atlas.pictures.sets import picture_set, with_pictures
from microscope_atlas.pictures.sources import DEFAULT
from microscope_atlas.rendering.objectives import Channel, Neuron
from tests import toy

LENS = Responses()
SIZE = 8
HANDMADE = Organism("handmade", "", "", 2026, "", SIZE, toy.handmade, toy.HANDMADE_LAYERS, ())
TOY = Organism(
    "toy", "", "", 2026, "", 32, toy.network_to_be_initialised, {"conv1": None, "mixed": None, "logits": None}, ()
)
RED, DARK = 1, 2  # units of the handmade network's conv1

# red pixels on black: level, column, row; 0 is none. The response of RED is level / 127.5 there and zero elsewhere
PIXELS = ((51, 2, 3), (255, 7, 0), (0, 0, 0), (102, 4, 4), (255, 1, 6), (204, 0, 7), (153, 5, 1))


def draw(folder: Path, pixels: tuple[tuple[int, int, int], ...] = PIXELS, ground: str = "black") -> Path:
    folder.mkdir(exist_ok=True)
    for number, (level, x, y) in enumerate(pixels):
        picture = Image.new("RGB", (SIZE, SIZE), ground)
        if level:
            picture.putpixel((x, y), (level, 0, 0))
        picture.save(folder / f"{number:02}.png")
    return folder


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return replace(with_pictures(LENS.recipe("draft"), str(draw(tmp_path / "pixels"))), batch=3, top=2, per_bucket=1)


def subject(graph: Graph, layer: str, organism: Organism = HANDMADE) -> Subject:
    return Subject(organism, organism.layer(layer), torch.device("cpu"), lambda: graph)


def rows(units: range, recipe: Recipe, layer: str = "conv1", graph: Graph | None = None) -> list[Row]:
    return [row for some in LENS.rows(subject(graph or toy.handmade(), layer), units, recipe) for row in some]


def toy_rows(layer: str, units: range, recipe: Recipe) -> dict[int, Row]:
    found = (row for some in LENS.rows(subject(toy.network(), layer, TOY), units, recipe) for row in some)
    return {row["unit"]: row for row in found}


def picked(row: Row, bucket: str) -> list[tuple[int, float, int, int]]:
    samples = [sample for sample in row["samples"] if sample["bucket"] == bucket]
    assert [sample["rank"] for sample in samples] == list(range(len(samples)))
    return [(s["picture"], round(s["activation"] * 127.5), s["x"], s["y"]) for s in samples]


def natural(row: Row) -> dict[tuple[str, int], float]:
    return {(score["objective"], score["direction"]): score["activation"] for score in row["natural"]}


def equal(one: Any, other: Any) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one) and set(one) == set(other)


def test_numbers_of_a_unit_are_those_worked_out_by_hand(recipe: Recipe) -> None:
    (row,) = rows(range(RED, RED + 1), recipe)
    levels = np.array([level for level, _, _ in PIXELS]) / 127.5
    np.testing.assert_allclose(row["responses"], levels, rtol=1e-6)
    assert row["maximum"] == 2
    assert row["mean"] == pytest.approx(levels.mean() / SIZE**2)
    assert row["sparsity"] == pytest.approx(1 - 6 / (7 * SIZE**2))
    np.testing.assert_allclose(row["quantiles"], np.quantile(levels, PROBABILITIES), rtol=1e-6)
    assert row["flag"] is None


def test_top_pictures_are_the_strongest_and_the_earlier_of_equals(recipe: Recipe) -> None:
    (row,) = rows(range(RED, RED + 1), replace(recipe, top=4))
    assert picked(row, "top") == [(1, 255, 7, 0), (4, 255, 1, 6), (5, 204, 0, 7), (6, 153, 5, 1)]


def test_buckets_go_down_to_the_bottom(recipe: Recipe) -> None:
    (row,) = rows(range(RED, RED + 1), replace(recipe, per_bucket=2))
    assert picked(row, "0.9-0.99") == [(1, 255, 7, 0)]
    assert picked(row, "0.25-0.5") == [(3, 102, 4, 4)]
    assert picked(row, "0-0.25") == [(0, 51, 2, 3), (2, 0, 0, 0)]


def test_natural_scores_are_the_objectives_on_the_pictures_best_by_them(recipe: Recipe) -> None:
    (row,) = rows(range(RED, RED + 1), recipe)
    assert natural(row) == {
        ("channel", 1): pytest.approx(2 / SIZE**2),  # of the two best
        ("channel", -1): pytest.approx(-(51 / 2) / 127.5 / SIZE**2),  # of the two least: 0 and 51
        ("neuron", 1): pytest.approx(2),
        ("neuron", -1): pytest.approx(0),
    }


@pytest.mark.parametrize("layer", [pytest.param("mixed", marks=pytest.mark.long), "logits"])
def test_natural_scores_agree_with_the_objectives_of_feature_visualization(layer: str) -> None:
    recipe = replace(LENS.recipe("draft"), top=10**6)
    graph = toy.network()
    batches = list(picture_set(DEFAULT).batches(32, 64, torch.device("cpu")))
    for unit, row in toy_rows(layer, range(2, 4), recipe).items():
        found = natural(row)
        for direction in (1, -1):
            node = layer if direction > 0 or layer == "logits" else "mixed_pre"
            acts = torch.cat([graph(batch, [node])[0] for batch in batches])
            units = torch.full((len(acts),), unit)
            channel = direction * Channel(units)(acts).mean()
            assert found["channel", direction] == pytest.approx(channel.item(), abs=1e-4)
            assert found["neuron", direction] >= direction * Neuron(units)(acts).mean().item() - 1e-4
            best = (direction * acts[:, unit].reshape(len(acts), -1)).amax(1).mean()
            assert found["neuron", direction] == pytest.approx(best.item(), abs=1e-4)


def test_neurons_have_no_places(recipe: Recipe) -> None:
    (row, _) = rows(range(2), recipe, "logits")
    assert {(sample["x"], sample["y"]) for sample in row["samples"]} == {(None, None)}
    assert natural(row)["channel", 1] == natural(row)["neuron", 1]


@pytest.mark.parametrize("layer", ["conv1", pytest.param("mixed", marks=pytest.mark.long), "logits"])
def test_row_does_not_depend_on_which_units_are_asked_for(layer: str) -> None:
    recipe = replace(LENS.recipe("draft"), batch=32)
    together = toy_rows(layer, range(10), recipe)
    for unit, row in toy_rows(layer, range(6, 7), recipe).items():
        assert equal(row, together[unit])


@pytest.mark.parametrize("layer", [pytest.param("mixed", marks=pytest.mark.long), "logits"])
def test_batch_size_does_not_change_a_row_on_a_cpu(layer: str) -> None:
    small, large = (toy_rows(layer, range(10), replace(LENS.recipe("draft"), batch=batch)) for batch in (12, 32))
    assert len(picture_set(DEFAULT)) % 12 == 1  # the last batch is a single picture
    for unit, row in small.items():
        assert equal(row, large[unit])


def test_random_samples_are_each_units_own(recipe: Recipe) -> None:
    found = toy_rows("mixed", range(4), LENS.recipe("draft"))
    drawn = {unit: [s["picture"] for s in row["samples"] if s["bucket"] == "random"] for unit, row in found.items()}
    assert len({frozenset(pictures) for pictures in drawn.values()}) == 4
    assert all(len(set(pictures)) == 4 for pictures in drawn.values())


def test_memory_is_bounded_and_the_top_is_of_all(tmp_path: Path) -> None:
    pixels = tuple((level, level % SIZE, 3) for level in (5, 10, 200, 15, 20, 25, 250, 30))
    recipe = with_pictures(LENS.recipe("draft"), str(draw(tmp_path / "eight", pixels)))
    (row,) = rows(range(RED, RED + 1), replace(recipe, batch=2, top=2, per_bucket=9, max_responses=3))
    assert np.round(row["responses"] * 127.5).tolist() == [5, 200, 25]  # numbers 0, 2 and 5
    assert [number for number, *_ in picked(row, "top")] == [6, 2]
    assert {sample["picture"] for sample in row["samples"] if sample["bucket"] != "top"} == {0, 2, 5}
    assert row["maximum"] == pytest.approx(250 / 127.5)


def test_buckets_are_between_their_quantiles_and_spread() -> None:
    maxima = np.random.default_rng(0).permutation(1000).astype(np.float32)
    found = buckets(maxima, 4, seed=1)
    assert maxima[found["0.9-0.99"]].tolist() == [989, 959, 930, 900]
    assert maxima[found["0-0.25"]].tolist() == [249, 166, 83, 0]
    assert list(found) == ["0.9-0.99", "0.75-0.9", "0.5-0.75", "0.25-0.5", "0-0.25", "random"]
    assert found["random"] == sorted(found["random"], key=lambda at: -maxima[at]) != buckets(maxima, 4, 2)["random"]


def test_one_picture_is_a_set_too(tmp_path: Path) -> None:
    recipe = with_pictures(LENS.recipe("draft"), str(draw(tmp_path / "one", PIXELS[:1])))
    (row,) = rows(range(RED, RED + 1), recipe)
    assert {sample["picture"] for sample in row["samples"]} == {0}
    assert row["responses"].tolist() == pytest.approx([0.4])


def test_spaced_numbers_are_even_and_at_most_that_many() -> None:
    assert list(spaced(5, 8)) == [0, 1, 2, 3, 4]
    assert list(spaced(10, 4)) == [0, 2, 5, 7]


def test_unit_that_never_fires_is_dead_behind_a_rectifier_alone(tmp_path: Path) -> None:
    white = with_pictures(LENS.recipe("draft"), str(draw(tmp_path / "white", ((0, 0, 0),) * 3, "white")))
    (row,) = rows(range(DARK, DARK + 1), white)
    assert (row["flag"], row["maximum"], row["sparsity"]) == ("dead", 0, 1)
    assert natural(row)["neuron", -1] == pytest.approx(1)  # before the rectifier it is -1 there
    graph = toy.handmade()
    graph.get_submodule("logits").bias.fill_(-100)
    assert [row["flag"] for row in rows(range(2), white, "logits", graph)] == [None, None]


def test_what_is_not_a_number_is_flagged_and_not_kept(recipe: Recipe) -> None:
    graph = toy.handmade()
    graph.get_submodule("conv1_pre").bias[DARK] = torch.nan
    red, dark = rows(range(RED, DARK + 1), recipe, graph=graph)
    assert red["flag"] is None
    assert dark["flag"] == "nan"
    assert (dark["mean"], dark["maximum"], dark["sparsity"]) == (None, None, None)
    assert dark["samples"] == dark["responses"] == dark["natural"] == dark["quantiles"] == []


def test_recipe_names_the_set_and_its_revision() -> None:
    assert LENS.recipe("draft") == LENS.recipe("microscope") == Recipe(DEFAULT, default_revision())


def test_other_pictures_than_the_recipes_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    next(iter((tmp_path / "pixels").iterdir())).unlink()
    with pytest.raises(PicturesFailed, match="is expected"):
        rows(range(1), recipe)


def test_network_is_cut_behind_the_layer(recipe: Recipe) -> None:
    ran = []

    class Noting(Graph):
        def order(self, targets: tuple[str, ...]) -> list[str]:
            ran.extend(super().order(targets))
            return super().order(targets)

    graph = toy.handmade()
    graph.__class__ = Noting
    rows(range(1), recipe, graph=graph)
    assert set(ran) == {"input", "conv1_pre", "conv1"}


def crops(folder: Path, photos: str, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A set of red pixels, the strongest first, each a crop of the photo named by a letter."""
    levels = range(255, 255 - 10 * len(photos), -10)
    drawn_ = picture_set(str(draw(folder, tuple((level, 4, 4) for level in levels))))
    cut = replace(drawn_, photos=tuple(photos))
    monkeypatch.setattr("microscope_atlas.lenses.responses.picture_set", lambda *_: cut)
    return replace(LENS.recipe("draft"), pictures=cut.name, revision=cut.revision, batch=3, top=6, per_bucket=3)


def test_at_most_two_crops_of_a_photo_are_among_the_best_and_in_a_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = "aaaaabacbaccadbbbe"
    (row,) = rows(range(RED, RED + 1), crops(tmp_path / "crops", photos, monkeypatch))
    top = [sample["picture"] for sample in row["samples"] if sample["bucket"] == "top"]
    assert top == [0, 1, 5, 7, 8, 10]  # the strongest a, a, b, c, b, c
    found: dict[str, list[int]] = {}
    for sample in row["samples"]:
        found.setdefault(sample["bucket"], []).append(sample["picture"])
    for bucket, pictures in found.items():
        shown = [photos[picture] for picture in pictures]
        assert max(map(shown.count, shown)) <= 2, bucket
        assert len(set(pictures)) == len(pictures)


def test_few_photos_leave_places_of_the_best_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = rows(range(RED, RED + 1), crops(tmp_path / "crops", "aaaaaaaaab", monkeypatch))
    assert [sample["picture"] for sample in row["samples"] if sample["bucket"] == "top"] == [0, 1, 9]


def together(layers: list[str], recipe: Recipe) -> dict[str, list[Row]]:
    """Rows of some layers of the toy, from passes that they share."""
    graph = toy.network()
    subjects = [subject(graph, layer, TOY) for layer in layers]
    found = zip(subjects, LENS.gather(subjects, recipe), strict=True)
    return {
        each.layer.name: [row for some in LENS.rows(replace(each, gathered=seen), range(4), recipe) for row in some]
        for each, seen in found
    }


@pytest.mark.parametrize("held", [responses.HELD, 1])
def test_row_does_not_depend_on_which_layers_share_its_pass(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "HELD", held)
    recipe = replace(LENS.recipe("draft"), batch=32)
    for layer, found in together(["conv1", "mixed", "logits"], recipe).items():
        alone = toy_rows(layer, range(4), recipe)
        assert all(equal(row, alone[row["unit"]]) for row in found)


def test_two_parts_of_a_layer_share_a_pass(recipe: Recipe) -> None:
    graph = toy.handmade()
    subjects = [subject(graph, layer) for layer in ("conv1", "conv2", "conv1")]
    first, other, again = LENS.gather(subjects, recipe)
    assert first is again
    assert other is not first


def test_layers_are_spread_over_passes_so_that_what_is_kept_of_them_is_bounded(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [HANDMADE.layer(name) for name in ("conv1", "conv2", "logits")]  # of 3, 2 and 2 units
    unit = 8 * len(PIXELS)
    for units, expected in ((7, [3]), (5, [2, 1]), (4, [1, 2]), (1, [1, 1, 1])):
        monkeypatch.setattr(responses, "HELD", units * unit)
        assert list(map(len, LENS.passes_over(layers, recipe))) == expected


def test_every_layer_of_most_networks_fits_into_a_pass_over_however_many_pictures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(responses, "_length", lambda *_: 10**6)
    recipe = LENS.recipe("draft")
    unasked = {
        name: [layer for layer in known.layers.values() if not layer.named_only] for name, known in organisms().items()
    }
    passes = {name: len(LENS.passes_over(layers, recipe)) for name, layers in unasked.items()}
    assert all(count == 1 for name, count in passes.items() if not name.startswith("contrastive"))
    assert max(passes.values()) < 9
