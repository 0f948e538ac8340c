"""Random views: what the network is shown of a canvas at one step.

A picture that excites a unit however it is shifted, turned or scaled a little holds structure and not high-frequency
noise (Olah et al. 2017, https://distill.pub/2017/feature-visualization, "Transformation robustness"). Lucid chains four
transforms; one affine sample does the same in one pass over the pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from microscope_atlas.structure import between


@dataclass(frozen=True)
class Views:
    """How far views differ."""

    rotate_degrees: Annotated[float, between(0, 180)] = 10.0  # uniform to either side
    scale: Annotated[float, between(0, 0.9)] = 0.1  # uniform in 1 - scale .. 1 + scale
    shift: Annotated[float, between(0, 256)] = 12.0  # px, uniform to either side, in both axes


def margin(views: Views, size: int) -> int:
    """Pixels of canvas that views of `size` px can reach on each side of the final picture; an even number.

    The corner of a view that is turned and enlarged looks past this; the canvas is mirrored there.
    """
    beyond = size / 2 * (1 / (1 - views.scale) - 1) + views.shift
    return 2 * math.ceil(beyond / 2)


def draw_views(streams: Sequence[torch.Generator], steps: int, views: Views) -> Tensor:
    """Views for all steps of all canvases, each canvas from its own stream.

    Returns (steps, batch, 4): cosine and sine of the rotation over the scale, horizontal and vertical shift in px.
    """
    uniform = torch.stack([torch.rand((steps, 4), generator=stream) * 2 - 1 for stream in streams], 1)
    angle = uniform[..., 0] * math.radians(views.rotate_degrees)
    scale = 1 + uniform[..., 1] * views.scale
    return torch.stack([angle.cos() / scale, angle.sin() / scale, *(uniform[..., 2:] * views.shift).unbind(-1)], -1)


def at_step(views: Tensor, step: Tensor) -> Tensor:
    """Of what was drawn for all steps, (steps, ...), that of one; `step` is on the device, and is not waited for."""
    return views.index_select(0, step.reshape(1))[0]


def sample_views(canvas: Tensor, view: Tensor, size: int) -> Tensor:
    """Views (batch, 4) of canvases (batch, 3, h, w): (batch, 3, size, size), bilinear, mirrored past the border.

    Each canvas meets only its own view. The grid is written out by element: a matrix product would round differently
    with the number of canvases.
    """
    span = canvas.shape[-1]
    offset = (torch.arange(size, device=canvas.device) + 0.5) - size / 2
    cos, sin, dx, dy = (v[:, None, None] for v in view.unbind(1))
    x = (cos * offset[None, None, :] - sin * offset[None, :, None] + dx) * (2 / span)
    y = (sin * offset[None, None, :] + cos * offset[None, :, None] + dy) * (2 / span)
    return F.grid_sample(canvas, torch.stack([x, y], -1), padding_mode="reflection", align_corners=False)


def centre(canvas: Tensor, size: int) -> Tensor:
    """The final picture: the middle `size` px of each canvas, which every view shows."""
    edge = (canvas.shape[-1] - size) // 2
    return canvas[..., edge : edge + size, edge : edge + size]
