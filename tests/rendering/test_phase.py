from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from microscope_atlas.rendering.ascend import Ascent, Frame, ascend
from microscope_atlas.rendering.canvas import random_spectra
from microscope_atlas.rendering.colour import from_rgb, to_rgb
from microscope_atlas.rendering.objectives import Channel
from microscope_atlas.rendering.phase import Crops, Phase, amplitudes, draw_boxes, planes
from tests import toy

CPU = torch.device("cpu")
GRAPH = toy.network()
NATURAL = amplitudes(torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
CROPS = Crops(count=2, noise=0.1)
SETTINGS = Ascent(steps=12, learning_rate=0.5)


def streams(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def last(units: Sequence[int], crops: Crops = CROPS, settings: Ascent = SETTINGS) -> Frame:
    *_, frame = ascend(
        lambda pictures: GRAPH(pictures, ["mixed"])[0],
        Channel(torch.tensor(units).repeat_interleave(crops.count)),
        units,
        settings,
        32,
        CPU,
        score=Channel(torch.tensor(units)),
        make_canvas=partial(Phase, amplitudes=NATURAL, crops=crops),
    )
    return frame


@pytest.mark.parametrize("size", [16, 23])  # even and odd
def test_planes_are_what_numpy_makes_of_amplitudes_and_phases(size: int) -> None:
    given = random_spectra(streams(1), size, 1.0)[0].abs().sum(-1)
    directions = random_spectra(streams(2, 3), size, 1.0)
    phases = np.angle(torch.view_as_complex(directions).numpy())
    expected = np.fft.irfft2(given.numpy() * np.exp(1j * phases), s=(size, size), norm="ortho")
    np.testing.assert_allclose(planes(given, directions), expected, atol=1e-5)


@pytest.mark.parametrize("size", [16, 23])
def test_amplitudes_are_the_given_ones_whatever_the_phases(size: int) -> None:
    given = random_spectra(streams(1), size, 1.0)[0].abs().sum(-1)
    made = np.abs(np.fft.rfft2(planes(given, 7 * random_spectra(streams(2), size, 1.0))[0], norm="ortho"))
    plain = slice(1, (size + 1) // 2)  # columns that do not mirror themselves
    np.testing.assert_allclose(made[..., plain], given[..., plain], atol=1e-5)
    mirrored = np.roll(given.numpy()[:, ::-1], 1, axis=1)
    assert (made <= (given.numpy() + mirrored) / 2 + 1e-5)[..., [0, -1 if size % 2 == 0 else 0]].all()


def test_amplitudes_of_a_plain_picture_are_its_mean_alone() -> None:
    plain = torch.tensor([0.8, 0.4, 0.3])[None, :, None, None].expand(1, 3, 16, 16)
    found = amplitudes(plain)
    torch.testing.assert_close(found[:, 0, 0], 16 * from_rgb(plain)[0, :, 0, 0].abs())
    found[:, 0, 0] = 0
    assert found.max() < 1e-4


def test_amplitudes_are_the_mean_over_pictures_and_keep_their_contrast() -> None:
    pictures = torch.rand(4, 3, 64, 64, generator=streams(5)[0])
    torch.testing.assert_close(amplitudes(pictures), torch.stack([amplitudes(p[None]) for p in pictures]).mean(0))
    made = planes(amplitudes(pictures), random_spectra(streams(6), 64, 1.0))
    # a mean of amplitudes lies below the root of their mean square
    assert 0.8 < made.std() / from_rgb(pictures).std() < 1.1


def test_amplitudes_hold_no_stripes_where_opposite_edges_differ() -> None:
    ramp = torch.linspace(0.3, 0.7, 64).expand(1, 3, 64, 64)
    across = amplitudes(ramp)[0, 0]
    assert across[8] < 0.01 * across[1]


def test_colours_there_and_back_are_the_same() -> None:
    pictures = torch.rand(2, 3, 8, 8, generator=streams(7)[0]) * 0.9 + 0.05
    torch.testing.assert_close(to_rgb(from_rgb(pictures)), pictures)
    assert from_rgb(torch.tensor([0.0, 1.0, 0.5]).view(1, 3, 1, 1)).isfinite().all()


def test_crops_shrink_about_the_middle() -> None:
    boxes = draw_boxes(streams(*range(4)), 300, Crops(count=5, largest=0.9, smallest=0.2), 100)
    assert boxes.shape == (300, 4, 5, 4)
    torch.testing.assert_close(boxes[[0, -1], 2, 3, 0], torch.tensor([0.9, 0.2]))
    assert (boxes[..., 1] == 0).all()
    assert abs(boxes[..., 2:].mean()) < 1
    assert 14 < boxes[..., 2:].std() < 16
    assert torch.equal(draw_boxes(streams(2), 300, Crops(count=5, largest=0.9, smallest=0.2), 100)[:, 0], boxes[:, 2])


def test_views_are_noisy_crops_that_differ_at_every_step() -> None:
    canvas = Phase(streams(1, 2), 3, 32, CPU, torch.zeros(3, 32, 17), Crops(count=4, noise=0.1))
    first, second = (canvas.views(torch.tensor(step))[0].detach() - 0.5 for step in range(2))
    assert first.shape == (8, 3, 32, 32)
    for noise in (*first, *second):
        assert noise.std() == pytest.approx(0.1, rel=0.1)
    seen = torch.stack([*first, *second]).flatten(1)
    assert (torch.corrcoef(seen) - torch.eye(16)).abs().max() < 0.1


def test_picture_is_seen_only_in_its_own_crops() -> None:
    crops = Crops(count=3, largest=0.5, smallest=0.5, noise=0.0)
    canvas = Phase(streams(1, 2), 2, 32, CPU, NATURAL, crops)
    seen, penalty = canvas.views(torch.tensor(0))
    (gradient,) = torch.autograd.grad(seen[3:].square().sum(), canvas.parameters)
    assert (gradient[0] == 0).all()
    assert gradient[1].abs().max() > 0
    assert (penalty == 0).all()


def test_opacity_is_where_the_gradient_was() -> None:
    crops = Crops(count=4, largest=1.0, smallest=1.0)
    canvas = Phase(streams(1, 2), 20, 32, CPU, NATURAL, crops)
    for step in range(20):
        seen, _ = canvas.views(torch.tensor(step))
        seen[..., :8].square().sum().backward()
    opacity = canvas.opacity()
    assert opacity.shape == (2, 32, 32)
    assert (opacity.amin((1, 2)) >= 0).all()
    assert (opacity.amax((1, 2)) == 1).all()
    assert (opacity[..., :8].mean((1, 2)) > 0.8).all()
    assert (opacity[..., 24:].mean((1, 2)) < 0.1).all()


def test_without_a_gradient_nothing_is_opaque() -> None:
    assert (Phase(streams(1, 2), 1, 32, CPU, NATURAL, CROPS).opacity() == 0).all()


def test_scores_rise() -> None:
    whole = Crops(largest=1.0, smallest=1.0)
    few, many = (last([1, 3], whole, Ascent(steps, learning_rate=0.5)) for steps in (1, 60))
    assert (many.scores > 1.15 * few.scores).all()


@pytest.mark.parametrize("count", [1, 3])
def test_unit_alone_equals_unit_in_batch(count: int) -> None:
    units = list(range(7))
    crops = Crops(count=count)
    together = last(units, crops)
    for some in (1, 2, 3, 5):
        alone = last(units[:some], crops)
        for one, all_ in ((alone.pictures, together.pictures), (alone.scores, together.scores)):
            assert torch.equal(one, all_[:some])
        assert alone.opacity is not None and together.opacity is not None
        assert torch.equal(alone.opacity, together.opacity[:some])


def test_global_random_state_is_neither_read_nor_moved() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = last([1])
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(last([1]).pictures, first.pictures)


def test_frames_on_the_way_change_nothing() -> None:
    def frames(every: int | None) -> list[Tensor]:
        make_canvas = partial(Phase, amplitudes=NATURAL, crops=Crops())
        found = ascend(
            toy.redness, Channel(torch.tensor([0, 0])), [1, 2], SETTINGS, 32, CPU, None, 2, every, make_canvas
        )
        return [frame.pictures for frame in found]

    assert len(frames(3)) == 4
    assert torch.equal(frames(3)[-1], frames(None)[-1])
