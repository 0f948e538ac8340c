from dataclasses import replace

import pytest
import torch

from microscope_atlas.errors import UnknownName
from microscope_atlas.lenses.deepdream import RECIPES, DeepDream, Recipe
from microscope_atlas.lenses.frames import square
from microscope_atlas.lenses.lens import Row, Subject, seed
from microscope_atlas.lenses.recipe import restored, settings
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.organism import Organism
from microscope_atlas.pictures.sources import SOURCES, source
from microscope_atlas.rendering.ascend import Ascent, canvas_size
from microscope_atlas.rendering.views import centre
from tests import toy

LENS = DeepDream()
TOY = Organism(
    "toy", "Toy", "", 2026, "nothing", 32, toy.network_to_be_initialised, {"mixed": None, "logits": None}, ()
)
HANDMADE = Organism("handmade", "Handmade", "", 2026, "nothing", 24, toy.handmade, toy.HANDMADE_LAYERS, ())
QUICK = Recipe(
    Ascent(steps=6), max_size=32, starts=("noise", "cat", "temple", "flower"), picture_ascent=Ascent(steps=5)
)


def rows(
    layer: str = "mixed", recipe: Recipe = QUICK, graph: Graph | None = None, of: Organism = TOY
) -> dict[str, Row]:
    subject = Subject(of, of.layer(layer), torch.device("cpu"), lambda: graph or toy.network())
    return {row["start"]: row for some in LENS.rows(subject, range(1), recipe) for row in some}


def test_dream_of_the_handmade_layer_is_striped_dark_and_bright_from_top_to_bottom() -> None:
    """Its edges answer with up to 18, its red and dark units with up to 2 and 1: the layer dreams of upright edges."""
    (row,) = rows("conv1", Recipe(Ascent(steps=200), None), toy.handmade(), HANDMADE).values()
    picture = row["image"].float().mean(2) / 255
    across, along = picture.diff(dim=1).abs().mean(), picture.diff(dim=0).abs().mean()
    assert across > 1.5 * along
    assert picture.std() > 0.3
    acts = toy.handmade()(row["image"].permute(2, 0, 1)[None] / 255, ["conv1"])[0]
    assert acts[:, 0].square().mean() > 10 * acts[:, 1:].square().mean()


@pytest.mark.parametrize("layer", ["mixed", "logits"])
def test_score_is_the_mean_square_of_the_layer_on_the_picture(layer: str) -> None:
    for row in rows(layer).values():
        picture = row["image"].permute(2, 0, 1)[None].float() / 255
        # the stored pixels are rounded to bytes
        assert row["score"] == pytest.approx(toy.network()(picture, [layer])[0].square().mean().item(), rel=0.02)


def test_dream_of_a_picture_starts_as_that_picture_and_excites_the_layer_more() -> None:
    graph = toy.network()
    for name, row in rows().items():
        if name == "noise":
            continue
        start = centre(square(source(name), canvas_size(QUICK.picture_ascent, 32)), 32)
        picture = row["image"].permute(2, 0, 1).float() / 255
        assert (picture - start).abs().mean() < 0.1
        assert row["score"] > 1.2 * graph(start[None], ["mixed"])[0].square().mean().item()


@pytest.mark.parametrize("layer", ["mixed", "logits"])
def test_row_does_not_depend_on_its_companions(layer: str) -> None:
    together = rows(layer)
    for recipe in (replace(QUICK, batch=1), replace(QUICK, starts=("temple", "noise"))):
        for start, row in rows(layer, recipe).items():
            assert torch.equal(row["image"], together[start]["image"])
            assert row["score"] == together[start]["score"]


def test_row_says_how_it_was_made() -> None:
    found = rows()
    assert list(found) == list(QUICK.starts)
    assert len(found) == LENS.count(settings(QUICK))
    for start, row in found.items():
        assert row["seed"] == seed("toy/mixed", "deepdream", start)
        assert row["recipe"]["size"] == row["image"].shape[0] == 32
        assert row["recipe"]["canvas_size"] == canvas_size(QUICK.ascent, 32)
        assert row["flag"] is None
    assert restored(Recipe, settings(QUICK)) == QUICK


def test_layer_that_never_fires_is_dead() -> None:
    graph = toy.network()
    for branch in ("mixed_1x1", "mixed_3x3"):
        graph.get_submodule(branch).bias.fill_(-1e9)
    found = {start: row["flag"] for start, row in rows(graph=graph).items()}
    assert found == {"noise": "flat", "cat": "dead", "temple": "dead", "flower": "dead"}


def test_picture_that_is_not_a_number_is_flagged_and_not_kept() -> None:
    graph = toy.network()
    graph.get_submodule("mixed_3x3").bias[1] = torch.nan
    for row in rows(graph=graph).values():
        assert (row["flag"], row["image"], row["score"]) == ("nan", None, None)


def test_unknown_picture_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="nearest: cat"):
        rows(recipe=replace(QUICK, starts=("cats",)))


def test_every_quality_starts_from_noise_and_better_ones_from_pictures_too() -> None:
    assert RECIPES["draft"].starts == ("noise",)
    for quality in ("standard", "microscope"):
        first, *others = RECIPES[quality].starts  # type: ignore[index]
        assert first == "noise"
        assert set(others) < set(SOURCES)
        assert len(others) == 3
