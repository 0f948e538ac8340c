"""The canvas: pictures kept as their spectra, so that a step of the optimiser moves every frequency equally far.

Olah et al. 2017, https://distill.pub/2017/feature-visualization, "Preconditioning"; Lucid's optvis/param/spatial.py.
What the loop asks of this canvas and of others stands in `Canvas`.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from microscope_atlas.rendering.colour import from_picture, to_picture
from microscope_atlas.rendering.views import Views, at_step, centre, draw_views, margin, sample_views

CONTRAST = 4.0  # Lucid's divisor: at standard deviation 0.01 the first picture is nearly grey


class Canvas(Protocol):
    """Pictures in the making. Each has a random stream of its own, and depends on no other."""

    parameters: Tensor  # (batch, ...), what the optimiser moves
    streams: Sequence[torch.Generator]  # on the device, of what is drawn anew at every step; empty: nothing is

    def views(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """What the network is shown at a step, whose number is on the device, and its penalty.

        Views are (batch * n, channels, size, size), n of each picture in a row. The penalty is the share of a score
        that they cost, (batch * n,); scores below zero pay nothing.
        """

    def apply_views(self, pictures: Tensor, step: Tensor) -> Tensor:
        """Other pictures, as large as the canvas, in the views of a step."""

    def pictures(self) -> Tensor:
        """(batch, channels, size, size) in [0, 1]: grey, RGB, or RGB and opacity."""

    def opacity(self) -> Tensor | None:
        """(batch, size, size) in [0, 1]: how much each place matters; None where all do."""


# random streams, steps, size in px, device -> a canvas with a picture for each stream
CanvasMaker = Callable[[Sequence[torch.Generator], int, int, torch.device], Canvas]


class Fourier:
    """Spectra in decorrelated colour, shown in affine views; of grey pictures one plane, as it is."""

    def __init__(
        self,
        streams: Sequence[torch.Generator],
        steps: int,
        size: int,
        device: torch.device,
        std: float,  # of the spectra to start from
        views: Views,
        begin: Tensor | None = None,  # pictures to start from, as large as the canvas; None: from noise
        channels: int = 3,  # of pictures from noise: 1 grey, 3 RGB, 4 RGB and opacity
    ):
        self._size = size
        self.streams: Sequence[torch.Generator] = ()  # views are drawn beforehand
        if begin is None:
            spectra = random_spectra(streams, size + 2 * margin(views, size), std, channels)
        else:
            spectra = from_pictures(begin)[torch.arange(len(streams)) % len(begin)]
        self.parameters = spectra.to(device).requires_grad_(True)
        self._views = draw_views(streams, steps, views).to(device)
        self._free = torch.zeros(len(streams), device=device)

    def views(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """See Canvas."""
        return self.apply_views(pictures(self.parameters), step), self._free

    def apply_views(self, pictures: Tensor, step: Tensor) -> Tensor:
        """See Canvas."""
        return sample_views(pictures, at_step(self._views, step), self._size)

    def pictures(self) -> Tensor:
        """See Canvas."""
        return centre(pictures(self.parameters), self._size)

    def opacity(self) -> None:
        """See Canvas."""


def random_spectra(streams: Sequence[torch.Generator], size: int, std: float, channels: int = 3) -> Tensor:
    """Spectra to start from, each drawn from its own stream: (batch, channels, size, size // 2 + 1, 2), normal."""
    shape = (channels, size, size // 2 + 1, 2)
    return torch.stack([torch.randn(shape, generator=stream, device=stream.device) * std for stream in streams])


def pictures(spectra: Tensor) -> Tensor:
    """Spectra (batch, channels, ...) -> (batch, channels, size, size), in [0, 1]: grey, RGB, or RGB and opacity."""
    return to_picture(planes(spectra))


def planes(spectra: Tensor) -> Tensor:
    """Spectra -> (batch, channels, size, size), any range.

    Each coefficient is scaled by 1 / max(f, 1 / size), f in cycles a pixel: the amplitudes of natural pictures.
    """
    size = spectra.shape[2]
    scaled = torch.view_as_complex(spectra) * inverse_frequency(size, spectra.device)
    spatial: Tensor = torch.fft.irfft2(scaled, s=(size, size), norm="ortho") / CONTRAST
    return spatial


def from_pictures(pictures: Tensor) -> Tensor:
    """Spectra whose `pictures` are the given ones, (batch, channels, size, size), kept off 0 and 1."""
    decorrelated = from_picture(pictures) * CONTRAST
    scaled = torch.fft.rfft2(decorrelated, norm="ortho")
    return torch.view_as_real(scaled / inverse_frequency(pictures.shape[-1], pictures.device))


@lru_cache(maxsize=4)
def inverse_frequency(size: int, device: torch.device) -> Tensor:
    """1 / max(f, 1 / size) for the frequencies of a real 2-D transform, (size, size // 2 + 1)."""
    vertical = torch.fft.fftfreq(size, device=device)[:, None]
    horizontal = torch.fft.rfftfreq(size, device=device)[None, :]
    return 1.0 / torch.hypot(vertical, horizontal).clamp(min=1.0 / size)


def device_generators(streams: Sequence[torch.Generator], device: torch.device) -> list[torch.Generator]:
    """A stream on `device` for each of `streams`, seeded from it: for what is drawn anew at every step."""
    seeds = [int(torch.randint(2**63 - 1, (), generator=stream)) for stream in streams]
    return [torch.Generator(device).manual_seed(seed) for seed in seeds]
