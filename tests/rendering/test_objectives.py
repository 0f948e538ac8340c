import numpy as np
import pytest
import torch

from microscope_atlas.rendering.objectives import (
    Along,
    Caricature,
    Channel,
    DeepDream,
    Direction,
    Diverse,
    Neuron,
    cosine,
    similarity,
)

ACTS = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).reshape(2, 3, 4, 4)


def test_channel_is_the_mean_of_each_pictures_own_unit() -> None:
    assert Channel(torch.tensor([0, 2]))(ACTS).tolist() == [ACTS[0, 0].mean(), ACTS[1, 2].mean()]


def test_neuron_is_the_lower_right_of_the_middle_four() -> None:
    assert Neuron(torch.tensor([1, 1]))(ACTS).tolist() == [ACTS[0, 1, 2, 2], ACTS[1, 1, 2, 2]]


def test_neuron_is_the_middle_of_an_odd_grid() -> None:
    assert Neuron(torch.tensor([1]))(ACTS[:1, :, :3, :3]).tolist() == [ACTS[0, 1, 1, 1]]


def test_dense_unit_is_itself_under_both_objectives() -> None:
    dense = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    for objective in (Channel, Neuron):
        assert objective(torch.tensor([1, 0]))(dense).tolist() == [2.0, 3.0]


def test_direction_turns_the_score_round() -> None:
    units = torch.tensor([0, 1])
    assert torch.equal(Direction(Channel(units), -1)(ACTS), -Channel(units)(ACTS))


def test_deepdream_is_the_mean_square_of_the_layer() -> None:
    assert DeepDream()(ACTS).tolist() == [ACTS[0].square().mean(), ACTS[1].square().mean()]
    assert DeepDream()(torch.tensor([[1.0, -3.0]])).tolist() == [5.0]


def test_caricature_is_the_projection_on_the_other_times_a_power_of_the_cosine() -> None:
    acts, others = (torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    others[0] -= acts[0]  # unlike: the cosine's floor of 0.1
    others[1] += acts[1]
    others[2] = 2 * acts[2]
    for power in (0.0, 1.0, 4.0):
        expected = []
        for a, b in zip(acts.double().numpy().reshape(3, -1), others.double().numpy().reshape(3, -1), strict=True):
            alike = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            expected.append(a @ b / (b @ b) * max(0.1, alike) ** power)
        np.testing.assert_allclose(Caricature(power)(acts, others), expected, rtol=1e-4)
        assert expected[0] < 0 < expected[1] < 1
        assert expected[2] == pytest.approx(0.5)


def test_caricature_does_not_depend_on_what_is_elsewhere_in_the_batch_nor_on_its_shape() -> None:
    small, large = ACTS[:, :1] + 1, ACTS
    together = Caricature(2.0)([small[0], large[1]], [small[1], large[0]])
    assert together[0] == Caricature(2.0)(small[:1], small[1:])[0]
    assert together[1] == Caricature(2.0)(large[1:], large[:1])[0]


def test_nothing_is_like_nothing() -> None:
    assert cosine(torch.zeros(3), torch.ones(3)) == 0
    assert Caricature(2.0)(torch.ones(1, 3), torch.zeros(1, 3)).tolist() == [0.0]


def numpy_similarity(acts: np.ndarray, variants: int) -> list[float]:
    """Cosines of Gram matrices, pair by pair, in float64."""
    grams = [a.reshape(a.shape[0], -1) @ a.reshape(a.shape[0], -1).T for a in acts.astype(np.float64)]
    cosine = [[(a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b) for b in grams] for a in grams]
    own = [range(i - i % variants, i - i % variants + variants) for i in range(len(acts))]
    return [sum(cosine[i][j] for j in own[i] if j != i) / (variants - 1) for i in range(len(acts))]


def test_similarity_is_the_mean_cosine_to_the_other_variants_of_a_unit() -> None:
    acts = torch.randn(6, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(similarity(acts, 3), numpy_similarity(acts.numpy(), 3), rtol=1e-5)


def test_similarity_of_copies_is_one() -> None:
    torch.testing.assert_close(similarity(ACTS[:1].expand(4, -1, -1, -1), 4), torch.ones(4))


def test_diverse_takes_what_is_alike_from_the_score_in_its_own_measure() -> None:
    units = torch.tensor([0, 0])
    for scale in (1.0, 1000.0):
        score = Channel(units)(ACTS * scale)
        diverse = Diverse(Channel(units), variants=2, weight=0.5)(ACTS * scale)
        torch.testing.assert_close(diverse, score * (1 - 0.5 * similarity(ACTS, 2)))


def test_variant_that_does_not_fire_is_pushed_nowhere() -> None:
    acts = torch.rand(2, 3, 4, 4, requires_grad=True)
    silent = torch.tensor([[0.0], [1.0]]) * acts.flatten(1)  # the first of the two
    scores = Diverse(Channel(torch.tensor([0, 0])), variants=2, weight=1.0)(silent.unflatten(1, (3, 4, 4)))
    gradient = torch.autograd.grad(scores.sum(), acts)[0]
    assert gradient[0].abs().sum() == 0
    assert gradient[1].abs().sum() > 0


def test_variants_of_one_unit_do_not_see_those_of_another() -> None:
    acts = torch.randn(8, 16, 7, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    together = similarity(acts, 4)
    alone = similarity(acts[:4], 4)
    assert torch.equal(alone, together[:4])
    from_first = torch.autograd.grad(together[0], acts)[0]
    assert from_first[0].abs().sum() > 0
    assert from_first[1:].abs().sum() == 0  # the others are taken as they are


def test_along_is_the_projection_on_each_pictures_direction_times_a_power_of_the_cosine() -> None:
    acts = torch.tensor([[3.0, 4.0], [0.0, 2.0]]).T[None, :, :, None].repeat(2, 1, 1, 1)  # two places of two units
    along = Along(torch.tensor([[2.0, 0.0], [0.0, 7.0]]), power=2.0)
    one = (3 * 0.6**2 + 0 * 0.1**2) / 2
    other = (4 * 0.8**2 + 2 * 1.0) / 2
    assert along(acts).tolist() == pytest.approx([one, other])
    assert Along(along.directions, 0.0)(acts).tolist() == pytest.approx([1.5, 3.0])


def test_along_of_a_dense_layer_has_one_place() -> None:
    assert Along(torch.tensor([[0.0, 1.0]]), 1.0)(torch.tensor([[3.0, 4.0]])).item() == pytest.approx(4 * 0.8)


def test_along_does_not_depend_on_what_is_elsewhere_in_the_batch() -> None:
    stream = torch.Generator().manual_seed(0)
    acts, directions = torch.randn(5, 9, 3, 3, generator=stream), torch.randn(5, 9, generator=stream)
    together = Along(directions, 2.0)(acts)
    alone = [Along(directions[i : i + 1], 2.0)(acts[i : i + 1])[0] for i in range(5)]
    assert torch.equal(together, torch.stack(alone))
