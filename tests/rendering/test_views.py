import math

import numpy as np
import pytest
import torch

from microscope_atlas.rendering.views import Views, centre, draw_views, margin, sample_views

STILL = torch.tensor([[1.0, 0.0, 0.0, 0.0]])  # cosine and sine over scale, shifts


def streams(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def numpy_look(canvas: np.ndarray, view: np.ndarray, size: int) -> np.ndarray:
    """One channel, one view, pixel by pixel: rotate about the middle, scale, shift, and interpolate."""
    cos, sin, dx, dy = view
    span = canvas.shape[-1]
    result = np.empty((size, size))
    for row in range(size):
        for column in range(size):
            u, v = column + 0.5 - size / 2, row + 0.5 - size / 2
            x = cos * u - sin * v + dx + span / 2 - 0.5
            y = sin * u + cos * v + dy + span / 2 - 0.5
            x0, y0 = math.floor(x), math.floor(y)
            wx, wy = x - x0, y - y0
            patch = canvas[y0 : y0 + 2, x0 : x0 + 2]
            result[row, column] = np.array([1 - wy, wy]) @ patch @ np.array([1 - wx, wx])
    return result


def test_view_is_what_numpy_sees() -> None:
    stream = torch.Generator().manual_seed(0)
    canvas = torch.rand(3, 3, 40, 40, generator=stream)
    views = draw_views(streams(1, 2, 3), 1, Views(shift=4.0))[0]
    seen = sample_views(canvas, views, 16)
    for i in range(3):
        expected = numpy_look(canvas[i, 1].numpy(), views[i].numpy(), 16)
        np.testing.assert_allclose(seen[i, 1], expected, atol=1e-4)


@pytest.mark.parametrize("size", [15, 16])
def test_still_view_is_the_final_picture(size: int) -> None:
    canvas = torch.rand(1, 3, size + 8, size + 8)
    torch.testing.assert_close(sample_views(canvas, STILL, size), centre(canvas, size))


def test_drawn_views_keep_within_their_bounds_and_use_them() -> None:
    views = Views(rotate_degrees=10, scale=0.1, shift=12)
    drawn = draw_views(streams(*range(4)), 500, views)
    assert drawn.shape == (500, 4, 4)
    scale = 1 / torch.hypot(drawn[..., 0], drawn[..., 1])
    angle = torch.rad2deg(torch.atan2(drawn[..., 1], drawn[..., 0]))
    for values, low, high in ((scale, 0.9, 1.1), (angle, -10, 10), (drawn[..., 2], -12, 12), (drawn[..., 3], -12, 12)):
        span = high - low
        assert low - 1e-3 <= values.min() < low + 0.02 * span
        assert high - 0.02 * span < values.max() <= high + 1e-3


def test_views_depend_on_their_own_stream_alone() -> None:
    together = draw_views(streams(1, 2, 3), 5, Views())
    assert torch.equal(draw_views(streams(2), 5, Views())[:, 0], together[:, 1])


def test_view_does_not_depend_on_its_companions() -> None:
    canvas = torch.rand(9, 3, 60, 60, requires_grad=True)
    views = draw_views(streams(*range(9)), 1, Views())[0]
    together = sample_views(canvas, views, 32)
    gradient = torch.autograd.grad(together.square().sum(), canvas)[0]
    for count in (2, 3, 5):
        alone = sample_views(canvas[:count], views[:count], 32)
        assert torch.equal(alone, together[:count])
        assert torch.equal(torch.autograd.grad(alone.square().sum(), canvas)[0][:count], gradient[:count])


def test_straight_views_stay_on_the_canvas() -> None:
    views = Views(rotate_degrees=0)
    size = 64
    widest = torch.tensor([[1 / (1 - views.scale), 0.0, views.shift, -views.shift]])
    canvas = torch.zeros(1, 1, size + 2 * margin(views, size), size + 2 * margin(views, size))
    bordered = torch.nn.functional.pad(canvas[..., 1:-1, 1:-1], (1, 1, 1, 1), value=1.0)
    # a view that reached past the border would be mirrored back over it
    assert sample_views(bordered, widest, size).sum() <= size * 2
