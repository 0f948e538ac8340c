from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from microscope_atlas.lenses.lens import Row, Subject
from microscope_atlas.lenses.synthetic_tuning import Recipe, SyntheticTuning, families, width
from microscope_atlas.models import weights
from microscope_atlas.models.architectures.efficientnet_lite import EFFICIENTNET_LITE0
from microscope_atlas.models.architectures.googlenet_caffe import INCEPTIONV1_CAFFE
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.organism import Organism
from microscope_atlas.rendering.stimuli import Stage
from tests import shared, toy

CPU = torch.device("cpu")
LENS = SyntheticTuning()
HANDMADE = Organism("handmade", "", "", 2026, "", 32, toy.handmade, toy.HANDMADE_LAYERS, ())
TOY = Organism("toy", "", "", 2026, "", 32, toy.network_to_be_initialised, {"mixed": None, "logits": None}, ())
QUICK = Recipe(
    32, orientations=4, frequencies=5, phases=4, directions=4, curvatures=3, offsets=1, hues=12, lightnesses=3
)
EDGE, RED, DARK = range(3)


def rows(
    organism: Organism, layer: str, units: range, recipe: Recipe = QUICK, network: Network | None = None
) -> dict[tuple[str, int], Row]:
    subject = Subject(organism, organism.layer(layer), CPU, lambda: network or organism.build())
    found = [row for some in LENS.rows(subject, units, recipe) for row in some]
    assert len(found) == len(units) * LENS.count({})
    return {(row["family"], row["unit"]): row for row in found}


@pytest.fixture(scope="module")
def handmade() -> dict[tuple[str, int], Row]:
    return rows(HANDMADE, "conv1", range(3))


def test_edge_answers_to_gratings_as_worked_out_by_hand(handmade: dict[tuple[str, int], Row]) -> None:
    """Right minus left column, three rows and colours, of a sine: `3 |1 + 2 cos(2 pi fy)| |2 sin(2 pi fx)|`.

    Orientations 45 and 135 are left out: none of the four phases need be the best there.
    """
    row = handmade["gratings", EDGE]
    assert row["x_values"] == [0, 45, 90, 135]
    f = np.array(row["y_values"])
    responses = np.array(row["responses"])
    np.testing.assert_allclose(responses[:, 0], 18 * np.sin(2 * np.pi * f), atol=1e-4)
    np.testing.assert_allclose(responses[:, 2], 0, atol=1e-4)
    assert (row["preferred_x"], row["peak"]) == (0, pytest.approx(18 * np.sin(2 * np.pi * f).max(), abs=1e-4))
    # a cosine that lags by 270 degrees is a sine: brightness rises to the right
    assert (row["nested_axes"], row["preferred_nested"]) == (["phase_degrees"], [270])
    assert (row["blank"], row["flag"]) == (0, None)


def test_frequencies_go_from_one_cycle_a_field_to_the_finest(handmade: dict[tuple[str, int], Row]) -> None:
    found = handmade["gratings", EDGE]["y_values"]
    np.testing.assert_allclose(found, 0.1 * 5 ** (np.arange(5) / 4))  # a field of 3 px: the coarsest allowed
    assert min(families(QUICK, Stage(112, 56, CPU), 91)[0].y.values) == pytest.approx(1 / 91)


def test_edge_prefers_upright_curves_hollow_to_either_side(handmade: dict[tuple[str, int], Row]) -> None:
    recipe = Recipe(32, 2, 2, 2, directions=4, curvatures=2, offsets=5, hues=2, lightnesses=2, offset=1.0)
    row = rows(HANDMADE, "conv1", range(1), recipe)["curves", EDGE]
    assert row["nested_axes"] == ["contrast", "offset_px"]
    straight = np.array(row["responses"])[0]
    assert straight[0] == pytest.approx(straight[2], abs=1e-3)
    # a stroke of 1.5 px, 1.5 px off: three quarters of the right column, three rows and colours; nothing of the left
    assert straight[0] == pytest.approx(6.75, abs=1e-4)
    assert straight[1] == straight[3] == pytest.approx(0, abs=1e-3)
    contrast, offset = row["preferred_nested"]
    # light to the right of the centre, or dark to its left; offsets count in the curve's own direction
    assert contrast * offset * np.cos(np.radians(row["preferred_x"])) > 0


def test_red_prefers_red_and_dark_prefers_black(handmade: dict[tuple[str, int], Row]) -> None:
    red, dark = handmade["colours", RED], handmade["colours", DARK]
    assert (red["preferred_x"], red["preferred_y"], red["peak"]) == (0, 0.5, pytest.approx(2))
    assert red["width"] == pytest.approx(120, abs=0.1)  # one at yellow and magenta, 60 degrees away; nothing at 90
    assert (dark["preferred_y"], dark["peak"], dark["width"]) == (0, pytest.approx(1), None)
    assert dark["preferred_x"] is None  # black has no hue
    np.testing.assert_allclose(dark["responses"][0], 1, atol=1e-6)
    np.testing.assert_allclose(dark["responses"][2], 0, atol=1e-6)
    np.testing.assert_allclose(
        red["responses"][1], [2, 1.5, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1.5], atol=1e-6
    )  # red minus the mean of green and blue, in -1..1


def test_white_is_preferred_without_a_hue_and_straight_lines_without_a_side() -> None:
    graph = toy.handmade()
    graph.get_submodule("conv1_pre").weight[DARK] *= -1  # now it likes what is bright
    graph.get_submodule("conv1_pre").bias[DARK] = 2.0
    found = rows(HANDMADE, "conv1", range(3), replace(QUICK, curvatures=1), graph)  # straight lines alone
    white, lines = found["colours", DARK], found["curves", DARK]
    assert (white["preferred_x"], white["preferred_y"]) == (None, 1)
    assert (lines["preferred_x"], lines["preferred_y"]) == (None, 0)
    assert lines["preferred_nested"] is not None and lines["image"] is not None
    gratings = found["gratings", EDGE]
    assert gratings["preferred_x"] == 0 and gratings["preferred_y"] > 0


def test_unit_that_nothing_excites_is_dead(handmade: dict[tuple[str, int], Row]) -> None:
    assert {key for key, row in handmade.items() if row["flag"]} == {
        ("gratings", RED),
        ("curves", RED),
        ("colours", EDGE),
    }
    row = handmade["gratings", RED]
    assert (row["flag"], row["peak"]) == ("dead", 0)
    assert all(row[name] is None for name in ("preferred_x", "preferred_y", "preferred_nested", "width", "image"))


def test_negative_answers_of_a_layer_without_rectifier_are_kept() -> None:
    found = rows(HANDMADE, "logits", range(2))
    assert np.min(found["colours", 1]["responses"]) < 0
    assert found["colours", 0]["recipe"]["field"] == found["colours", 0]["recipe"]["size"] == 32


def test_unit_whose_answers_are_not_numbers_is_flagged() -> None:
    graph = toy.handmade()
    graph.get_submodule("conv1_pre").bias[RED] = torch.nan
    found = rows(HANDMADE, "conv1", range(3), network=graph)
    assert {unit for (_, unit), row in found.items() if row["flag"] == "nan"} == {RED}
    row = found["gratings", RED]
    assert (row["peak"], row["blank"], row["preferred_x"], row["image"]) == (None, None, None, None)


@pytest.mark.parametrize("layer", ["mixed", "logits"])
def test_row_does_not_depend_on_other_units_or_on_the_batch(layer: str) -> None:
    several = rows(TOY, layer, range(8), network=toy.network())
    for batch in (1, 3, 48):
        recipe = Recipe(32, 4, 5, 4, 4, 3, 1, 12, 3, batch=batch)
        for key, row in rows(TOY, layer, range(5, 6), recipe, toy.network()).items():
            assert (row["responses"], row["width"]) == (several[key]["responses"], several[key]["width"])
            assert (row["image"] is None) == (several[key]["image"] is None)


def test_peak_is_the_response_to_the_picture_in_the_row() -> None:
    graph = toy.network()
    for (family, unit), row in rows(TOY, "mixed", range(8), network=graph).items():
        if row["flag"] is None:
            picture = row["image"].permute(2, 0, 1)[None].float() / 255
            acts = graph(picture, ["mixed"])[0][0, unit]
            at = acts.shape[0] // 2
            assert acts[at, at].item() == pytest.approx(row["peak"], abs=0.1), family  # pixels are rounded to bytes
            assert row["peak"] == np.max(row["responses"])
            answers = row["responses"][row["y_values"].index(row["preferred_y"])]
            if row["preferred_x"] is None:
                assert max(answers) == row["peak"]
            else:
                assert answers[row["x_values"].index(row["preferred_x"])] == row["peak"]


def test_row_says_where_its_stimuli_were() -> None:
    for row in rows(TOY, "mixed", range(1), network=toy.network()).values():
        assert (row["recipe"]["size"], row["recipe"]["centre"], row["recipe"]["field"]) == (32, 16.5, 17)
        assert row["recipe"]["target"] == "mixed"


@pytest.mark.parametrize(
    ("profile", "at", "expected"),
    [
        ([0, 4, 8, 4, 0, 0], 2, 2.0),  # half height is met at the neighbours
        ([8, 6, 0, 0, 0, 6], 0, 2 * (1 + 1 / 3)),  # a third of the way from 6 to 0, on both sides of the seam
        ([8, 0, 0, 0, 0, 6], 0, 0.5 + 1 + 1 / 3),
        ([6, 8, 6, 5, 6, 7], 1, None),
    ],
)
def test_width_is_taken_around_the_circle(profile: list[float], at: int, expected: float | None) -> None:
    found = width(np.array(profile, np.float32), at, 0.0, 60)  # ten degrees a step
    assert found == (None if expected is None else pytest.approx(10 * expected))


def test_width_is_measured_above_the_baseline() -> None:
    profile = np.array([8, 5, 4, 4, 4, 5], np.float32)
    assert width(profile, 0, 0.0, 60) is None
    assert width(profile, 0, 4.0, 60) == pytest.approx(2 * 10 * 2 / 3)  # half height is 6, from 8 to 5


def test_qualities_are_ever_finer() -> None:
    draft, standard, microscope = (LENS.recipe(quality) for quality in ("draft", "standard", "microscope"))
    for name in ("orientations", "frequencies", "phases", "directions", "curvatures", "offsets", "hues", "lightnesses"):
        assert getattr(draft, name) < getattr(standard, name) < getattr(microscope, name)
    assert draft.max_size == 112


def pretrained(folder: Path, organism: Organism, file: Path | None) -> Network:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MICROSCOPE_ATLAS_CACHE", str(folder))
        given = weights.take(organism, file) if file else weights.load(organism)
    return weights.network(organism, given)


def spectrum(kernels: NDArray[np.float64], orientation: float, frequency: float) -> NDArray[np.complex128]:
    """Of every kernel, at one frequency: its answer to the complex wave that is 1 at its middle."""
    reach = np.arange(kernels.shape[1]) - kernels.shape[1] // 2
    fx, fy = frequency * np.cos(np.radians(orientation)), frequency * np.sin(np.radians(orientation))
    wave = np.exp(2j * np.pi * (fx * reach[None, :] - fy * reach[:, None]))
    found: NDArray[np.complex128] = (kernels * wave).sum((1, 2))
    return found


FIRST = [
    pytest.param(EFFICIENTNET_LITE0, None, "stem", "stem/conv", 1.0, -np.inf, id="efficientnet_lite0"),
    pytest.param(
        *(INCEPTIONV1_CAFFE, shared.GOOGLENET, "conv1_7x7_s2", "conv1/7x7_s2", 127.5, 0.0),
        id="inceptionv1_caffe",
        marks=[*shared.needed, pytest.mark.long],
    ),
]


@pytest.mark.parametrize(("organism", "file", "layer", "node", "scale", "floor"), FIRST)
def test_first_layer_prefers_the_gratings_that_its_filters_are_made_of(
    organism: Organism, file: Path | None, layer: str, node: str, scale: float, floor: float, tmp_path: Path
) -> None:
    network = pretrained(tmp_path, organism, file)
    units = range(organism.layer(layer).units)
    recipe = Recipe(112, 24, 12, 16, directions=1, curvatures=1, offsets=1, hues=1, lightnesses=1)
    found = rows(organism, layer, units, recipe, network)
    kernels = network.get_submodule(node).weight.double().sum(1).numpy()  # of grey pictures, (units, k, k)
    grey = network(torch.full((2, 3, 48, 48), 0.5), [network.preactivation(layer)])[0][0, :, 12, 12].double().numpy()

    some = found["gratings", 0]
    phases = np.exp(1j * np.radians(np.arange(16) * 22.5))
    expected = np.array(
        [
            [(spectrum(kernels, x, y)[:, None] * phases).real.max(1) * scale + grey for x in some["x_values"]]
            for y in some["y_values"]
        ]
    ).clip(floor)
    for unit in units:
        np.testing.assert_allclose(found["gratings", unit]["responses"], expected[..., unit], atol=2e-5 * scale)

    amplitude = np.abs(np.fft.fft2(kernels, (128, 128)))
    fx, fy = np.meshgrid(np.fft.fftfreq(128), -np.fft.fftfreq(128))
    seen = (np.hypot(fx, fy) >= some["y_values"][0]) & (np.hypot(fx, fy) <= some["y_values"][-1])
    compared = 0
    for unit in units:
        row = found["gratings", unit]
        best = np.argmax(amplitude[unit] * seen)
        if row["flag"]:
            continue
        compared += 1
        at_preferred = np.abs(spectrum(kernels, row["preferred_x"], row["preferred_y"])[unit])
        assert at_preferred >= 0.9 * amplitude[unit].flat[best], unit
        orientation = np.degrees(np.arctan2(fy.flat[best], fx.flat[best]))
        if row["width"] is not None and row["width"] < 60:  # others have no orientation to speak of
            assert abs((row["preferred_x"] - orientation + 90) % 180 - 90) <= 7.5, unit  # one step
    assert compared >= 0.8 * len(units)


@pytest.mark.long
@pytest.mark.parametrize(
    ("unit", "hollow_towards"),
    [
        pytest.param(*pair, marks=shared.needed)  # read off the units' visualizations
        for pair in [(358, 180), (413, 0), (394, 120), (326, 225), (386, 75), (408, 330), (398, 285)]
    ],
)
def test_curve_detectors_of_inception_3b_answer_to_their_curve_and_not_to_its_mirror_image(
    unit: int, hollow_towards: float, curves: Callable[[int], Row]
) -> None:
    row = curves(unit)
    responses = np.array(row["responses"])
    assert abs((row["preferred_x"] - hollow_towards + 180) % 360 - 180) <= 22.5
    assert row["preferred_y"] > 0
    assert responses[0].max() < 0.25 * row["peak"]  # straight lines
    across, down = row["x_values"].index(row["preferred_x"]), row["y_values"].index(row["preferred_y"])
    assert responses[down, (across + len(row["x_values"]) // 2) % len(row["x_values"])] < 0.1 * row["peak"]


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Row]:
    network = pretrained(tmp_path_factory.mktemp("cache"), INCEPTIONV1_CAFFE, shared.GOOGLENET)
    recipe = Recipe(112, 1, 1, 1, directions=24, curvatures=4, offsets=2, hues=1, lightnesses=1)
    found = rows(INCEPTIONV1_CAFFE, "inception_3b", range(480), recipe, network)
    return lambda unit: found["curves", unit]
