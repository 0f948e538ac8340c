"""Decorrelated colour: a space in which equal steps change natural pictures equally much.

The matrix is the Cholesky-like square root of the colour covariance of ImageNet, divided by its largest column norm:
Olah et al. 2017, https://distill.pub/2017/feature-visualization, and Lucid's optvis/param/color.py.
"""

import math

import torch
from torch import Tensor

SQRT_COVARIANCE = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
LARGEST = max(math.hypot(*column) for column in zip(*SQRT_COVARIANCE, strict=True))
DARKEST = 1 / 64  # where logits, which are infinite at 0 and 1, are cut


def to_rgb(decorrelated: Tensor) -> Tensor:
    """(batch, 3, height, width), any range -> RGB in [0, 1]: `sigmoid(M d)` at every pixel.

    Written out: a matrix product would round differently with the number of pictures.
    """
    first, second, third = decorrelated.unbind(1)
    mixed = [[share / LARGEST for share in row] for row in SQRT_COVARIANCE]
    rgb = [(a * first).add(second, alpha=b).add(third, alpha=c) for a, b, c in mixed]
    return torch.stack(rgb, 1).sigmoid()


def to_picture(planes: Tensor) -> Tensor:
    """Planes (batch, 1, 3 or 4, height, width), any range -> grey, RGB, or RGB and opacity in [0, 1].

    Three planes are decorrelated colour, see `to_rgb`. A plane that stands for itself, grey or opacity, is its sigmoid.
    """
    if planes.shape[1] == 1:
        return planes.sigmoid()
    if planes.shape[1] == 3:
        return to_rgb(planes)
    return torch.cat([to_rgb(planes[:, :3]), planes[:, 3:].sigmoid()], 1)


def from_picture(pictures: Tensor) -> Tensor:
    """What `to_picture` makes pictures from, first kept off 0 and 1."""
    colours, rest = (pictures[:, :3], pictures[:, 3:]) if pictures.shape[1] > 1 else (None, pictures)
    plain = rest.clamp(DARKEST, 1 - DARKEST).logit()
    return plain if colours is None else torch.cat([from_rgb(colours), plain], 1)


def from_rgb(rgb: Tensor) -> Tensor:
    """RGB (batch, 3, height, width) -> what `to_rgb` makes it from: `M^-1 logit(rgb)`; first kept off 0 and 1."""
    inverse = torch.linalg.inv(torch.tensor(SQRT_COVARIANCE, dtype=torch.float64) / LARGEST).tolist()
    red, green, blue = rgb.clamp(DARKEST, 1 - DARKEST).logit().unbind(1)
    return torch.stack([a * red + b * green + c * blue for a, b, c in inverse], 1)
