"""The phase canvas: pictures with the amplitudes of natural ones, of which only the phases are optimised.

Where everything is where, natural and made pictures alike keep in their phases. With the amplitudes held, no frequency
can grow beyond what nature has, which is where adversarial noise would live; so deep layers, for whose pictures the
Fourier canvas is too free, come out as natural textures and parts. MACO: Fel et al. 2023,
https://arxiv.org/abs/2306.06805.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from microscope_atlas.rendering.canvas import device_generators, random_spectra
from microscope_atlas.rendering.colour import from_picture, to_picture
from microscope_atlas.rendering.views import at_step, sample_views
from microscope_atlas.structure import at_least, between

CENTRES = 0.15  # standard deviation of the crops' centres about the middle, a share of the picture's side; Xplique's
OPAQUE = 0.9  # quantile of a gradient from which on a place is wholly opaque; Horama plots with 0.8


@dataclass(frozen=True)
class Crops:
    """Views of a picture: square parts of it, enlarged to its own size, with noise."""

    count: Annotated[int, between(1, 256)] = 1  # at a step
    largest: Annotated[float, between(0.01, 1)] = 1.0  # side at the first step, a share of the picture's
    smallest: Annotated[float, between(0.01, 1)] = 0.4  # side at the last
    noise: Annotated[float, at_least(0)] = 0.05  # standard deviation, RGB in 0..1


class Phase:
    """Phases under given amplitudes, shown in crops. Opacity is where the gradient was, all steps together."""

    def __init__(
        self,
        streams: Sequence[torch.Generator],
        steps: int,
        size: int,
        device: torch.device,
        amplitudes: Tensor,  # (channels, size, size // 2 + 1), as `amplitudes` below gives them
        crops: Crops,
    ):
        self._size, self._crops = size, crops
        self.parameters = (
            random_spectra(streams, size, std=1.0, channels=len(amplitudes)).to(device).requires_grad_(True)
        )
        self._amplitudes = amplitudes.to(device)
        self._boxes = draw_boxes(streams, steps, crops, size).to(device)
        self.streams: Sequence[torch.Generator] = device_generators(streams, device)
        self._free = torch.zeros(len(streams) * crops.count, device=device)
        self._gradient = torch.zeros(len(streams), size, size, device=device)

    def views(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """See Canvas."""
        shown = self.pictures()
        shown.register_hook(self._gather)  # type: ignore[no-untyped-call]
        seen = self.apply_views(shown, step)
        shape = (self._crops.count, *seen.shape[1:])
        noise = torch.cat([torch.randn(shape, generator=s, device=s.device) for s in self.streams])
        return seen + self._crops.noise * noise, self._free

    def apply_views(self, pictures: Tensor, step: Tensor) -> Tensor:
        """See Canvas."""
        each = pictures[:, None].expand(-1, self._crops.count, -1, -1, -1).flatten(0, 1)
        return sample_views(each, at_step(self._boxes, step).flatten(0, 1), self._size)

    def pictures(self) -> Tensor:
        """See Canvas."""
        return to_picture(planes(self._amplitudes, self.parameters))

    def opacity(self) -> Tensor:
        """See Canvas."""
        opaque = self._gradient.flatten(1).quantile(OPAQUE, 1).clamp(min=1e-30)
        return (self._gradient / opaque[:, None, None]).clamp(max=1)

    def _gather(self, gradient: Tensor) -> None:
        self._gradient += gradient.abs().mean(1)


def planes(amplitudes: Tensor, directions: Tensor) -> Tensor:
    """Amplitudes and complex numbers of any length, whose phases are taken -> (batch, channels, size, size).

    The transform of a real picture mirrors itself in its first and, of even sizes, last column: there the phases of
    mirrored rows are taken together, which can only lessen the amplitude.
    """
    size = directions.shape[2]
    phases = directions / directions.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    spatial: Tensor = torch.fft.irfft2(torch.view_as_complex(phases) * amplitudes, s=(size, size), norm="ortho")
    return spatial


def amplitudes(pictures: Tensor) -> Tensor:
    """Mean amplitudes of (batch, channels, size, size), colours decorrelated: (channels, size, size // 2 + 1).

    Without a window, what a picture's opposite edges differ by would count as fine horizontal and vertical stripes.
    """
    decorrelated = from_picture(pictures)
    mean = decorrelated.mean((2, 3), keepdim=True)
    window = torch.hann_window(pictures.shape[2], device=pictures.device)
    window = window[:, None] * window[None, :]
    windowed = (decorrelated - mean) * window / window.square().mean().sqrt() + mean
    mean_of_all: Tensor = torch.fft.rfft2(windowed, norm="ortho").abs().mean(0)
    return mean_of_all


def draw_boxes(streams: Sequence[torch.Generator], steps: int, crops: Crops, size: int) -> Tensor:
    """Crops for all steps of all pictures, each picture's from its own stream, as views of `sample_views`.

    Sides shrink linearly, centres are normal about the middle; (steps, batch, count, 4).
    """
    centres = torch.stack([torch.randn((steps, crops.count, 2), generator=stream) for stream in streams], 1)
    side = torch.linspace(crops.largest, crops.smallest, steps)[:, None, None].expand(centres.shape[:3])
    return torch.stack([side, torch.zeros_like(side), *(centres * CENTRES * size).unbind(-1)], -1)
