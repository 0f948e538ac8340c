from collections.abc import Sequence
from functools import partial

import pytest
import torch

from microscope_atlas.rendering import canvas
from microscope_atlas.rendering.ascend import Ascent, Frame, ascend
from microscope_atlas.rendering.objectives import Channel, Neuron
from microscope_atlas.rendering.transparent import Transparent
from microscope_atlas.rendering.views import Views, draw_views, sample_views
from tests import toy

CPU = torch.device("cpu")
VIEWS = Views(rotate_degrees=5, scale=0.05, shift=2)
BACKGROUND = 0.5


def streams(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def stretched(seeds: Sequence[int], opacity: float) -> Transparent:
    """A canvas that is as opaque everywhere: the logit of its opacity is `opacity`."""
    made = Transparent(streams(*seeds), 4, 24, CPU, 0.5, VIEWS, BACKGROUND)
    with torch.no_grad():
        made.parameters[:, 3] = 0
        # the mean alone, whose coefficient is scaled by size in `inverse_frequency`, by 1 / size in the transform
        made.parameters[:, 3, 0, 0, 0] = opacity * canvas.CONTRAST
    return made


def red(objective: type[Channel] | type[Neuron], steps: int = 300) -> Frame:
    """Pictures of a unit that likes red, with opacity."""
    *_, frame = ascend(
        toy.redness,
        objective(torch.tensor([0, 0])),
        [1, 2],
        Ascent(steps=steps),
        24,
        CPU,
        make_canvas=partial(Transparent, std=0.01, views=VIEWS, background_std=BACKGROUND),
    )
    return frame


def test_opaque_picture_hides_its_background() -> None:
    made = stretched([1, 2], opacity=30.0)
    seen, penalty = made.views(torch.tensor(0))
    own = streams(1, 2)
    first = canvas.random_spectra(own, made.parameters.shape[2], 0.5, channels=4)
    expected = sample_views(canvas.pictures(first[:, :3].contiguous()), draw_views(own, 4, VIEWS)[0], 24)
    torch.testing.assert_close(seen, expected)
    torch.testing.assert_close(penalty, torch.ones(2))


def test_behind_a_transparent_picture_stands_another_background_at_every_step() -> None:
    made = stretched([1, 2], opacity=-30.0)
    seen = torch.cat([made.views(torch.tensor(step))[0] for step in range(3)]).flatten(1).detach()
    assert (seen.std(1) > 0.05).all()
    assert (torch.corrcoef(seen) - torch.eye(6)).abs().max() < 0.9
    assert (made.opacity() < 1e-6).all()
    assert made.pictures().std() > 0.1


def test_between_them_view_is_the_mean_and_the_price_the_opacity() -> None:
    def seen(opacity: float) -> torch.Tensor:
        return stretched([1, 2], opacity).views(torch.tensor(0))[0]

    torch.testing.assert_close(seen(0.0), (seen(30.0) + seen(-30.0)) / 2)
    torch.testing.assert_close(stretched([1, 2], 0.0).views(torch.tensor(0))[1], torch.full((2,), 0.5))


def test_centre_neuron_that_likes_red_leaves_red_at_the_centre_and_nothing_elsewhere() -> None:
    frame = red(Neuron)
    assert frame.opacity is not None
    middle = slice(11, 14)
    assert frame.opacity[:, middle, middle].mean() > 0.8
    assert frame.opacity[:, :5].mean() < 0.2
    colour = frame.pictures[:, :, middle, middle].mean((0, 2, 3))
    assert colour[0] > 0.9
    assert colour[1:].max() < 0.1


def test_price_of_opacity_leaves_half_of_a_unit_that_likes_red_everywhere() -> None:
    # over backgrounds whose redness is 0 in the mean, a red picture scores mean(a) (1 - mean(a))
    frame = red(Channel)
    assert frame.opacity is not None
    assert frame.opacity.mean() == pytest.approx(0.5, abs=0.1)


def test_score_is_that_of_the_opaque_picture() -> None:
    frame = red(Channel, steps=5)
    torch.testing.assert_close(frame.scores, toy.redness(frame.pictures).mean((1, 2, 3)))


def test_unit_alone_equals_unit_in_batch() -> None:
    graph = toy.network()
    make_canvas = partial(Transparent, std=0.01, views=VIEWS, background_std=BACKGROUND)

    def last(units: Sequence[int]) -> Frame:
        objective = Channel(torch.tensor(units))
        *_, frame = ascend(
            lambda p: graph(p, ["mixed"])[0], objective, units, Ascent(steps=12), 24, CPU, make_canvas=make_canvas
        )
        return frame

    together = last(range(7))
    for some in (1, 2, 5):
        alone = last(range(some))
        assert torch.equal(alone.pictures, together.pictures[:some])
        assert alone.opacity is not None and together.opacity is not None
        assert torch.equal(alone.opacity, together.opacity[:some])
