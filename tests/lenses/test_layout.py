from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from microscope_atlas.errors import ExtraMissing
from microscope_atlas.lenses.layout import EXACT, Layout, laid_out, refuse_absent

SMALL = Layout(most=64, components=4, perplexity=5, early_steps=200, steps=200)


def clouds(each: int = 20, units: int = 8) -> Tensor:
    """Three clouds of vectors, one after another, each about an axis, of lengths that differ tenfold."""
    stream = torch.Generator().manual_seed(0)
    noise = 0.05 * torch.randn(3 * each, units, generator=stream)
    lengths = torch.rand(3 * each, 1, generator=stream) * 9 + 1
    return (torch.eye(units)[torch.arange(3).repeat_interleave(each)] + noise) * lengths


def test_alike_vectors_lie_together_and_others_apart_whatever_their_lengths() -> None:
    places = laid_out(clouds(), SMALL, 0).places.view(3, 20, 2)
    middles = places.mean(1)
    within = (places - middles[:, None]).norm(dim=2).max()
    between = torch.pdist(middles).min()
    assert between > 2 * within


def test_same_places_for_a_seed_whatever_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(laid_out(clouds(), SMALL, 7).places)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


@pytest.mark.long
def test_same_places_twice_where_repulsion_is_interpolated() -> None:
    many = clouds(each=400)
    settings = replace(SMALL, most=1200)
    assert torch.equal(laid_out(many, settings, 7).places, laid_out(many, settings, 7).places)


def test_places_fill_the_square() -> None:
    places = laid_out(clouds(), SMALL, 0).places
    assert places.min() == 0
    assert places.max() == 1


def test_vector_falls_where_the_nearest_that_was_laid_out_lies() -> None:
    laid = laid_out(clouds(), SMALL, 0)
    assert torch.equal(laid.fall(clouds() * 3), laid.places)
    assert torch.equal(laid.fall(clouds() + 1e-4), laid.places)


def test_units_that_are_dead_change_nothing_but_rounding() -> None:
    padded = torch.cat([clouds(), torch.zeros(60, 5)], 1)
    distances = [torch.pdist(laid_out(each, SMALL, 0).known) for each in (clouds(), padded)]
    assert np.allclose(*distances, atol=1e-5)


@pytest.mark.parametrize("count", [20, EXACT + 1])
@pytest.mark.parametrize("units", [1, 4])
def test_vectors_that_are_all_alike_have_places(count: int, units: int) -> None:
    lengths = torch.linspace(0.1, 7, count)[:, None]
    laid = laid_out(lengths * torch.tensor([[0.3, 0.1, 0.7, 0.2]])[:, :units], SMALL, 0)
    assert laid.places.shape == (count, 2) and not laid.places.any()
    assert laid.fall(torch.ones(3, units)).tolist() == [[0, 0]] * 3


def test_vectors_of_a_lone_unit_have_places_in_the_plane() -> None:
    signs = torch.tensor([[1.0], [-2.0]]).repeat(10, 1)
    places = laid_out(signs, SMALL, 0).places
    assert places.shape == (20, 2) and places.isfinite().all()
    one, other = sorted((places[::2, 0], places[1::2, 0]), key=lambda each: each.max())
    assert one.max() < other.min()


def test_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microscope_atlas.lenses.layout.find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match=r"pip install 'microscope-atlas\[maps\]'"):
        refuse_absent()
