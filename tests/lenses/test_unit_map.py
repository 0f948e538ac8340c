import numpy as np
import pytest
import torch
from sklearn.manifold import trustworthiness
from threadpoolctl import threadpool_limits

from microscope_atlas.lenses.correlation import standardized
from microscope_atlas.lenses.unit_map import LEAST, principal, unit_map
from microscope_atlas.lenses.units import Recipe
from tests.lenses.test_units import FLAT, response, rows, subject

GROUPS, EACH = 4, 12


def grouped(seed: int = 0) -> torch.Tensor:
    """Answers of 48 units to 64 pictures: 4 groups of 12 that are alike but for noise; (units, pictures)."""
    random = np.random.default_rng(seed)
    kinds = np.repeat(random.normal(size=(GROUPS, 64)), EACH, axis=0)
    return torch.tensor(kinds + 0.5 * random.normal(size=kinds.shape), dtype=torch.float32)


def test_units_that_answer_alike_lie_near() -> None:
    made = unit_map(standardized(grouped()), 10, 0)
    assert made is not None
    apart = np.linalg.norm(made.places[:, None] - made.places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    nearest = apart.argmin(1) // EACH
    assert (nearest == np.repeat(range(GROUPS), EACH)).all()
    assert made.trustworthiness > 0.8
    np.testing.assert_allclose(made.places.mean(0), 0, atol=1e-4)


def test_start_is_the_principal_plane() -> None:
    answers = standardized(grouped())
    unit = answers.numpy() / 2**26
    centred = unit - unit.mean(0)
    places = principal(torch.tensor(unit @ unit.T))
    u, s, _ = np.linalg.svd(centred)
    np.testing.assert_allclose(np.abs(places), np.abs(u[:, :2] * s[:2]), atol=1e-6)


def test_threads_change_no_byte() -> None:
    made = []
    for threads in (1, 4):
        with threadpool_limits(threads):
            made.append(unit_map(standardized(grouped()), 10, 3))
    one, four = made
    assert one is not None and four is not None
    assert one.places.tobytes() == four.places.tobytes()


def test_few_units_have_no_map() -> None:
    assert unit_map(standardized(grouped())[: LEAST - 1], 10, 0) is None
    assert unit_map(standardized(grouped())[:LEAST], 10, 0) is not None


def test_column_holds_the_place_of_each_unit_that_varies() -> None:
    values = grouped().numpy()
    answers = [response("toy", "conv1", unit, values[unit].tolist()) for unit in range(30)]
    answers[4]["responses"] = FLAT * 16
    found = rows(subject(answers), range(30), Recipe(perplexity=5))
    assert [row["unit"] for row in found if row["layer_map"] is None] == [4]
    places = np.array([[row["layer_map"]["x"], row["layer_map"]["y"]] for row in found if row["layer_map"]])
    answered = standardized(torch.tensor(np.delete(values[:30], 4, 0))).numpy()
    expected = trustworthiness(answered, places, n_neighbors=10)
    assert found[0]["layer_map"]["trustworthiness"] == pytest.approx(expected, abs=1e-6)
    assert "layer_map" not in rows(subject(answers), range(2), Recipe(perplexity=0))[0]
