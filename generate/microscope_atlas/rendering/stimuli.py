"""Made stimuli: gratings, curves and plain colours, drawn about a point of the picture.

Pictures are (3, size, size), RGB in [0, 1]. Directions are in degrees, 0 to the right and increasing counterclockwise,
as in mathematics: 90 is up. Each picture is drawn alone, so that none depends on what is drawn beside it.
"""

import math
from colorsys import hls_to_rgb
from dataclasses import dataclass

import torch
from torch import Tensor

GREY = 0.5  # of the background, and the mean of a grating


@dataclass(frozen=True)
class Stage:
    """A picture to draw on."""

    size: int  # px on a side
    centre: float  # px from the left border: where stimuli are centred
    device: torch.device
    down: float | None = None  # px from the upper border; None: as many

    def along(self, degrees: float) -> tuple[Tensor, Tensor]:
        """Of every pixel's middle, px from the centre in a direction, and in the one 90 degrees on; (size, size)."""
        at = torch.arange(self.size, dtype=torch.float32, device=self.device)
        down = self.centre if self.down is None else self.down
        right, up = (at + (0.5 - self.centre))[None, :], -(at + (0.5 - down))[:, None]
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        return cos * right + sin * up, cos * up - sin * right


def blank(stage: Stage) -> Tensor:
    """Plain grey."""
    return torch.full((3, stage.size, stage.size), GREY, device=stage.device)


def grating(stage: Stage, orientation: float, frequency: float, phase: float, contrast: float) -> Tensor:
    """A sine wave over the whole picture: `grey + contrast / 2 * cos(2 pi f u + phase)`.

    u is the distance from the centre in the direction `orientation`, across the bars: at 0 degrees they stand upright.
    Frequency in cycles a pixel, at most 0.5; orientation and phase in degrees; contrast 0 to 1.
    """
    across, _ = stage.along(orientation)
    wave = torch.cos(2 * math.pi * frequency * across + math.radians(phase))
    return _grey(GREY + contrast / 2 * wave)


def curve(stage: Stage, direction: float, curvature: float, offset: float, contrast: float, width: float) -> Tensor:
    """A stroke along half a circle on grey, lighter for positive contrast and darker for negative.

    Its middle lies `offset` px from the centre in the direction in which it is hollow, `direction`: at 90 degrees it is
    a cup, at 270 an arch. Curvature is one over the radius in px; at 0 the stroke is straight and crosses the picture.
    The edge of the stroke is softened over one pixel by its signed distance. Contrast -1 to 1.

    After the orientation and the radius of Cammarata et al. 2020, https://distill.pub/2020/circuits/curve-detectors,
    "Synthetic Curves"; Pasupathy and Connor 1999, https://doi.org/10.1152/jn.1999.82.5.2490.
    """
    inward, sideways = stage.along(direction)
    inward = inward - offset
    # distance from the circle, |p - middle| - radius, in a form that holds for lines too
    bend = curvature * (inward**2 + sideways**2) - 2 * inward
    distance = (bend / (1 + torch.hypot(1 - curvature * inward, curvature * sideways))).abs()
    if curvature > 0:  # past the ends of the half circle, distance from the nearer end
        to_end = torch.hypot(inward - 1 / curvature, sideways.abs() - 1 / curvature)
        distance = torch.where(inward * curvature > 1, to_end, distance)
    return _grey(GREY + contrast / 2 * (width / 2 + 0.5 - distance).clamp(0, 1))


def colour(stage: Stage, hue: float, lightness: float) -> Tensor:
    """A plain colour: HSL's (Joblove and Greenberg 1978, https://doi.org/10.1145/965139.807362) at full saturation.

    These are the colours on the surface of the RGB cube: whatever rises steadily with the three is largest there. Hue
    in degrees, 0 red, 120 green, 240 blue; lightness 0 black, 0.5 most vivid, 1 white.
    """
    rgb = torch.tensor(hls_to_rgb(hue / 360, lightness, 1.0), device=stage.device)
    return rgb.clamp(0, 1)[:, None, None].expand(3, stage.size, stage.size)


def _grey(values: Tensor) -> Tensor:
    return values.expand(3, *values.shape)
