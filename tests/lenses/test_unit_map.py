import numpy as np
import pytest
import torch
from sklearn.manifold import trustworthiness
from threadpoolctl import threadpool_limits

from microscope_atlas.lenses.answers import Pictures
from microscope_atlas.lenses.correlation import standardized
from microscope_atlas.lenses.lens import seed
from microscope_atlas.lenses.unit_map import LEAST, NetworkMap, landmarks, principal, unit_map
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


def test_layers_of_a_network_share_one_map() -> None:
    values = grouped().numpy()
    layers = {"conv1": range(30), "conv2": range(30, 48)}
    answers = [
        response("toy", name, place - units.start, values[place].tolist())
        for name, units in layers.items()
        for place in units
    ]
    found = [
        row
        for name, units in layers.items()
        for row in rows(subject(answers, layer=name), range(len(units)), Recipe(perplexity=5))
    ]
    places = np.array([[row["model_map"]["x"], row["model_map"]["y"]] for row in found])
    made = unit_map(standardized(torch.tensor(values)), 5, seed("toy", "map"))
    assert made is not None
    np.testing.assert_array_equal(places, made.places)
    assert {row["model_map"]["trustworthiness"] for row in found} == {made.trustworthiness}
    assert [row["layer_map"] for row in found[30:]] == [None] * 18  # too few for a map of their own


def test_map_of_a_network_is_of_its_own_units() -> None:
    values = grouped().numpy()
    mine = [response("toy", "conv1", unit, values[unit].tolist()) for unit in range(24)]
    others = [response("other", "conv1", unit, values[24 + unit].tolist()) for unit in range(24)]
    alone, beside = (rows(subject(each), range(24), Recipe(perplexity=5)) for each in (mine, [*others, *mine]))
    assert [row["model_map"] for row in alone] == [row["model_map"] for row in beside]


def test_landmarks_are_evenly_spaced() -> None:
    assert landmarks(range(100, 110), 5) == [100, 102, 104, 106, 108]
    assert landmarks([3, 1, 2], 3) == [3, 1, 2]


def test_unit_that_is_no_landmark_falls_where_the_most_alike_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microscope_atlas.lenses.unit_map.MOST", 24)
    answers, pictures = standardized(grouped()), Pictures("photos", "1", 64)
    network = NetworkMap(range(48), 5, 0)
    for part in (range(20), range(20, 48)):
        network.see(pictures, part, answers[list(part)])
    made = network.places(pictures, range(48), answers)
    assert made is not None
    assert len(np.unique(made.places, axis=0)) == 24  # each second unit is one
    alike = (answers @ answers[::2].T).argmax(1)
    np.testing.assert_array_equal(made.places[1::2], made.places[2 * alike[1::2]])


def test_units_measured_on_other_pictures_are_not_on_the_map() -> None:
    network, answers = NetworkMap(range(30), 5, 0), standardized(grouped())
    network.see(Pictures("many", None, 64), range(25), answers[:25])
    network.see(Pictures("few", None, 64), range(25, 30), answers[25:30])
    assert network.places(Pictures("few", None, 64), range(25, 30), answers[25:30]) is None
    assert network.places(Pictures("many", None, 64), range(25), answers[:25]) is not None
