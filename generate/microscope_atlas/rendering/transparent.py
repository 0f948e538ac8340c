"""The transparent canvas: Fourier with a fourth channel, opacity, so that a picture shows only what matters to a unit.

Behind the picture stands a background that is another one at every step: what the unit does not need is left to it,
and opacity has its price. Mordvintsev et al. 2018, "Generating Semi-Transparent Patterns",
https://distill.pub/2018/differentiable-parameterizations; Lucid's optvis/transform.py, collapse_alpha_random.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from microscope_atlas.rendering import canvas
from microscope_atlas.rendering.colour import to_rgb
from microscope_atlas.rendering.views import Views, at_step, centre, draw_views, margin, sample_views


class Transparent:
    """A canvas of four channels over random backgrounds; the penalty is its mean opacity."""

    def __init__(
        self,
        streams: Sequence[torch.Generator],
        steps: int,
        size: int,
        device: torch.device,
        std: float,  # of the spectra to start from
        views: Views,
        background_std: float,  # of the spectra of the backgrounds
    ):
        self._size, self._background_std = size, background_std
        spectra = canvas.random_spectra(streams, size + 2 * margin(views, size), std, channels=4)
        self.parameters = spectra.to(device).requires_grad_(True)
        self._views = draw_views(streams, steps, views).to(device)
        self.streams: Sequence[torch.Generator] = canvas.device_generators(streams, device)

    def views(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """See Canvas."""
        seen = self.apply_views(self._painted(), step)
        colours, opacity = seen[:, :3], seen[:, 3:]
        behind = canvas.pictures(canvas.random_spectra(self.streams, self._size, self._background_std))
        return behind + opacity * (colours - behind), opacity.flatten(1).mean(1)

    def apply_views(self, pictures: Tensor, step: Tensor) -> Tensor:
        """See Canvas."""
        return sample_views(pictures, at_step(self._views, step), self._size)

    def pictures(self) -> Tensor:
        """See Canvas."""
        return centre(self._painted()[:, :3], self._size)

    def opacity(self) -> Tensor:
        """See Canvas."""
        return centre(self._painted()[:, 3], self._size)

    def _painted(self) -> Tensor:
        """(batch, 4, height, width) in [0, 1]: RGB, and opacity."""
        planes = canvas.planes(self.parameters)
        return torch.cat([to_rgb(planes[:, :3]), planes[:, 3:].sigmoid()], 1)
