from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from microscope_atlas.lenses.caricature import RECIPES, Caricature, Recipe, caricatures
from microscope_atlas.lenses.frames import GENTLE, square
from microscope_atlas.lenses.lens import Row, Subject, seed
from microscope_atlas.lenses.recipe import restored, settings
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.organism import Organism
from microscope_atlas.pictures.sources import FIRST, SOURCES, source
from microscope_atlas.rendering import ascend as loop
from microscope_atlas.rendering.ascend import Ascent, Frame, canvas_size
from microscope_atlas.rendering.canvas import Fourier
from microscope_atlas.rendering.colour import DARKEST
from microscope_atlas.rendering.objectives import cosine
from microscope_atlas.rendering.views import Views, centre
from tests import toy

LENS = Caricature()
GRAPH = toy.network()
TOY = Organism(
    "toy",
    "Toy",
    "",
    2026,
    "nothing",
    32,
    toy.network_to_be_initialised,
    {"conv1": None, "mixed": None, "logits": None},
    (),
)
QUICK = Recipe(Ascent(steps=6, views=GENTLE), max_size=32, sources=("cat", "temple", "flower"), batch=2)
SIZE = 32


def rows(layer: str = "mixed", recipe: Recipe = QUICK, graph: Graph = GRAPH) -> dict[str, Row]:
    subject = Subject(TOY, TOY.layer(layer), torch.device("cpu"), lambda: graph)
    return {row["source"]: row for some in LENS.rows(subject, range(1), recipe) for row in some}


def squares(*names: str, recipe: Recipe = QUICK) -> Tensor:
    return torch.stack([square(source(name), canvas_size(recipe.ascent, SIZE)) for name in names])


def last(pictures: Tensor, layers: Sequence[str], seeds: Sequence[int], recipe: Recipe = QUICK) -> Frame:
    *_, frame = caricatures(GRAPH, pictures, layers, seeds, recipe, SIZE)
    return frame


def test_caricature_keeps_red_where_the_picture_is_red() -> None:
    recipe = Recipe(Ascent(steps=100, views=GENTLE), max_size=None)
    pictures = torch.full((1, 3, *[canvas_size(recipe.ascent, SIZE)] * 2), 0.5)
    # the left half is reddish, but as bright as the grey right one: to the layer, no edge and nothing dark
    pictures[:, :, :, : pictures.shape[-1] // 2] = torch.tensor([0.7, 0.4, 0.4])[:, None, None]
    *_, frame = caricatures(toy.handmade(), pictures, ["conv1"], [0], recipe, SIZE)
    redness = toy.redness(frame.pictures)[0, 0]
    assert redness[:, :12].mean() > 0.5  # of 0.3 in the picture
    assert redness[:, 20:].mean() < 0.1


def test_score_and_cosine_are_those_of_the_picture_and_the_middle_of_its_source() -> None:
    for name, row in rows().items():
        picture = row["image"].permute(2, 0, 1)[None].float() / 255
        acts = [GRAPH(p, ["mixed"])[0].double() for p in (picture, centre(squares(name), SIZE))]
        alike = cosine(*acts).item()
        strength = ((acts[0] * acts[1]).sum() / acts[1].square().sum()).item()
        # the stored pixels are rounded to bytes
        assert row["cosine"] == pytest.approx(alike, abs=0.01)
        assert row["score"] == pytest.approx(strength * max(0.1, alike) ** QUICK.power, abs=0.01)


def test_caricature_is_more_like_its_source_than_like_another() -> None:
    recipe = replace(QUICK, ascent=Ascent(steps=60, views=GENTLE))
    names = ("cat", "temple")
    frame = last(squares(*names, recipe=recipe), ["mixed"] * 2, [0, 1], recipe)
    made = GRAPH(frame.pictures, ["mixed"])[0]
    meant = GRAPH(centre(squares(*names, recipe=recipe), SIZE), ["mixed"])[0]
    alike = np.array([[cosine(a, b) for b in meant] for a in made])
    assert (alike.argmax(1) == [0, 1]).all()
    assert alike.diagonal().min() > 0.8


def test_picture_and_caricature_are_seen_through_the_same_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that starts as a copy of its picture stays one only if both are seen through the same view."""
    seen: list[Tensor] = []

    def objective(acts: Tensor, others: Tensor) -> Tensor:
        seen.append((acts - others).abs().amax().detach())
        return (acts * others).flatten(1).sum(1)

    wild = Ascent(steps=1, views=Views(rotate_degrees=90, scale=0.3, shift=8))
    given = torch.stack([square(source(name), canvas_size(wild, SIZE)) for name in ("cat", "temple")])
    pictures = given.clamp(DARKEST, 1 - DARKEST)
    same = partial(Fourier, std=wild.spectrum_std, views=wild.views, begin=pictures)
    cpu = torch.device("cpu")
    list(loop.ascend(lambda shown: shown, objective, [0, 1], wild, SIZE, cpu, make_canvas=same, references=pictures))
    assert len(seen) == 2  # the step, and the frame's score, for which the picture has been changed
    assert seen[0] < 1e-4
    assert seen[1] > 1e-3


@pytest.mark.parametrize("layer", ["mixed", "logits"])
def test_row_does_not_depend_on_its_companions(layer: str) -> None:
    together = rows(layer, replace(QUICK, batch=3))
    for recipe in (replace(QUICK, batch=1), replace(QUICK, sources=("temple",))):
        for name, row in rows(layer, recipe).items():
            assert torch.equal(row["image"], together[name]["image"])
            assert (row["score"], row["cosine"]) == (together[name]["score"], together[name]["cosine"])


def test_several_layers_in_one_batch_equal_each_alone() -> None:
    layers, names = ["mixed", "conv1", "logits", "conv1"], ["cat", "cat", "temple", "flower"]
    together = last(squares(*names), layers, [1, 2, 3, 4])
    for i, layer in enumerate(layers):
        alone = last(squares(names[i]), [layer], [i + 1])
        assert torch.equal(alone.pictures[0], together.pictures[i])
        assert alone.scores[0] == together.scores[i]


def test_frames_come_as_they_are_made_and_change_nothing() -> None:
    frames = list(caricatures(GRAPH, squares("cat"), ["mixed"], [1], QUICK, SIZE, every=2))
    assert [frame.step for frame in frames] == [2, 4, 6]
    assert frames[0].scores[0] < frames[1].scores[0] < frames[2].scores[0]
    assert torch.equal(frames[-1].pictures, last(squares("cat"), ["mixed"], [1]).pictures)


def test_closing_the_frames_ends_the_work() -> None:
    passes = 0

    class Counted(Graph):
        def forward(self, pictures: Tensor, targets: Sequence[str]) -> list[Tensor]:
            nonlocal passes
            passes += 1
            return GRAPH(pictures, targets)

    frames = caricatures(Counted(), squares("cat"), ["mixed"], [1], QUICK, SIZE, every=1)
    next(frames)
    assert passes == 4  # caricature and picture, in the step and for its frame
    frames.close()
    assert passes == 4
    assert list(frames) == []


def test_row_says_how_it_was_made() -> None:
    found = rows()
    assert list(found) == list(QUICK.sources)
    assert len(found) == LENS.count(settings(QUICK))
    for name, row in found.items():
        assert row["seed"] == seed("toy/mixed", "caricature", name)
        assert row["recipe"]["size"] == row["image"].shape[0] == 32
        assert row["recipe"]["canvas_size"] == canvas_size(QUICK.ascent, 32)
        assert row["flag"] is None
    assert restored(Recipe, settings(QUICK)) == QUICK


def test_layer_that_sees_nothing_leaves_its_canvases_flat() -> None:
    graph = toy.network()
    for branch in ("mixed_1x1", "mixed_3x3"):
        graph.get_submodule(branch).bias.fill_(-1e9)
    found = rows(graph=graph).values()
    assert {(row["flag"], row["score"], row["cosine"]) for row in found} == {("flat", 0.0, 0.0)}


def test_picture_that_is_not_a_number_is_flagged_and_not_kept() -> None:
    graph = toy.network()
    graph.get_submodule("mixed_3x3").bias[1] = torch.nan
    for row in rows(graph=graph).values():
        assert (row["flag"], row["image"], row["score"], row["cosine"]) == ("nan", None, None, None)


def test_recipes_name_pictures_that_come_with_the_package() -> None:
    assert all(set(recipe.sources) <= set(SOURCES) for recipe in RECIPES.values())
    assert RECIPES["standard"].sources == FIRST  # more would be another atlas, and many hours
