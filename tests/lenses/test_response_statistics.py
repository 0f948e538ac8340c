import weakref
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from microscope_atlas.lenses.response_statistics import (
    AT_ONCE,
    PER_PHOTO,
    SCORES,
    ResponseStatistics,
    TopK,
    gather,
    reduced,
)
from microscope_atlas.models.networks.graph import Graph
from tests import toy

LAYERS = ("conv1", "mixed", "logits")


def statistics(length: int, top: int = 3) -> ResponseStatistics:
    return ResponseStatistics(range(length), TopK(top), {score: TopK(top) for score in SCORES})


def batches(length: int, batch: int = 4) -> Sequence[Tensor]:
    pictures = torch.rand(length, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return pictures.contiguous(memory_format=torch.channels_last).split(batch)


def drawn(length: int, levels: int, units: int = 5) -> np.ndarray:
    """Few different values, so that many are the same; zeros of both signs among them."""
    values = np.random.default_rng(0).integers(-levels, levels, (length, units)).astype(np.float32)
    return np.where((values == 0) & (np.arange(length)[:, None] % 2 == 0), np.float32(-0.0), values)


@pytest.mark.parametrize("at_once", [1, 8, 57])
def test_best_agrees_with_sorting_everything(at_once: int) -> None:
    values = drawn(57, 4)
    best = TopK(9)
    for at in range(0, 57, at_once):
        some = values[at : at + at_once]
        best.add(some, 1000 + some.astype(np.int32))
        assert len(best.values) <= 9
    order = np.argsort(-values, axis=0, kind="stable")[:9]
    assert best.values.tobytes() == np.take_along_axis(values, order, 0).tobytes()
    assert np.array_equal(best.numbers, order)
    assert np.array_equal(best.places, 1000 + best.values.astype(np.int32))


def test_what_is_no_number_or_has_no_bound_is_in_order_too() -> None:
    values = np.array([[1.0], [-np.inf], [np.nan], [np.inf], [-1e-45], [-3.0]], np.float32)
    best = TopK(6)
    best.add(values, np.zeros((6, 1), np.int32))
    assert best.numbers[:, 0].tolist() == [2, 3, 0, 4, 5, 1]


@pytest.mark.parametrize("at_once", [1, 8, 57])
def test_best_of_photos_are_those_that_a_person_would_pick_one_after_the_other(at_once: int) -> None:
    values, photos = drawn(57, 4), np.random.default_rng(1).integers(0, 6, 57).astype(np.int32)
    best = TopK(15, photos)
    for at in range(0, 57, at_once):
        best.add(values[at : at + at_once], np.zeros((len(values[at : at + at_once]), 5), np.int32))
    for unit in range(5):
        picked: list[int] = []
        for number in np.argsort(-values[:, unit], kind="stable").tolist():
            if sum(photos[other] == photos[number] for other in picked) < PER_PHOTO:
                picked.append(number)
        there = best.numbers[:, unit] >= 0
        assert best.numbers[there, unit].tolist() == picked
        assert len(picked) == 12 < there.size  # two of each photo, and the other places are empty
        assert set(best.values[~there, unit].tolist()) <= {-np.inf}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_activations_are_reduced_over_the_positions_of_each_picture(layout: torch.memory_format) -> None:
    acts = torch.randn(3, 8, 5, 7, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
    acts = acts.round(decimals=1)  # so that some are the same
    found = reduced(acts, (1, -1), is_layer=True)
    maps = acts.numpy().reshape(3, 8, 35)
    expected = (maps.mean(2, dtype=np.float64), maps.max(2), maps.min(2), maps.argmax(2), (maps <= 0).sum((0, 2)))
    for value, wanted in zip(found, (*expected, 35, 7), strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-5)  # type: ignore[arg-type]
    before = reduced(acts, (-1,), is_layer=False)
    assert (before.highest, before.places, before.silent) == (None, None, None)
    before = reduced(acts, (1,), is_layer=False)
    assert before.highest is not None and before.highest.equal(torch.from_numpy(maps.max(2)))
    neurons = reduced(acts[:, :, 0, 0], (1,), is_layer=True)
    assert (neurons.num_positions, neurons.width) == (1, None)


def test_layers_passed_over_together_are_those_passed_over_alone() -> None:
    length = AT_ONCE + 9
    together = {layer: statistics(length) for layer in LAYERS}
    gather(toy.network(), together, batches(length))
    for layer, seen in together.items():
        alone = statistics(length)
        gather(toy.network(), {layer: alone}, batches(length))
        assert seen.maxima.tobytes() == alone.maxima.tobytes()
        assert seen.places.tobytes() == alone.places.tobytes()
        assert torch.equal(torch.as_tensor(seen.means), torch.as_tensor(alone.means))
        assert torch.equal(torch.as_tensor(seen.silent), torch.as_tensor(alone.silent))
        for one, other in zip((seen.top, *seen.scores.values()), (alone.top, *alone.scores.values()), strict=True):
            assert one.values.tobytes() == other.values.tobytes()
            assert one.numbers.tobytes() == other.numbers.tobytes()
        assert seen.num_pictures == length


def test_network_runs_once_a_batch_whatever_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    right = Graph.visit

    def counted(self: Graph, pictures: Tensor, targets: Sequence[str], see: Callable[[str, Tensor], None]) -> None:
        runs.append(len(pictures))
        right(self, pictures, targets, see)

    monkeypatch.setattr(Graph, "visit", counted)
    gather(toy.network(), {layer: statistics(9) for layer in LAYERS}, batches(9))
    assert runs == [4, 4, 2]  # the lone one is paired


def test_no_activations_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer's are gone when the next layer's are looked at, but for what the network still reads."""
    there: list[weakref.ref[Tensor]] = []
    most = 0
    right = Graph.visit

    def watched(self: Graph, pictures: Tensor, targets: Sequence[str], see: Callable[[str, Tensor], None]) -> None:
        def seen(node: str, acts: Tensor) -> None:
            nonlocal most
            there.append(weakref.ref(acts))
            most = max(most, sum(each() is not None for each in there))
            see(node, acts)

        right(self, pictures, targets, seen)

    monkeypatch.setattr(Graph, "visit", watched)
    gather(toy.network(), {layer: statistics(8) for layer in LAYERS}, batches(8))
    assert len(there) == 2 * 5  # nodes in each batch
    assert most <= 2


def test_few_pictures_are_kept_of_a_long_set() -> None:
    seen = statistics(50)
    seen.wanted = [0, 7, 31, 49]
    gather(toy.network(), {"mixed": seen}, batches(50))
    every = statistics(50)
    gather(toy.network(), {"mixed": every}, batches(50))
    assert np.array_equal(seen.maxima, every.maxima[:, seen.wanted])
    assert np.array_equal(seen.places, every.places[:, seen.wanted])
    assert seen.places.dtype.itemsize == 1  # of 64 positions
