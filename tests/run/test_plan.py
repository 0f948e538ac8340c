from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microscope_atlas.atlas.tables import Scope
from microscope_atlas.atlas.units import Input, UnitRange, content_id, inputs, missing, union
from microscope_atlas.errors import UnknownName
from microscope_atlas.lenses.recipe import settings
from microscope_atlas.models.catalog import organism
from microscope_atlas.run.plan import DEFAULT_UNITS, Job, differences, select
from tests.atlases import LAYER, LENS, MODEL, RECIPE


def run(layer: str, start: int, count: int) -> UnitRange:
    return UnitRange(LENS, MODEL, layer, start, start + count)


RUNS = st.lists(st.builds(run, st.sampled_from(["stem", "head"]), st.integers(0, 30), st.integers(1, 12)), max_size=6)


def each(runs: Iterable[UnitRange]) -> list[tuple[str, int]]:
    """Unit by unit."""
    return [(run.layer, unit) for run in runs for unit in range(run.start, run.stop)]


@given(RUNS, RUNS, st.integers(1, 7))
def test_missing_is_what_is_wanted_and_not_there_each_once(
    wanted: list[UnitRange], there: list[UnitRange], most: int
) -> None:
    found = missing(wanted, there, most)
    assert sorted(each(found)) == sorted(set(each(wanted)) - set(each(there)))
    assert all(0 < run.stop - run.start <= most for run in found)


@given(RUNS, st.randoms(use_true_random=False), st.integers(1, 7))
def test_slices_do_not_depend_on_the_order_of_what_is_there(there: list[UnitRange], order: Any, most: int) -> None:
    wanted = [run("stem", 0, 40), run("head", 0, 40)]
    shuffled = order.sample(there, len(there))
    assert missing(wanted, there, most) == missing(wanted, shuffled, most)


@given(RUNS, st.randoms(use_true_random=False))
def test_union_is_the_same_units_in_as_few_runs_as_can_be(runs: list[UnitRange], order: Any) -> None:
    merged = union(runs)
    assert each(merged) == sorted(set(each(runs)))
    assert all(a.layer != b.layer or a.stop < b.start for a, b in pairwise(merged))
    assert union(order.sample(runs, len(runs))) == union(merged) == merged


def test_selection_is_everything_unless_less_is_named() -> None:
    known = organism(MODEL)
    assert select(known, [], None) == {name: range(layer.units) for name, layer in known.layers.items()}
    assert select(known, ["head", "stem"], None) == {"head": range(1280), "stem": range(32)}
    assert select(known, [], range(3, 5)) == dict.fromkeys(known.layers, range(3, 5))


def test_selection_of_what_is_not_there_is_refused() -> None:
    with pytest.raises(UnknownName, match="layer 'stemm' is not in efficientnet_lite0; nearest: stem"):
        select(organism(MODEL), ["stemm"], None)
    with pytest.raises(UnknownName, match="units 30:33 are not all in efficientnet_lite0/stem; it has 0:32"):
        select(organism(MODEL), ["head", "stem"], range(30, 33))
    with pytest.raises(UnknownName, match="unit 32 is not in efficientnet_lite0/stem; it has 0:32, from 0 to 31"):
        select(organism(MODEL), ["stem"], range(32, 33))


def test_default_units_exist() -> None:
    for model, layers in DEFAULT_UNITS.items():
        for layer, units in layers.items():
            assert select(organism(model), [layer], units) == {layer: units}


def test_differences_name_each_setting_that_differs_and_no_other() -> None:
    there = settings(RECIPE)
    assert differences(there, there) == []
    views = replace(RECIPE.ascent.views, shift=3.0)
    asked = settings(replace(RECIPE, batch=3, ascent=replace(RECIPE.ascent, views=views)))
    assert differences(asked, there) == [
        "ascent.views.shift is 12.0 in the atlas, 3.0 asked",
        "batch is 16 in the atlas, 3 asked",
    ]
    assert differences({}, {"steps": 2}) == ["steps is 2 in the atlas, None asked"]


UNITS = UnitRange(LENS, MODEL, LAYER, 0, 2)


def leaves(plain: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, value in plain.items():
        found += leaves(value, (*path, name)) if isinstance(value, dict) else [(*path, name)]
    return found


@pytest.mark.parametrize("path", leaves(settings(RECIPE)), ids=".".join)
def test_id_changes_with_every_setting(path: tuple[str, ...]) -> None:
    changed = settings(RECIPE)
    inner = changed
    for name in path[:-1]:
        inner = inner[name]
    if inner[path[-1]] is None:
        inner[path[-1]] = 1
    else:
        inner[path[-1]] += {list: ["more"], str: "more"}.get(type(inner[path[-1]]), 1)
    assert content_id(UNITS, changed, "w") != content_id(UNITS, settings(RECIPE), "w")


@pytest.mark.parametrize(
    "other",
    [
        lambda units: replace(units, lens="other"),
        lambda units: replace(units, model="other"),
        lambda units: replace(units, layer="other"),
        lambda units: replace(units, start=1),
        lambda units: replace(units, stop=3),
    ],
)
def test_id_changes_with_the_units(other: Callable[[UnitRange], UnitRange]) -> None:
    assert content_id(other(UNITS), settings(RECIPE), "w") != content_id(UNITS, settings(RECIPE), "w")


def test_id_changes_with_weights_and_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Job(UNITS, RECIPE, "pretrained", "w").id
    assert first == content_id(UNITS, settings(RECIPE), "w")
    assert Job(UNITS, RECIPE, "pretrained", "v").id != first
    monkeypatch.setattr("microscope_atlas.atlas.schema.SCHEMA_VERSION", "2")
    assert Job(UNITS, RECIPE, "pretrained", "w").id != first


def test_what_rows_are_made_from_is_of_their_units_their_layer_or_all_as_the_table_says() -> None:
    there = (("a", "x", 0, 4), ("a", "x", 4, 8), ("a", "y", 0, 4), ("b", "x", 0, 4))
    runs = [UnitRange("responses", *each) for each in there]
    shards, own = [Input(run, run.path) for run in runs], UnitRange("own", "a", "x", 0, 2)
    found = [[shards.index(each) for each in inputs(own, {"responses": scope}, shards)] for scope in get_args(Scope)]
    assert found == [[0], [0, 1], [0, 1, 2, 3]]
    assert inputs(own, {"others": "atlas"}, shards) == ()


def test_path_sorts_by_unit() -> None:
    paths = [UnitRange(LENS, MODEL, LAYER, at, at + 2).path for at in range(0, 20_000, 499)]
    assert paths == sorted(paths)


@pytest.mark.parametrize(
    ("lens", "model", "layer", "start", "stop"),
    [
        (LENS, MODEL, "../../etc", 0, 1),
        (LENS, "..", LAYER, 0, 1),
        ("/tmp", MODEL, LAYER, 0, 1),
        (LENS, MODEL, LAYER, 3, 3),
        (LENS, MODEL, LAYER, 3, -1),
        (LENS, MODEL, LAYER, -1, 3),
    ],
)
def test_no_path_leads_out_of_the_atlas_and_no_run_is_empty(
    lens: str, model: str, layer: str, start: int, stop: int
) -> None:
    with pytest.raises(ValueError, match="are no"):
        UnitRange(lens, model, layer, start, stop)


def test_rows_of_networks_from_outside_never_share_an_id_with_those_of_another_renderer() -> None:
    outside = UnitRange("feature_visualization", "torchvision:resnet18", "conv1", 0, 4)
    assert content_id(outside, {}, "w") != content_id(outside, {}, "w", renderer=1)
    assert content_id(UNITS, {}, "w") == content_id(UNITS, {}, "w", renderer=1)
