import json
from pathlib import Path

import pytest
import torch

from benchmarks import ascents, atlas_cost, early_stop, report, responses
from benchmarks.atlas_cost import _shares
from benchmarks.batch import proposed, proposed_pixels
from benchmarks.ours import first, settings
from benchmarks.peers import LUCENT_NORM, MODEL, lucent_inceptionv1, with_lucents_norms
from benchmarks.quality import Judged, compared, spaced
from benchmarks.rates import Rate, arithmetic, interpolated, shortened
from benchmarks.to_score import Made, beside
from benchmarks.vs_lucent import averaged
from microscope_atlas.errors import InvalidSetting
from microscope_atlas.lenses.recipe import changed
from microscope_atlas.lenses.recipe import settings as plain
from microscope_atlas.lenses.registry import lens
from microscope_atlas.lenses.synthetic_tuning import stimuli
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.networks.flops import flops
from microscope_atlas.run.costs import BESIDE
from tests.benchmarks import lucent

RECIPE = lens("feature_visualization").recipe("draft")


def test_settings_are_changed_by_path() -> None:
    recipe = changed(RECIPE, settings("ascent.steps=7, batch=3,methods=('maco',)"))
    assert (recipe.ascent.steps, recipe.batch, recipe.methods) == (7, 3, ("maco",))
    assert recipe.ascent.views == RECIPE.ascent.views
    assert settings("a.b=bfloat16") == {"a.b": "bfloat16"}
    with pytest.raises(InvalidSetting, match="ascent"):
        changed(RECIPE, {"ascend.steps": 7})
    with pytest.raises(ValueError, match="PATH=VALUE"):
        settings("steps")


def test_rate_between_two_is_on_the_line_through_them_on_logarithmic_scales() -> None:
    known = [Rate(100.0, 8.0, 4.0), Rate(1.0, 2.0, 0.0)]
    assert interpolated(known, 10.0) == Rate(10.0, pytest.approx(4.0), pytest.approx(2.0))
    assert interpolated(known, 100.0) == known[0]


def test_rate_outside_is_in_proportion() -> None:
    known = [Rate(100.0, 8.0, 4.0), Rate(1.0, 2.0, 0.5)]
    assert interpolated(known, 200.0) == Rate(200.0, 16.0, 8.0)
    assert interpolated(known, 0.5) == Rate(0.5, 1.0, 0.25)


def test_shares_halve_what_is_between() -> None:
    assert list(_shares(7)) == [1 / 2, 1 / 4, 3 / 4, 1 / 8, 3 / 8, 5 / 8, 7 / 8]


@pytest.mark.parametrize("quality", ["draft", "standard"])
@pytest.mark.parametrize("name", ["feature_visualization", "deepdream", "caricature"])
def test_parts_are_all_pictures_that_the_lens_makes(name: str, quality: str) -> None:
    recipe = lens(name).recipe(quality)  # type: ignore[arg-type]
    assert sum(part.pictures for part in lens(name).parts(recipe)) == lens(name).count(plain(recipe))


def test_shortened_recipes_ascend_so_many_steps() -> None:
    recipe = shortened(lens("feature_visualization").recipe("standard"), 3)
    assert (recipe.ascent.steps, recipe.maco.steps) == (3, 3)
    assert stimuli(shortened(lens("synthetic_tuning").recipe("draft"), 3)) == 3 * 32


def test_arithmetic_is_that_of_the_network_cut_at_the_layer() -> None:
    known = organism("inceptionv1")
    with torch.device("meta"):
        network = known.build()
    found = arithmetic("deepdream", lens("deepdream").recipe("standard"), "inceptionv1", known.layer("mixed3a"))
    assert found == flops(network, "mixed3a", 224)


def test_cost_of_a_layer_takes_what_throughput_measured(tmp_path: Path) -> None:
    row = {"model": "inceptionv1", "layer": "conv2d0", "flop_per_step": 1e8}
    row |= {"seconds_per_step": 0.5, "seconds_per_picture": 0.25}
    given = tmp_path / "throughput.json"
    given.write_text(json.dumps({"about": {"quality": "draft"}, "layers": [row]}))
    found = atlas_cost._given(given, "draft")
    layer = organism("inceptionv1").layer("conv2d0")
    pictures = layer.units * 4  # two objectives in both directions
    here = found["inceptionv1", "conv2d0"]
    assert atlas_cost._seconds("feature_visualization", RECIPE, layer, found, 1e8, here) == pictures * (64 * 0.5 + 0.25)
    twice = atlas_cost._seconds("feature_visualization", RECIPE, layer, found, 2e8, {})
    assert twice == 2 * pictures * (64 * 0.5 + 0.25)
    with pytest.raises(ValueError, match="draft quality, not for standard"):
        atlas_cost._given(given, "standard")


def test_cost_of_a_layer_whose_lens_makes_all_units_at_once_does_not_grow_with_them() -> None:
    layer = organism("inceptionv1").layer("conv2d0")
    here = {"pass": Rate(1.0, 0.0, 3.0)}
    recipe = lens("responses").recipe("draft")
    assert atlas_cost._seconds("responses", recipe, layer, {}, 1.0, here) == 3.0


def test_layers_that_share_a_pass_count_once_in_the_hours() -> None:
    rates = [
        {"model": "alexnet", "lens": name, "seconds": seconds}
        for name in ("responses", "caricature")
        for seconds in (3600.0, 7200.0)
    ]
    row, total = atlas_cost._hours(rates)
    assert (row["caricature"], row["responses"]) == (3.0, pytest.approx(2 + BESIDE))
    assert total["all"] == row["all"] == pytest.approx(5 + BESIDE)


def test_smallest_batch_that_is_about_as_fast_is_proposed() -> None:
    tried = [{"batch": batch, "seconds_per_step": s} for batch, s in [(4, 2.0), (8, 1.02), (16, 1.0), (32, 1.5)]]
    assert proposed(tried) == 8


def test_pixels_of_a_batch_that_cost_all_layers_least_are_proposed() -> None:
    small = {"size": 10, "batches": [{"batch": b, "seconds_per_step": s} for b, s in [(4, 3.0), (8, 2.0), (16, 1.0)]]}
    large = {"size": 20, "batches": [{"batch": b, "seconds_per_step": s} for b, s in [(4, 3.0), (8, 4.0), (16, 6.0)]]}
    assert proposed_pixels([small]) == 16 * 10**2
    assert proposed_pixels([large]) == 4 * 20**2
    assert proposed_pixels([small, large]) == 4 * 20**2


def test_layers_count_by_their_units() -> None:
    layers = [
        {
            "units": units,
            "ours": {"median": ours},
            "peers": {"Lucent": {"seconds": {"median": 6.0}, "ratio": {"median": 6.0 / ours}}},
        }
        for units, ours in [(1, 1.0), (3, 3.0)]
    ]
    assert averaged(layers) == {"mean_ratio_of_a_unit": 3.0, "ratio_of_all_units_together": 2.4}


def test_quality_is_compared_unit_by_unit() -> None:
    scores = {("ours", 8): {0: 2.0, 5: 4.0, 9: 0.0}, ("Lucent", 4): {0: 1.0, 5: 4.0, 9: 3.0}}
    black = torch.zeros(2, 2, 3, dtype=torch.uint8)
    found = {
        who: {unit: Judged(black, score, score / 4, agreement=0.5) for unit, score in own.items()}
        for who, own in scores.items()
    }
    reference, other = compared([0, 5, 9], found, ("ours", 8))
    assert (reference["score_ratio"]["mean"], reference["score_ratio"]["error"]) == (1, 0)
    for ratio in (other["score_ratio"], other["robust_ratio"]):
        assert (ratio["mean"], ratio["count"]) == (0.75, 2)  # the unit that stays silent has none
        assert ratio["error"] == pytest.approx(0.25)  # of 0.5 and 1: 0.354 over the root of 2
    assert other["scores"] == [1.0, 4.0, 3.0]
    assert (other["saturated"], other["agreement"]) == (1, 0.5)


def test_ascents_are_compared_row_by_row_without_signs() -> None:
    longer = {(0, 1): (2.0, 1.0), (0, -1): (-4.0, None), (1, 1): (0.0, 0.0)}
    ours = {(0, 1): (1.0, 0.5), (0, -1): (-3.0, -1.0), (1, 1): (5.0, 5.0)}
    found, same = ascents.compared({"ours": ours, "longer": longer}, "longer")
    assert (found["who"], same["score"]["mean"]) == ("ours", 1)
    assert (found["score"]["mean"], found["score"]["error"]) == (
        0.625,
        0.125,
    )  # of 0.5 and 0.75; what is silent has none
    assert (found["robust_score"]["mean"], found["robust_score"]["count"]) == (0.5, 1)


def test_units_are_spread_over_the_layer() -> None:
    assert spaced(4, 512) == [0, 128, 256, 384]
    assert spaced(4, 3) == [0, 1, 2]
    assert spaced(4, 512, 7) == [7, 135, 263, 391]
    assert first(5, 3) == [0, 1, 2, 0, 1]


def test_what_was_not_measured_is_empty(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report.show("Title", [{"name": "a", "ms": 1.23456}, {"name": "b", "ms": None}, {"name": "long", "ms": 12345.6}])
    assert capsys.readouterr().out == "\nTitle\nname      ms\na      1.235\nb\nlong  12,346\n"


def test_quartiles() -> None:
    assert report.summed([4.0, 1.0, 3.0, 2.0, 5.0]) == {"median": 3.0, "lower": 2.0, "upper": 4.0, "count": 5}
    assert report.summed([7.0])["median"] == 7.0


@lucent.needed
@pytest.mark.filterwarnings("ignore")  # Lucent's, and kornia's
@pytest.mark.parametrize("layer", ["conv2d2", "mixed4c", "mixed5b"])
def test_inceptionv1_is_lucents_but_for_the_norms(layer: str) -> None:
    theirs = lucent_inceptionv1(weights.random(organism(MODEL)).tensors)
    ours = with_lucents_norms(MODEL, "random", torch.device("cpu"))
    seen: list[torch.Tensor] = []
    dict(theirs.named_modules())[layer].register_forward_hook(lambda *given: seen.append(given[2]))
    pictures = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs(pictures * 255 - 117)
        (acts,) = ours(pictures, [layer])
    torch.testing.assert_close(acts, seen[-1], rtol=1e-4, atol=1e-4 * seen[-1].abs().max().item())
    assert LUCENT_NORM.size == 9


def made(steps: int, seconds: float, *robust: float) -> Made:
    judged = {unit: Judged(torch.zeros(1, 1, 3), score, score) for unit, score in enumerate(robust)}
    return Made(steps, seconds, judged)


def test_ours_is_as_good_from_where_units_score_as_high_on_average() -> None:
    theirs = made(512, 100.0, 4.0, 2.0)
    ours = [made(32, 1.0, 2.0, 1.0), made(48, 2.0, 3.0, 2.5), made(64, 4.0, 8.0, 8.0)]
    assert [each.over(theirs) for each in ours] == [0.5, 1.0, 3.0]
    assert beside(ours, theirs) == {"our_steps": 48, "our_seconds": 2.0, "robust_ratio": 1.0, "times_ours": 50.0}
    assert set(beside(ours[:1], theirs).values()) == {None}
    assert set(beside(ours, made(512, 100.0, 0.0, -1.0)).values()) == {None}  # of silent units there is no ratio


def test_unit_has_settled_when_its_score_no_longer_rises() -> None:
    rising = [1.0] * 4 + [2.0] * 4 + [2.01] * 4 + [4.0] * 4
    never = [1.0] * 4 + [2.0] * 4 + [3.0] * 4 + [4.0] * 4
    scores = torch.tensor([rising, never]).T
    assert early_stop.settled(scores, window=4, tolerance=0.02) == [12, 16]
    assert early_stop.settled(scores, window=4, tolerance=0.001) == [16, 16]


def test_rows_of_two_versions_are_compared_column_by_column() -> None:
    ours = {("a", 0): {"mean": 1.0, "software": "now"}, ("a", 1): {"mean": 2.0, "software": "now"}}
    theirs = {("a", 0): {"mean": 1.0, "software": "then"}, ("a", 1): {"mean": 2.5, "software": "then"}}
    assert responses.compared(ours, theirs) == {
        "rows": 2,
        "rows_before": 2,
        "the_same": 1,
        "other_in": {"mean": 1},
    }
    assert responses.compared(ours, {}) == {"rows": 2, "rows_before": 0, "the_same": 0, "other_in": {}}


def test_pictures_are_taken_evenly_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.JPG", "c.png", "d.txt", "e.jpg"):
        (tmp_path / "photos" / name).touch()
    assert responses.some(tmp_path / "photos", 2, tmp_path / "two") == 2
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["a.jpg", "c.png"]
    assert responses.some(tmp_path / "photos", 9, tmp_path / "all") == 4
