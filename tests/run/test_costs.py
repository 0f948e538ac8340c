import random
from dataclasses import replace
from pathlib import Path

import pytest

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import manifest_or_new
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.lenses.recipe import QUALITIES, changed
from microscope_atlas.lenses.registry import LENSES, lens
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.networks.flops import flops
from microscope_atlas.pictures.sets import picture_set
from microscope_atlas.run import run
from microscope_atlas.run.costs import (
    BESIDE,
    SHARD_SECONDS,
    Costs,
    Rate,
    Setup,
    arithmetic,
    cut,
    interpolated,
    longest_first,
    together,
)
from microscope_atlas.run.plan import Job
from tests.atlases import HERE, LENS, MODEL, RECIPE, content, quick, render, request

LENSES_DRAFT = {name: Setup(name, lens(name).recipe("draft")) for name in LENSES}
FIRST = UnitRange(LENS, MODEL, "stem", 0, 10)
LAST = UnitRange(LENS, MODEL, "blocks_10", 0, 10)


def of(units: UnitRange, seconds: float) -> dict[tuple[str, str, str], Rate]:
    return {(units.lens, units.model, units.layer): Rate(seconds, "a rate of the file")}


def test_measured_layer_takes_what_was_measured() -> None:
    costs = Costs(of(FIRST, 2.0))
    assert costs.basis(FIRST, LENSES_DRAFT) == "a rate of the file"
    assert costs.seconds(FIRST, LENSES_DRAFT) == 20.0


def test_other_layers_take_it_in_proportion_to_their_arithmetic() -> None:
    costs = Costs(of(FIRST, 2.0))
    known = organism(MODEL)
    recipe = LENSES_DRAFT[LENS].recipe
    px = {name: recipe.picture_size(known.layer(name), known.input_size) for name in ("stem", "blocks_10")}
    more = known.flops("blocks_10", px["blocks_10"]) / known.flops("stem", px["stem"])
    assert px["stem"] < px["blocks_10"]
    assert costs.basis(LAST, LENSES_DRAFT) == "arithmetic, and other layers"
    assert costs.seconds(LAST, LENSES_DRAFT) == pytest.approx(20.0 * more)


def test_measured_rate_is_of_the_settings_that_it_was_measured_with() -> None:
    costs = Costs(of(FIRST, 2.0), quality="draft")
    draft = LENSES_DRAFT[LENS].recipe
    longer = {LENS: Setup(LENS, changed(draft, {"ascent.steps": 10 * draft.ascents["ascent"].steps}))}
    assert (costs.seconds(FIRST, LENSES_DRAFT), costs.basis(FIRST, LENSES_DRAFT)) == (20.0, "a rate of the file")
    assert costs.seconds(FIRST, longer) == pytest.approx(200.0)
    assert costs.basis(FIRST, longer) == "arithmetic, and other layers"
    assert costs.seconds(LAST, longer) == pytest.approx(10 * costs.seconds(LAST, LENSES_DRAFT))


def test_other_lenses_take_it_in_proportion_to_their_rows_and_steps() -> None:
    costs = Costs(of(FIRST, 2.0))
    recipe = LENSES_DRAFT["deepdream"].recipe
    twice, once = (
        {**LENSES_DRAFT, "deepdream": Setup("deepdream", changed(recipe, {"ascent.steps": steps}))}
        for steps in (256, 128)
    )
    layer = UnitRange("deepdream", MODEL, "stem", 0, 32)
    assert costs.seconds(layer, twice) == pytest.approx(2 * costs.seconds(layer, once))


def test_pass_over_a_layer_is_shared_by_its_units() -> None:
    known = organism(MODEL)
    work = arithmetic("responses", MODEL, "stem", LENSES_DRAFT) * known.layer("stem").units
    pictures = len(picture_set("default"))
    assert work == pytest.approx(pictures / 2 * flops(known.build(), "stem", known.input_size))


def test_arithmetic_is_of_every_picture_at_its_own_size_and_steps() -> None:
    known, recipe = organism(MODEL), lens(LENS).recipe("standard")
    layer = known.layer("blocks_2")
    px = recipe.picture_size(layer, known.input_size)
    pictures = 4 + 4 + 2  # of fourier, its variants and transparent; and one of maco, whose steps are fewer
    assert px < known.input_size
    assert lens(LENS).flops(known, layer, recipe) == (pictures * 224 + 128) * known.flops("blocks_2", px)


def test_derived_lens_takes_what_it_says_itself_and_a_rate_goes_before() -> None:
    costs = Costs(of(FIRST, 2.0))
    derived = UnitRange("units", MODEL, "stem", 0, 32)
    assert costs.seconds(derived, LENSES_DRAFT) == 32 * LENSES["units"].unit_seconds  # type: ignore[operator]
    assert costs.basis(derived, LENSES_DRAFT) == "a constant"
    known = Costs({**costs.rates, **of(UnitRange("units", MODEL, "head", 0, 1), 0.5)})
    assert known.seconds(derived, LENSES_DRAFT) == 16.0


def test_lens_of_which_nothing_is_known_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(LENSES["units"]), "unit_seconds", None)
    costs, derived = Costs(of(FIRST, 2.0)), UnitRange("units", MODEL, "stem", 0, 32)
    assert (costs.seconds(derived, LENSES_DRAFT), costs.basis(derived, LENSES_DRAFT)) == (0.0, "nothing")


def test_pass_over_a_layer_costs_all_of_it_however_few_units_are_kept() -> None:
    few, whole = (UnitRange("responses", MODEL, "stem", 0, stop) for stop in (4, 32))
    costs = Costs(of(whole, 0.5))
    assert costs.seconds(few, LENSES_DRAFT) == costs.seconds(whole, LENSES_DRAFT) == 16.0


def responses(layer: str, stop: int = 1, model: str = MODEL) -> UnitRange:
    return UnitRange("responses", model, layer, 0, stop)


def test_layers_that_share_a_pass_take_little_more_than_the_longest_alone() -> None:
    layers = {"stem": 0.5, "blocks_4": 1.0, "head": 0.1}
    units = {name: organism(MODEL).layer(name).units for name in layers}
    costs = Costs({place: rate for name, each in layers.items() for place, rate in of(responses(name), each).items()})
    alone = {name: each * units[name] for name, each in layers.items()}
    longest = max(alone.values())
    expected = longest + BESIDE * (sum(alone.values()) - longest)
    assert costs.seconds_together([responses(name) for name in layers], LENSES_DRAFT) == pytest.approx(expected)
    twice = [responses("stem"), replace(responses("stem"), start=3, stop=9)]
    assert costs.seconds_together(twice, LENSES_DRAFT) == alone["stem"]  # two parts of a layer


def test_layers_of_several_passes_take_the_longest_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = Costs(of(responses("stem"), 1.0) | of(responses("blocks_0"), 1.0))
    monkeypatch.setattr(
        type(LENSES["responses"]), "passes_over", lambda self, layers, recipe: [[each] for each in layers]
    )
    several = [responses("stem"), responses("blocks_0")]
    assert costs.seconds_together(several, LENSES_DRAFT) == sum(costs.seconds(each, LENSES_DRAFT) for each in several)


def test_jobs_that_share_passes_are_neighbours_and_begin_as_early_as_their_passes_are_long() -> None:
    some = [FIRST, responses("stem"), responses("conv1", model="alexnet"), LAST, responses("head")]
    assert together(some, lambda units: units, LENSES_DRAFT) == [
        [FIRST],
        [responses("stem"), responses("head")],
        [responses("conv1", model="alexnet")],
        [LAST],
    ]
    costs = Costs(of(FIRST, 100.0) | of(LAST, 1.0) | of(responses("stem"), 0.01) | of(responses("head"), 0.1))
    ordered = longest_first(some[:2] + some[3:], lambda units: units, LENSES_DRAFT, costs)
    assert ordered == [FIRST, responses("stem"), responses("head"), LAST]


def test_layer_between_two_that_are_known_lies_between_them() -> None:
    assert interpolated([(1.0, 2.0), (100.0, 50.0)], 10.0) == pytest.approx(10.0)
    assert interpolated([(1.0, 2.0), (100.0, 50.0)], 200.0) == 100.0
    assert interpolated([(4.0, 2.0)], 2.0) == 1.0
    assert interpolated([(4.0, 2.0), (4.0, 2.0)], 4.0) == pytest.approx(2.0)


@pytest.mark.parametrize("name", [name for name, one in LENSES.items() if not one.reads])
def test_shortened_recipe_asks_for_less_or_as_little(name: str) -> None:
    one, layer = LENSES[name], organism(MODEL).layer("blocks_4")
    for quality in QUALITIES:
        full = one.recipe(quality)
        short, long = (one.shortened(full, steps) for steps in (1, 3))
        assert one.passes(layer, short) <= one.passes(layer, long) <= one.passes(layer, full)
        assert short.picture_size(layer, 224) == full.picture_size(layer, 224)


def test_jobs_are_cut_so_that_none_takes_longer_than_a_worker_may_be_lost_for() -> None:
    costs = Costs(of(FIRST, SHARD_SECONDS / 3.5))
    cuts = cut([FIRST], [], LENSES_DRAFT, costs, 16)
    assert [(units.start, units.stop) for units in cuts] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert max(costs.seconds(units, LENSES_DRAFT) for units in cuts) <= SHARD_SECONDS
    slow = Costs(of(FIRST, 10 * SHARD_SECONDS))
    assert len(cut([FIRST], [], LENSES_DRAFT, slow, 16)) == 10  # a unit is never cut
    assert len(cut([FIRST], [], LENSES_DRAFT, Costs(), 16)) == 1
    assert cut([FIRST], [FIRST], LENSES_DRAFT, costs, 16) == []


def test_deeper_layers_begin_first_without_any_rate() -> None:
    jobs = longest_first([FIRST, LAST], lambda units: units, LENSES_DRAFT, Costs())
    assert jobs == [LAST, FIRST]


def test_jobs_of_one_network_stay_together_where_they_take_alike() -> None:
    """A worker keeps one network loaded."""
    several = [UnitRange(LENS, model, layer, 0, 4) for model in ("alexnet", MODEL) for layer in ("conv1", "conv2")]
    costs = Costs({})
    for units, seconds in zip(several, (17.0, 30.0, 18.0, 9.0), strict=True):
        costs = Costs({**costs.rates, **of(units, seconds)})
    assert longest_first(several, lambda units: units, LENSES_DRAFT, costs) == several


class Shuffled:
    """An engine that takes jobs in whatever order, and remembers the one that they were given in."""

    def __init__(self) -> None:
        self.given: list[UnitRange] = []

    def run(self, jobs: list[Job], root: Path) -> object:
        self.given += [job.units for job in jobs]
        return HERE.run(random.Random(0).sample(jobs, len(jobs)), root)


def test_run_begins_with_the_longest_and_the_order_changes_no_file(tmp_path: Path) -> None:
    layers = {"stem": range(3), "blocks_4": range(2), "blocks_0": range(2)}
    recipes = {LENS: RECIPE, "sheets": quick("sheets")}
    given = Shuffled()
    for root, engine in ((tmp_path / "one", HERE), (tmp_path / "other", given)):
        run.render(Folder(root), [request(layers)], recipes, engine, 1, lambda *_: None)  # type: ignore[arg-type]
    assert content(tmp_path / "one") == content(tmp_path / "other")
    looking = [units.layer for units in given.given if units.lens == LENS]
    assert looking == ["blocks_4"] * 2 + ["blocks_0"] * 2 + ["stem"] * 3


def test_stages_are_the_jobs_that_render_gives_to_its_engine(tmp_path: Path) -> None:
    layers = {"stem": range(3), "blocks_0": range(2)}
    recipes = {LENS: RECIPE, "sheets": quick("sheets")}
    costs = Costs(of(FIRST, SHARD_SECONDS / 2))
    render(tmp_path, range(1))
    wanted = [run.Selection(organism(MODEL), layers)]
    stages = run.stages(manifest_or_new(Folder(tmp_path)), wanted, recipes, 16, costs)
    given = Shuffled()
    run.render(Folder(tmp_path), [request(layers)], recipes, given, 16, lambda *_: None, costs=costs)  # type: ignore[arg-type]
    assert [units for stage in stages for units in stage] == given.given
    assert [units.start for units in stages[0] if units.layer == "stem"] == [1]
