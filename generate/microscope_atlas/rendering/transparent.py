"""The transparent canvas: Fourier with one channel more, opacity, so that a picture shows only what matters to a unit.

Behind the picture stands a background that is another one at every step: what the unit does not need is left to it,
and opacity has its price. Mordvintsev et al. 2018, "Generating Semi-Transparent Patterns",
https://distill.pub/2018/differentiable-parameterizations; Lucid's optvis/transform.py, collapse_alpha_random.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from microscope_atlas.rendering import canvas
from microscope_atlas.rendering.colour import to_picture
from microscope_atlas.rendering.views import Views, at_step, centre, draw_views, margin, sample_views


class Transparent:
    """A canvas with one channel more, opacity, over random backgrounds; the penalty is its mean."""

    def __init__(
        self,
        streams: Sequence[torch.Generator],
        steps: int,
        size: int,
        device: torch.device,
        std: float,  # of the spectra to start from
        views: Views,
        background_std: float,  # of the spectra of the backgrounds
        channels: int = 3,  # 1: grey; 3: RGB
    ):
        self._size, self._background_std, self._channels = size, background_std, channels
        spectra = canvas.random_spectra(streams, size + 2 * margin(views, size), std, channels + 1)
        self.parameters = spectra.to(device).requires_grad_(True)
        self._views = draw_views(streams, steps, views).to(device)
        self.streams: Sequence[torch.Generator] = canvas.device_generators(streams, device)

    def views(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """See Canvas."""
        seen = self.apply_views(self._painted(), step)
        colours, opacity = seen[:, :-1], seen[:, -1:]
        behind = canvas.pictures(canvas.random_spectra(self.streams, self._size, self._background_std, self._channels))
        return behind + opacity * (colours - behind), opacity.flatten(1).mean(1)

    def apply_views(self, pictures: Tensor, step: Tensor) -> Tensor:
        """See Canvas."""
        return sample_views(pictures, at_step(self._views, step), self._size)

    def pictures(self) -> Tensor:
        """See Canvas."""
        return centre(self._painted()[:, :-1], self._size)

    def opacity(self) -> Tensor:
        """See Canvas."""
        return centre(self._painted()[:, -1], self._size)

    def _painted(self) -> Tensor:
        """(batch, channels + 1, height, width) in [0, 1]: the colours, and opacity."""
        planes = canvas.planes(self.parameters)
        return torch.cat([to_picture(planes[:, :-1]), planes[:, -1:].sigmoid()], 1)
