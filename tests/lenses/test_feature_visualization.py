import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from microscope_atlas.atlas.schema import METHODS
from microscope_atlas.lenses.feature_visualization import (
    RECIPES,
    FeatureVisualization,
    Maco,
    Recipe,
    at_once,
    natural_amplitudes,
)
from microscope_atlas.lenses.frames import pixels
from microscope_atlas.lenses.lens import Row, Subject, seed
from microscope_atlas.lenses.recipe import restored, settings
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.organism import Organism
from microscope_atlas.rendering.ascend import Ascent
from tests import toy

LENS = FeatureVisualization()
TOY = Organism(
    "toy", "Toy", "", 2026, "nothing", 32, toy.network_to_be_initialised, {"mixed": None, "logits": None}, ()
)
QUICK = Recipe(Ascent(steps=6), max_size=32, variants=0, batch=4)
EVERY = replace(QUICK, methods=tuple(METHODS), variants=2, maco=Maco(steps=6))


def subject(layer: str, graph: Graph | None = None) -> Subject:
    return Subject(TOY, TOY.layer(layer), torch.device("cpu"), lambda: graph or toy.network())


def rows(layer: str, units: range, recipe: Recipe = QUICK, graph: Graph | None = None) -> list[Row]:
    return [row for some in LENS.rows(subject(layer, graph), units, recipe) for row in some]


def identified(found: list[Row]) -> dict[tuple[object, ...], Row]:
    return {(row["unit"], row["objective"], row["direction"], row["variant"], row["method"]): row for row in found}


def test_unit_gets_both_objectives_in_both_directions() -> None:
    found = identified(rows("mixed", range(3, 5)))
    assert set(found) == {(unit, o, d, 0, "fourier") for unit in (3, 4) for o in ("channel", "neuron") for d in (1, -1)}
    assert len(found) == 2 * LENS.count(settings(QUICK))


@pytest.mark.parametrize("both", [False, True])
def test_dense_unit_gets_the_one_objective_that_it_has(both: bool) -> None:
    recipe = replace(EVERY, neuron_of_dense=both)
    found = rows("logits", range(2), recipe)
    assert {row["objective"] for row in found} == ({"channel", "neuron"} if both else {"channel"})
    assert len(found) == 2 * LENS.count(settings(recipe), "dense") == 2 * (9 if both else 6)
    work = [LENS.passes(TOY.layer(layer), recipe) for layer in ("logits", "mixed")]
    assert (work[0] == work[1]) == both


def test_recipe_of_version_0_1_has_both_objectives_for_dense_units() -> None:
    plain = settings(QUICK)
    del plain["neuron_of_dense"]
    assert restored(Recipe, plain) == replace(QUICK, neuron_of_dense=True)


def test_variants_are_a_set_beside_the_others() -> None:
    recipe = Recipe(Ascent(steps=3), max_size=32, variants=3, batch=4)
    found = rows("mixed", range(2), recipe)
    variants = Counter((row["unit"], row["variant"]) for row in found if row["variant"])
    assert variants == Counter({(unit, variant): 1 for unit in range(2) for variant in (1, 2, 3)})
    assert len(found) == 2 * LENS.count(settings(recipe))


@pytest.mark.parametrize("layer", [pytest.param("mixed", marks=pytest.mark.long), "logits"])
def test_row_does_not_depend_on_which_units_are_asked_for(layer: str) -> None:
    together = identified(rows(layer, range(7), EVERY))
    for key, row in identified(rows(layer, range(5, 6), EVERY)).items():
        assert torch.equal(row["image"], together[key]["image"])
        assert (row["opacity"] is None) == (row["method"] == "fourier")
        assert row["opacity"] is None or torch.equal(row["opacity"], together[key]["opacity"])
        assert (row["score"], row["agreement"]) == (together[key]["score"], together[key]["agreement"])


def test_batch_size_does_not_change_a_row_on_a_cpu() -> None:
    small, large = (identified(rows("mixed", range(5), replace(EVERY, batch=b))) for b in (2, 16))
    for key, row in small.items():
        assert torch.equal(row["image"], large[key]["image"])


@pytest.mark.long
def test_as_many_pictures_are_made_at_once_as_the_pixels_of_a_batch_hold() -> None:
    recipe = RECIPES["standard"]
    assert [at_once(recipe, px) for px in (48, 112, 224, 299)] == [64, 64, 16, 8]
    assert at_once(replace(recipe, batch_pixels=100), 48) == 1
    lens_batches = list(
        LENS.rows(subject("mixed"), range(5), replace(QUICK, methods=("maco",), batch_pixels=2 * 32**2))
    )
    assert [len(each) for each in lens_batches] == [2, 2, 1]
    assert {row["recipe"]["batch"] for each in lens_batches for row in each} == {2}


def test_each_method_shows_what_it_can_show() -> None:
    found = identified(rows("mixed", range(1), EVERY))
    assert {key[1:] for key in found if key[4] != "fourier"} == {
        ("channel", 1, 0, "maco"),
        ("channel", 1, 0, "transparent"),
        ("neuron", 1, 0, "transparent"),
    }
    assert len(found) == LENS.count(settings(EVERY))
    only = replace(EVERY, methods=("maco", "transparent"))
    assert LENS.count(settings(only)) == len(rows("mixed", range(1), only)) == 3


def test_methods_go_their_own_ways() -> None:
    found = identified(rows("mixed", range(1), EVERY))
    seeds = {row["seed"] for row in found.values()}
    assert len(seeds) == len(found)
    assert found[0, "channel", 1, 0, "maco"]["seed"] == seed("toy/mixed/0", "channel", 1, 0, "maco")


def test_opacity_is_gray_and_as_large_as_the_picture() -> None:
    for row in rows("mixed", range(2), replace(EVERY, methods=("maco", "transparent"))):
        assert row["opacity"].shape == row["image"].shape[:2] == (32, 32)
        assert row["opacity"].dtype == torch.uint8


def test_maco_sees_as_many_crops_as_its_recipe_says() -> None:
    crops = replace(EVERY.maco.crops, count=3)
    recipe = replace(EVERY, methods=("maco",), maco=replace(EVERY.maco, crops=crops), robust_views=2)
    shown: list[int] = []
    graph = toy.network()
    graph.register_forward_pre_hook(lambda _, inputs: shown.append(len(inputs[0])))
    assert len(rows("mixed", range(4), recipe, graph)) == 4
    assert shown == [12] * 6 + [4] + [4] * 2  # 6 steps, the score on the pictures, and those in views of them


def test_agreement_is_the_mean_cosine_of_gram_matrices_on_the_pictures() -> None:
    graph = toy.network()
    found = identified(rows("mixed", range(2), replace(EVERY, variants=3)))
    for unit in range(2):
        grams = []
        for variant in (1, 2, 3):
            picture = found[unit, "channel", 1, variant, "fourier"]["image"].permute(2, 0, 1)[None].float() / 255
            acts = graph(picture, ["mixed"])[0][0].flatten(1).double().numpy()
            gram = (acts @ acts.T).ravel()
            grams.append(gram / np.linalg.norm(gram))
        for i, variant in enumerate((1, 2, 3)):
            expected = np.mean([grams[i] @ grams[j] for j in range(3) if j != i])
            # the stored pixels are rounded to bytes
            assert found[unit, "channel", 1, variant, "fourier"]["agreement"] == pytest.approx(expected, abs=1e-3)


def test_picture_without_others_of_its_unit_has_no_agreement() -> None:
    assert {row["agreement"] for row in rows("mixed", range(2), replace(EVERY, variants=1))} == {None}


def test_natural_amplitudes_fall_with_frequency_at_every_size() -> None:
    for px in (48, 224):
        found = natural_amplitudes(EVERY.maco.pictures, px, 3)
        assert found.shape == (3, px, px // 2 + 1)
        low, high = found[0, :, 1 : px // 8].mean(), found[0, :, px // 4 :].mean()
        assert low > 4 * high


def test_recipe_comes_back_from_its_settings() -> None:
    for recipe in (*RECIPES.values(), EVERY):
        assert restored(Recipe, settings(recipe)) == recipe


def test_score_is_the_direction_times_the_objective_on_the_picture() -> None:
    graph = toy.network()
    for (unit, objective, direction, _, _), row in identified(rows("mixed", range(3), EVERY)).items():
        picture = row["image"].permute(2, 0, 1)[None].float() / 255
        acts = graph(picture, [row["recipe"]["target"]])[0][0, unit]
        own = acts.mean() if objective == "channel" else acts[acts.shape[0] // 2, acts.shape[1] // 2]
        # the stored pixels are rounded to bytes
        assert row["score"] == pytest.approx(direction * own.item(), abs=0.02)


def test_score_of_a_variant_is_the_plain_objective() -> None:
    recipe = Recipe(Ascent(steps=6), max_size=32, variants=2, diversity_weight=1e6)
    assert all(abs(row["score"]) < 1e3 for row in rows("mixed", range(2), recipe))


def test_row_says_how_it_was_made() -> None:
    for row in rows("mixed", range(1)):
        assert row["recipe"]["ascent"]["steps"] == 6
        assert row["recipe"]["size"] == row["image"].shape[0] == 32
        assert row["recipe"]["shift"] == 17 / 4
        assert row["recipe"]["target"] == ("mixed" if row["direction"] > 0 else "mixed_pre")
        assert row["seed"] == seed("toy/mixed/0", row["objective"], row["direction"], row["variant"])
        assert json.loads(json.dumps(row["recipe"])) == row["recipe"]


def test_dead_unit_is_flagged() -> None:
    graph = toy.network()
    graph.get_submodule("mixed_1x1").bias[2] = -1e9
    found = rows("mixed", range(1, 3), EVERY, graph)
    assert {(row["method"], row["direction"], row["flag"]) for row in found if row["unit"] == 2} == {
        *((method, 1, "dead") for method in METHODS),
        ("fourier", -1, None),
    }
    assert all(row["flag"] is None for row in found if row["unit"] == 1)


def test_flat_picture_is_flagged() -> None:
    grey = Ascent(steps=1, spectrum_std=1e-6, learning_rate=1e-6)
    found = rows("mixed", range(1), replace(EVERY, ascent=grey, methods=("fourier", "transparent")))
    assert {(row["method"], row["flag"]) for row in found} == {("fourier", "flat"), ("transparent", "flat")}
    assert all(row["image"] is not None for row in found)


def test_picture_that_is_not_a_number_is_flagged_and_not_kept() -> None:
    graph = toy.network()
    graph.get_submodule("mixed_3x3").bias[1] = torch.nan  # unit 9: the second of the 3x3 branch
    found = identified(rows("mixed", range(8, 10), EVERY, graph))
    # to variants the whole layer matters
    failed = {key: row for key, row in found.items() if key[0] == 9 or row["variant"]}
    for key, row in found.items():
        lost = key in failed
        assert (row["flag"], row["score"] is None, row["image"] is None) == ("nan" if lost else None, lost, lost)
        assert (row["opacity"] is None) == (lost or row["method"] == "fourier")
        assert row["agreement"] is None


def test_qualities_differ_in_steps_as_promised() -> None:
    assert {name: recipe.ascent.steps for name, recipe in RECIPES.items()} == {
        "draft": 64,
        "standard": 224,
        "microscope": 1500,
    }
    assert RECIPES["standard"].variants == RECIPES["microscope"].variants == 4
    assert RECIPES["standard"].methods == RECIPES["microscope"].methods == tuple(METHODS)
    assert RECIPES["draft"].methods == ("fourier",)


def test_seed_is_its_own_for_every_row_and_the_same_for_good() -> None:
    seeds = {seed(f"m/l/{unit}", o, d, v) for unit in range(50) for o in "ab" for d in (1, -1) for v in range(3)}
    assert len(seeds) == 50 * 2 * 2 * 3
    assert seed("inceptionv1_caffe/inception_4c/447", "channel", 1, 0) == 6743457894039861721


def test_pixels_are_the_nearest_bytes() -> None:
    picture: Tensor = torch.tensor([[[0.0, 0.5]], [[1.0, 1 / 255]], [[0.499 / 255, 0.501 / 255]]])
    assert pixels(picture).tolist() == [[[0, 255, 0], [128, 1, 1]]]
