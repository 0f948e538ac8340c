import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from microscope_atlas.rendering.stimuli import Stage, blank, colour, curve, grating

CPU = torch.device("cpu")
STAGE = Stage(40, 22.5, CPU)


def plane(stage: Stage) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far right of and above the centre the middle of every pixel is."""
    rows, columns = np.mgrid[: stage.size, : stage.size] + 0.5
    return columns - stage.centre, stage.centre - rows


@pytest.mark.parametrize("orientation", [0, 30, 90, 135])
def test_grating_is_the_wave_that_numpy_draws(orientation: float) -> None:
    right, up = plane(STAGE)
    fx, fy = 0.1 * np.cos(np.radians(orientation)), 0.1 * np.sin(np.radians(orientation))
    wave = np.exp(2j * np.pi * (fx * right + fy * up) + 1j * np.radians(50)).real
    drawn = grating(STAGE, orientation, 0.1, 50, 0.8).numpy()
    assert drawn.shape == (3, 40, 40)
    np.testing.assert_allclose(drawn, np.broadcast_to(0.5 + 0.4 * wave, drawn.shape), atol=1e-5)


def coverage(stage: Stage, direction: float, curvature: float, offset: float, width: float) -> NDArray[np.float64]:
    """How much of every pixel a stroke along half a circle covers, counted on a fine grid of points within it.

    The stroke is a string of 20,000 points here, and what lies within half a width of any of them.
    """
    towards = np.array([math.cos(math.radians(direction)), math.sin(math.radians(direction))])
    along = np.array([-towards[1], towards[0]])
    if curvature:
        angle = np.linspace(-np.pi / 2, np.pi / 2, 20_000)[:, None]
        points = (towards * (1 - np.cos(angle)) + along * np.sin(angle)) / curvature
    else:
        points = along * np.linspace(-2 * stage.size, 2 * stage.size, 20_000)[:, None]
    points = points + offset * towards
    right, up = plane(stage)
    fine = (np.arange(4) + 0.5) / 4 - 0.5
    covered = np.zeros_like(right)
    for dx in fine:
        for dy in fine:
            at = np.stack([right + dx, up + dy], -1).reshape(-1, 2)
            nearest = np.array([np.hypot(*(points[::10] - p).T).min() for p in at])
            covered += (nearest < width / 2).reshape(covered.shape) / 16
    return covered


@pytest.mark.parametrize(
    ("direction", "curvature", "offset"), [(0, 0.0, 2.0), (90, 0.1, 0.0), (200, 0.05, -3.0), (315, 0.25, 1.0)]
)
def test_curve_covers_the_pixels_that_points_along_it_cover(direction: float, curvature: float, offset: float) -> None:
    stage = Stage(24, 13.0, CPU)
    drawn = curve(stage, direction, curvature, offset, 1.0, 3.0).numpy()
    covered = coverage(stage, direction, curvature, offset, 3.0)
    assert np.abs((drawn[0] - 0.5) * 2 - covered).max() < 0.2  # softening by distance is not quite covered area
    assert np.abs((drawn[0] - 0.5) * 2 - covered).mean() < 0.01


def test_curve_is_hollow_towards_its_direction() -> None:
    cup = curve(STAGE, 90, 1 / 8, 0, 1.0, 2.0)[0] > 0.75
    rows, columns = (axis.float() + 0.5 for axis in cup.nonzero().unbind(1))
    assert rows.max() == pytest.approx(22.5 + 1, abs=1)  # its lowest point is the centre
    assert rows.min() == pytest.approx(22.5 - 8 - 1, abs=1)  # its ends are one radius up
    assert (columns.min().item(), columns.max().item()) == pytest.approx((22.5 - 9, 22.5 + 9), abs=1)


def test_straight_line_is_the_limit_of_large_circles() -> None:
    line = curve(STAGE, 60, 0.0, 1.5, 1.0, 3.0)
    assert torch.allclose(line, curve(STAGE, 60, 1e-6, 1.5, 1.0, 3.0), atol=1e-3)
    assert torch.allclose(line, curve(STAGE, 240, 0.0, -1.5, 1.0, 3.0), atol=1e-4)


def test_dark_curve_is_the_light_one_inverted() -> None:
    light, dark = (curve(STAGE, 10, 0.1, 0, contrast, 3.0) for contrast in (0.6, -0.6))
    assert torch.allclose(light + dark, torch.ones(()))
    assert light.max() == pytest.approx(0.8)


@pytest.mark.parametrize(("hue", "lightness"), [(0, 0.5), (75, 0.3), (200, 0.75), (359, 0.1), (120, 0.0), (40, 1.0)])
def test_colour_is_on_the_surface_of_the_rgb_cube(hue: float, lightness: float) -> None:
    """HSL at full saturation: the hexagonal hue, mixed with black or white."""
    vivid = np.clip(np.abs((hue / 60 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    expected = vivid * 2 * lightness if lightness <= 0.5 else vivid + (1 - vivid) * (2 * lightness - 1)
    drawn = colour(STAGE, hue, lightness)
    assert drawn.shape == (3, 40, 40)
    np.testing.assert_allclose(drawn[:, 3, 7], expected, atol=1e-6)
    assert torch.equal(drawn.amin((1, 2)), drawn.amax((1, 2)))


def test_blank_is_what_a_stimulus_without_contrast_is() -> None:
    assert torch.equal(blank(STAGE), grating(STAGE, 20, 0.1, 0, 0.0))
    assert torch.equal(blank(STAGE), curve(STAGE, 20, 0.1, 0, 0.0, 3.0))
