from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from microscope_atlas.rendering.ascend import Ascent, Frame, Precision, ascend, canvas_size, learning_rates
from microscope_atlas.rendering.canvas import Fourier
from microscope_atlas.rendering.objectives import (
    Caricature,
    Channel,
    DeepDream,
    Direction,
    Diverse,
    Neuron,
    Objective,
    similarity,
)
from microscope_atlas.rendering.phase import Crops, Phase, amplitudes
from microscope_atlas.rendering.transparent import Transparent
from microscope_atlas.rendering.views import Views, centre, draw_views, sample_views
from tests import toy

CPU = torch.device("cpu")
GRAPH = toy.network()
SETTINGS = Ascent(steps=24)


def activations(node: str) -> Callable[[Tensor], Tensor]:
    return lambda pictures: GRAPH(pictures, [node])[0]


def last(objective: Objective, seeds: Sequence[int], node: str = "mixed", settings: Ascent = SETTINGS) -> Frame:
    *_, frame = ascend(activations(node), objective, seeds, settings, 32, CPU)
    return frame


def channel(units: Sequence[int]) -> Channel:
    return Channel(torch.tensor(units))


def test_picture_of_a_unit_that_likes_red_is_red() -> None:
    *_, frame = ascend(toy.redness, channel([0, 0]), [1, 2], Ascent(steps=600), 24, CPU)
    red, green, blue = frame.pictures.mean((0, 2, 3)).tolist()
    assert red > 0.9
    assert max(green, blue) < 0.1
    assert (frame.scores > 0.85).all()


def test_minimised_the_same_unit_shows_the_contrary() -> None:
    *_, frame = ascend(toy.redness, Direction(channel([0, 0]), -1), [1, 2], Ascent(steps=600), 24, CPU)
    assert frame.pictures[:, 0].mean() < 0.1
    assert (frame.scores > 0.85).all()


def test_scores_rise() -> None:
    frames = list(ascend(activations("mixed"), channel([0, 9]), [1, 2], SETTINGS, 32, CPU, every=1))
    assert (frames[-1].scores > 2 * frames[0].scores + 0.1).all()


@pytest.mark.parametrize("precision", get_args(Precision))
def test_score_is_the_objective_in_float32_on_exactly_the_frames_pictures(precision: Precision) -> None:
    frame = last(channel([3, 4]), [1, 2], settings=replace(SETTINGS, precision=precision))
    shown = frame.pictures.contiguous(memory_format=torch.channels_last)
    assert torch.equal(frame.scores, channel([3, 4])(activations("mixed")(shown)))


@pytest.mark.parametrize("precision", get_args(Precision))
def test_unit_alone_equals_unit_in_batch(precision: Precision) -> None:
    units, settings = list(range(16)), replace(SETTINGS, precision=precision)
    together = last(channel(units), units, settings=settings)
    for count in (1, 2, 3, 5, 8):
        alone = last(channel(units[:count]), units[:count], settings=settings)
        assert torch.equal(alone.pictures, together.pictures[:count])
        assert torch.equal(alone.scores, together.scores[:count])


def of_canvas(kind: str, size: int, units: Sequence[int]) -> Frame:
    """Pictures of units, whose seeds are their numbers, on a canvas of any kind."""
    settings, views = Ascent(steps=12), Views(shift=3.0)
    canvas = canvas_size(replace(settings, views=views), size)
    given = torch.stack([torch.rand(3, canvas, canvas, generator=torch.Generator().manual_seed(u)) for u in units])
    objective: Callable[..., Tensor] = channel(units)
    stretch, score, beside = None, None, None
    if kind == "phase":
        natural = amplitudes(torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0)))
        stretch = partial(Phase, amplitudes=natural, crops=Crops(count=2))
        objective, score = Channel(torch.tensor(units).repeat_interleave(2)), objective
    elif kind == "transparent":
        stretch = partial(Transparent, std=0.01, views=views, background_std=0.5)
    elif kind == "deepdream":
        stretch = partial(Fourier, std=0.01, views=views, begin=given)
        objective = DeepDream()
    elif kind == "caricature":
        objective, beside = Caricature(2.0), given
    settings = replace(settings, views=views)
    *_, frame = ascend(
        *(activations("mixed"), objective, units, settings, size, CPU, score),
        make_canvas=stretch,
        references=beside,
        robust_views=8,
    )
    return frame


@pytest.mark.parametrize("kind", ["fourier", "phase", "transparent", "deepdream", "caricature"])
@pytest.mark.parametrize("size", [49, 53])  # of which no canvas' numbers fill the processor's vectors
def test_last_of_a_batch_is_made_as_the_others_are(kind: str, size: int) -> None:
    units = [3, 5, 8, 13, 21]
    together = of_canvas(kind, size, units)
    for count in (1, 2, 3, 4):
        fewer = of_canvas(kind, size, units[:count])
        assert fewer.pictures.equal(together.pictures[:count])
        assert fewer.scores.equal(together.scores[:count])
        assert fewer.robust is not None
        assert together.robust is not None
        assert fewer.robust.equal(together.robust[:count])
        if fewer.opacity is not None and together.opacity is not None:
            assert fewer.opacity.equal(together.opacity[:count])


def test_learning_rate_falls_straight_from_the_first_step_to_the_last() -> None:
    assert learning_rates(Ascent(steps=3)) == [0.05] * 3
    assert learning_rates(Ascent(steps=3, learning_rate=0.2, last_learning_rate=0.1)) == pytest.approx([0.2, 0.15, 0.1])
    assert learning_rates(Ascent(steps=1, learning_rate=0.2, last_learning_rate=0.1)) == [0.2]


def test_steps_are_as_long_as_the_learning_rate_says() -> None:
    """With neither mean kept, Adam moves each number by just the rate, whatever its gradient."""
    settings = Ascent(steps=3, learning_rate=0.2, last_learning_rate=0.1, beta1=0, beta2=0)
    canvases = []

    def moved(*given: Any) -> Fourier:
        canvases.append(Fourier(*given, std=0.01, views=Views()))
        return canvases[0]

    frames = ascend(toy.redness, channel([0, 0]), [1, 2], settings, 24, CPU, every=1, make_canvas=moved)
    before, found = None, []
    for _ in frames:
        now = canvases[0].parameters.detach().clone()
        if before is not None:
            found.append((now - before).abs().max().item())
        before = now
    assert found == pytest.approx([0.15, 0.1], rel=1e-3)


def test_robust_score_is_the_mean_over_views_of_the_finished_picture() -> None:
    settings = replace(SETTINGS, views=Views(shift=3.0))
    *_, plain = ascend(activations("mixed"), channel([3, 4]), [1, 2], settings, 32, CPU)
    *_, frame = ascend(activations("mixed"), channel([3, 4]), [1, 2], settings, 32, CPU, robust_views=5)
    assert plain.robust is None
    assert frame.robust is not None
    assert torch.equal(frame.pictures, plain.pictures)
    drawn = draw_views([torch.Generator().manual_seed(each) for each in (1, 2)], 5, settings.views)
    scores = [channel([3, 4])(activations("mixed")(sample_views(frame.pictures, view, 32))) for view in drawn]
    assert torch.allclose(frame.robust, torch.stack(scores).mean(0), rtol=1e-5)


def test_robust_score_of_a_picture_that_is_fitted_to_one_look_is_low() -> None:
    """Which it is when it never was turned, scaled or shifted while it was made."""
    still = replace(SETTINGS, steps=60, views=Views(0, 0, 0))
    fitted, free = last(channel([3, 4]), [1, 2], settings=still), last(channel([3, 4]), [1, 2])

    def share(frame: Frame) -> Tensor:
        drawn = draw_views([torch.Generator().manual_seed(each) for each in (1, 2)], 16, Views())
        views = [channel([3, 4])(activations("mixed")(sample_views(frame.pictures, view, 32))) for view in drawn]
        return torch.stack(views).mean(0) / frame.scores

    assert (share(fitted) < share(free)).all()


def test_lower_precision_is_the_networks_and_not_the_objectives() -> None:
    products, objectives = [], []

    def looked(pictures: Tensor) -> Tensor:
        products.append(torch.nn.functional.conv2d(pictures, torch.ones(2, 3, 1, 1)))
        return products[-1]

    def judged(acts: Tensor) -> Tensor:
        objectives.append(acts @ acts.transpose(-1, -2))
        return acts.flatten(1).mean(1)

    *_, frame = ascend(looked, judged, [1, 2], Ascent(steps=2, precision="bfloat16"), 16, CPU)
    assert [product.dtype for product in products] == [torch.bfloat16, torch.bfloat16, torch.float32]
    assert {product.dtype for product in objectives} == {torch.float32}
    assert frame.pictures.dtype == frame.scores.dtype == torch.float32


def test_place_in_the_batch_does_not_matter() -> None:
    forward, backward = last(channel([1, 2, 3]), [1, 2, 3]), last(channel([3, 2, 1]), [3, 2, 1])
    assert torch.equal(forward.pictures, backward.pictures.flip(0))


@pytest.mark.parametrize("objective", [Neuron, lambda u: Direction(Channel(u), -1), lambda u: Direction(Neuron(u), -1)])
def test_companions_do_not_matter_under_any_objective(objective: Callable[[Tensor], Objective]) -> None:
    units = torch.arange(6)
    together = last(objective(units), range(6), "mixed_pre")
    alone = last(objective(units[:1]), [0], "mixed_pre")
    assert torch.equal(alone.pictures, together.pictures[:1])


def test_dense_unit_alone_equals_unit_in_batch() -> None:
    together = last(channel(range(6)), range(6), "logits")
    assert torch.equal(last(channel([0]), [0], "logits").pictures, together.pictures[:1])


def test_sets_of_variants_do_not_depend_on_other_sets() -> None:
    units = torch.tensor([1, 1, 1, 5, 5, 5])
    together = last(Diverse(Channel(units), 3, 1.0), range(6))
    alone = last(Diverse(Channel(units[:3]), 3, 1.0), range(3))
    assert torch.equal(alone.pictures, together.pictures[:3])


def test_more_companions_than_pictures_change_nothing() -> None:
    *_, padded = ascend(activations("mixed"), channel([1, 2]), [1, 2], SETTINGS, 32, CPU, min_batch=7)
    assert torch.equal(padded.pictures, last(channel([1, 2]), [1, 2]).pictures)


def test_frames_on_the_way_change_nothing() -> None:
    frames = list(ascend(activations("mixed"), channel([1, 2]), [1, 2], SETTINGS, 32, CPU, every=5))
    assert [frame.step for frame in frames] == [5, 10, 15, 20, 24]
    assert torch.equal(frames[-1].pictures, last(channel([1, 2]), [1, 2]).pictures)


def test_seed_decides_the_picture() -> None:
    assert torch.equal(last(channel([1]), [7]).pictures, last(channel([1]), [7]).pictures)
    assert not torch.equal(last(channel([1]), [7]).pictures, last(channel([1]), [8]).pictures)


def test_global_random_state_is_neither_read_nor_moved() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = last(channel([1]), [7])
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(last(channel([1]), [7]).pictures, first.pictures)


def test_pictures_have_the_asked_size_and_range() -> None:
    frame = last(channel([1, 2]), [1, 2])
    assert frame.pictures.shape == (2, 3, 32, 32)
    assert frame.pictures.min() >= 0
    assert frame.pictures.max() <= 1


def test_dead_unit_is_found_through_the_redirected_rectifier() -> None:
    def seldom(pictures: Tensor) -> Tensor:  # silent on the first, nearly grey canvas
        return torch.relu(toy.redness(pictures) - 0.06)

    def shown(steps: int) -> float:
        *_, frame = ascend(seldom, channel([0, 0]), [1, 2], Ascent(steps=200, redirect_steps=steps), 24, CPU)
        return frame.scores.min().item()

    assert shown(0) == 0
    assert shown(16) > 0.3


def test_variants_of_a_diverse_set_differ_more_than_those_of_none() -> None:
    def likeness(weight: float) -> float:
        units = torch.tensor([3, 3, 3, 3])
        *_, frame = ascend(
            activations("mixed"),
            Diverse(Channel(units), 4, weight),
            range(4),
            Ascent(steps=60),
            32,
            CPU,
            Channel(units),
        )
        return similarity(activations("mixed")(frame.pictures), 4).mean().item()

    assert 1 - likeness(2.0) > 2 * (1 - likeness(0.0))


def test_ascent_starts_from_the_pictures_given() -> None:
    still = Ascent(steps=1, learning_rate=1e-9)
    given = torch.rand(3, 3, *[canvas_size(still, 32)] * 2, generator=torch.Generator().manual_seed(0)) * 0.96 + 0.02
    make_canvas = partial(Fourier, std=still.spectrum_std, views=still.views, begin=given)
    *_, frame = ascend(activations("mixed"), channel([1, 2, 3]), [1, 2, 3], still, 32, CPU, make_canvas=make_canvas)
    torch.testing.assert_close(frame.pictures, centre(given, 32), atol=1e-4, rtol=0)


def test_no_gradient_flows_through_pictures_beside() -> None:
    references = torch.rand(1, 3, *[canvas_size(SETTINGS, 32)] * 2)
    flowing = []

    def objective(acts: Tensor, others: Tensor) -> Tensor:
        flowing.append((acts.requires_grad, others.requires_grad))
        return (acts * others).flatten(1).mean(1)

    next(ascend(activations("mixed"), objective, [1], SETTINGS, 32, CPU, every=1, references=references))
    assert flowing == [(True, False), (False, False)]
