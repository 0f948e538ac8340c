from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from microscope_atlas.errors import LensFailed
from microscope_atlas.lenses.activation_sample import Sample, Spilled, sampled, within
from microscope_atlas.lenses.lens import Subject
from microscope_atlas.models.organism import Organism
from microscope_atlas.pictures.picture_set import PictureSet
from tests import toy

TOY = Organism(
    "toy", "Toy", "", 2026, "nothing", 32, toy.network_to_be_initialised, {"mixed": None, "logits": None}, (),
    name_classes=lambda: tuple("abcdefghij"),
)  # fmt: skip


def noise(count: int, dark: Sequence[int] = ()) -> PictureSet:
    def read(number: int) -> Image.Image:
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        return Image.fromarray(pixels * (number not in dark))

    return PictureSet("noise", "1", count, read, str)


def subject(layer: str = "mixed", known: Organism = TOY) -> Subject:
    return Subject(known, known.layer(layer), torch.device("cpu"), toy.network)


def test_vectors_are_the_layers_activations_at_their_places() -> None:
    pictures = noise(5)
    with sampled(subject(), pictures, 40, 2) as sample:
        (batch,) = pictures.batches(32, 5, torch.device("cpu"))
        acts, logits = toy.network()(batch, ["mixed", "logits"])
        expected = acts.flatten(2)[sample.pictures, :, sample.places]
        assert torch.allclose(sample.vectors.between(0, 40), expected, atol=1e-5)
        assert sample.logits is not None
        assert torch.allclose(sample.logits.between(0, 5), logits, atol=1e-5)


def test_each_picture_gives_as_many_and_no_place_twice_nor_at_the_edge() -> None:
    with sampled(subject(), noise(4), 42, 3) as sample:
        assert np.bincount(sample.pictures).tolist() == [10, 11, 10, 11]
        assert len(set(zip(sample.pictures, sample.places, strict=True))) == 42
        rows, columns = np.divmod(sample.places, sample.shape[1])
        assert sample.shape == (8, 8)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 6, 1, 6)


def test_all_places_are_taken_where_more_are_asked_for() -> None:
    with sampled(subject(), noise(2), 10_000, 2) as sample:
        assert sample.vectors.length == 2 * 36


def test_places_do_not_depend_on_the_batch() -> None:
    with sampled(subject(), noise(5), 50, 2) as one, sampled(subject(), noise(5), 50, 4) as other:
        assert np.array_equal(one.places, other.places)
        assert torch.equal(one.vectors.between(0, 50), other.vectors.between(0, 50))


def test_silent_and_broken_vectors_are_left_out_and_counted() -> None:
    sample = Sample()
    vectors = torch.tensor([[1.0, 2.0], [0.0, 0.0], [torch.nan, 1.0], [0.0, torch.inf], [0.0, 3.0]])
    with sample:
        sample.add(7, torch.arange(5), vectors)
        assert sample.vectors.between(0, 2).tolist() == [[1, 2], [0, 3]]
        assert (sample.places.tolist(), sample.pictures.tolist()) == ([0, 4], [7, 7])
        assert (sample.num_silent, sample.num_not_finite) == (1, 2)


def test_layer_without_places_is_refused() -> None:
    with pytest.raises(LensFailed, match="toy/logits has no places"):
        sampled(subject("logits"), noise(2), 10, 2)


def test_edge_is_left_out_of_maps_that_have_a_middle() -> None:
    assert within(3, 4).tolist() == [5, 6]
    assert within(2, 3).tolist() == [1, 4]
    assert within(1, 1).tolist() == [0]


def test_spilled_rows_come_back_as_they_were(tmp_path: Path) -> None:
    spilled, rows = Spilled(), torch.rand(7, 3)
    spilled.append(rows[:4])
    spilled.append(rows[4:])
    assert torch.equal(spilled.between(2, 6), rows[2:6])
    assert torch.equal(spilled.numbered([5, 0]), rows[[5, 0]])
    spilled.close()
