import numpy as np
import torch

from microscope_atlas.rendering import canvas
from microscope_atlas.rendering.colour import DARKEST, SQRT_COVARIANCE, from_rgb, to_rgb


def numpy_pictures(spectrum: np.ndarray) -> np.ndarray:
    """The canvas as the formulas say it, in NumPy and float64."""
    size = spectrum.shape[1]
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    scale = 1 / np.maximum(np.sqrt(fy**2 + fx**2), 1 / size)
    decorrelated = np.fft.irfft2(spectrum * scale, s=(size, size), norm="ortho") / 4
    matrix = np.array(SQRT_COVARIANCE)
    matrix /= np.linalg.norm(matrix, axis=0).max()
    return 1 / (1 + np.exp(-np.einsum("rd,dhw->rhw", matrix, decorrelated)))


def streams(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_pictures_are_what_numpy_makes_of_the_spectra() -> None:
    for size in (16, 23):  # even and odd
        spectra = canvas.random_spectra(streams(1, 2), size, std=1.0)
        expected = [numpy_pictures(torch.view_as_complex(s).numpy()) for s in spectra]
        np.testing.assert_allclose(canvas.pictures(spectra), expected, atol=2e-6)


def test_first_pictures_are_nearly_grey() -> None:
    pictures = canvas.pictures(canvas.random_spectra(streams(*range(8)), 64, std=0.01))
    assert (pictures - 0.5).abs().max() < 0.1
    assert pictures.std() > 1e-4


def test_low_frequencies_carry_more_than_high_ones() -> None:
    inverse_frequency = canvas.inverse_frequency(32, torch.device("cpu"))
    assert inverse_frequency[0, 0] == inverse_frequency[0, 1] == 32
    assert inverse_frequency[0, 16] == 2


def test_spectrum_depends_on_its_own_stream_alone() -> None:
    together = canvas.random_spectra(streams(3, 4, 5), 16, 1.0)
    assert torch.equal(canvas.random_spectra(streams(4), 16, 1.0)[0], together[1])


def test_picture_does_not_depend_on_its_companions() -> None:
    spectra = canvas.random_spectra(streams(*range(9)), 40, std=1.0)
    together = canvas.pictures(spectra)
    for count in (2, 3, 5, 8):
        assert torch.equal(canvas.pictures(spectra[:count]), together[:count])


def test_colours_keep_within_zero_and_one() -> None:
    assert to_rgb(torch.full((1, 3, 1, 1), 100.0)).max() <= 1
    assert to_rgb(torch.full((1, 3, 1, 1), -100.0)).min() >= 0
    assert torch.equal(to_rgb(torch.zeros(1, 3, 2, 2)), torch.full((1, 3, 2, 2), 0.5))


def test_pictures_of_the_spectra_of_pictures_are_those_pictures() -> None:
    for size in (16, 23):  # even and odd
        given = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))
        back = canvas.pictures(canvas.from_pictures(given))
        torch.testing.assert_close(back, given.clamp(DARKEST, 1 - DARKEST), atol=1e-5, rtol=0)


def test_spectra_of_a_picture_do_not_depend_on_its_companions() -> None:
    given = torch.rand(9, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    together = canvas.from_pictures(given)
    for count in (2, 3, 5, 8):
        assert torch.equal(canvas.from_pictures(given[:count]), together[:count])


def test_decorrelated_colours_of_rgb_are_those_it_is_made_from() -> None:
    decorrelated = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(from_rgb(to_rgb(decorrelated)), decorrelated, atol=1e-4, rtol=1e-4)
