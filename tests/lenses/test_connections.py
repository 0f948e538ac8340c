"""Connections of networks whose weights are known."""

import pytest
import torch
from torch import Tensor, nn

from microscope_atlas.atlas.schema import table
from microscope_atlas.lenses.connections import Connections, Recipe, cropped
from microscope_atlas.lenses.lens import Row, Subject
from microscope_atlas.lenses.recipe import QUALITIES, settings
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.ops import Preprocess
from microscope_atlas.models.organism import Organism
from tests import toy

LENS = Connections()
HANDMADE = Organism("toy", "Toy", "", 2026, "nothing", 16, toy.handmade, toy.HANDMADE_LAYERS, ())
LARGER = Organism(
    *("toy", "Toy", "", 2026, "nothing", 32, toy.network_to_be_initialised),
    {"conv1": None, "mixed": None, "logits": None},
    (),
)


def rows(known: Organism, graph: Graph, layer: str, units: range, recipe: Recipe | None = None) -> list[Row]:
    subject = Subject(known, known.layer(layer), torch.device("cpu"), lambda: graph)
    return [row for some in LENS.rows(subject, units, recipe or Recipe()) for row in some]


def handmade(layer: str, units: range, graph: Graph | None = None) -> list[Row]:
    return rows(HANDMADE, graph or toy.handmade(), layer, units)


def told(found: list[Row]) -> list[tuple[object, ...]]:
    """What connects, without what nothing connects to."""
    named = ("unit", "towards", "other_layer", "sign", "rank", "other_unit", "strength")
    return [tuple(row[name] for name in named) for row in found if row["flag"] is None]


def kernel(values: dict[tuple[int, int], float]) -> list[list[float]]:
    return [[values.get((row, column), 0.0) for column in range(5)] for row in range(5)]


def one_pair(weight: Tensor) -> tuple[Organism, Graph]:
    """Two convolutions, the second with this kernel."""

    def build() -> Graph:
        g = Graph()
        units, side = weight.shape[1:3]
        x = g.add("data", Preprocess((0.0, 0.0, 0.0)))
        x = g.add("a", nn.ReLU(), g.add("a_pre", nn.Conv2d(3, units, 1), x))
        g.add("b", nn.ReLU(), g.add("b_pre", nn.Conv2d(units, len(weight), side, padding=side // 2), x))
        return g

    g = build().requires_grad_(False)
    g.get_submodule("b_pre").weight.copy_(weight)
    return Organism("pair", "Pair", "", 2026, "nothing", 16, build, {"a": None, "b": None}, ()), g


def test_inputs_are_what_a_unit_adds_up() -> None:
    found = [row for row in handmade("conv2", range(2)) if row["towards"] == "input"]
    assert told(found) == [
        (0, "input", "conv1", 1, 0, 0, 1.0),  # edge and red, as strong
        (0, "input", "conv1", 1, 1, 1, 1.0),
        (1, "input", "conv1", 1, 0, 0, 2.0),
        (1, "input", "conv1", -1, 0, 1, 1.0),
    ]
    by_place = {(row["unit"], row["sign"], row["rank"]): row for row in found}
    assert by_place[1, 1, 0]["kernel"] == kernel({(2, 1): 2.0})  # the edge one position to the left
    assert by_place[1, -1, 0]["kernel"] == kernel({(2, 2): -1.0})
    assert by_place[1, -1, 0]["weight"] == -1.0
    assert {row["extent"] for row in found} == {3}


def test_outputs_are_the_same_weights_seen_from_the_other_end() -> None:
    assert told([row for row in handmade("conv1", range(3)) if row["towards"] == "output"]) == [
        (0, "output", "conv2", 1, 0, 1, 2.0),
        (0, "output", "conv2", 1, 1, 0, 1.0),
        (1, "output", "conv2", 1, 0, 0, 1.0),
        (1, "output", "conv2", -1, 0, 1, 1.0),
    ]


def test_a_pair_of_units_has_one_kernel_from_both_ends() -> None:
    whole = Recipe(top=100)
    graph = toy.network()
    inputs = rows(LARGER, graph, "mixed", range(32), whole)
    outputs = rows(LARGER, graph, "conv1", range(16), whole)
    values = ("strength", "weight", "norm", "kernel", "extent")

    def wires(found: list[Row], towards: str) -> dict[tuple[int, int, int], list[object]]:
        at = ("unit", "other_unit") if towards == "input" else ("other_unit", "unit")
        some = [row for row in found if row["towards"] == towards and row["flag"] is None]
        return {(row[at[0]], row[at[1]], row["sign"]): [row[name] for name in values] for row in some}

    assert wires(inputs, "input") == wires(outputs, "output")
    assert len(wires(inputs, "input")) > 32 * 16


def test_what_nothing_connects_to_says_so() -> None:
    dark = [row for row in handmade("conv1", range(3)) if row["unit"] == 2]
    assert [(row["sign"], row["rank"], row["strength"], row["flag"]) for row in dark] == [
        (1, 0, 0.0, "dead"),
        (-1, 0, 0.0, "dead"),
    ]


def test_first_layer_has_no_inputs_and_last_no_outputs() -> None:
    sides = {
        layer: {(row["towards"], row["other_layer"]) for row in handmade(layer, range(2))} for layer in HANDMADE.layers
    }
    assert sides == {
        "conv1": {("output", "conv2")},
        "conv2": {("input", "conv1"), ("output", "logits")},
        "logits": {("input", "conv2")},
    }


def test_a_mean_over_the_map_is_seen_at_its_middle() -> None:
    row = next(row for row in handmade("logits", range(1, 2)) if row["sign"] == -1)
    assert (row["other_unit"], row["extent"]) == (0, 16)
    assert row["kernel"] == [[-1 / 256] * 5] * 5
    assert row["weight"] == pytest.approx(-1.0)
    assert row["norm"] == row["strength"] == pytest.approx(1 / 16)


def test_signs_are_ranked_by_their_own_part_of_the_kernel() -> None:
    window, body, dust = (torch.zeros(5, 5) for _ in range(3))
    window[:2], window[3:] = 1.0, -1.0  # excites above, inhibits below: no sum at all
    body[:] = 0.5
    dust[2, 2] = -0.1
    known, graph = one_pair(torch.stack([dust, body, window])[None])
    found = rows(known, graph, "b", range(1))
    assert [(row["sign"], row["rank"], row["other_unit"]) for row in found] == [
        (1, 0, 2),
        (1, 1, 1),
        (-1, 0, 2),
        (-1, 1, 0),
    ]
    assert [row["strength"] for row in found] == pytest.approx([10**0.5, 2.5, 10**0.5, 0.1])
    assert [row["norm"] for row in found] == pytest.approx([20**0.5, 2.5, 20**0.5, 0.1])
    assert [row["weight"] for row in found] == pytest.approx([0, 12.5, 0, -0.1])
    assert found[0]["kernel"] == window.tolist()


def test_only_the_strongest_are_kept() -> None:
    known, graph = one_pair(torch.arange(-15.0, 16.0).view(1, 31, 1, 1))
    found = rows(known, graph, "b", range(1))
    assert [row["weight"] for row in found] == [*range(15, 5, -1), *range(-15, -5)]
    assert [row["rank"] for row in found] == [*range(10), *range(10)]


def test_what_is_beyond_the_crop_counts() -> None:
    far = torch.zeros(1, 1, 7, 7)
    far[0, 0, 0, 0] = 3.0
    known, graph = one_pair(far)
    row = rows(known, graph, "b", range(1))[0]
    assert (row["strength"], row["weight"], row["norm"], row["extent"]) == (3.0, 3.0, 3.0, 7)
    assert row["kernel"] == kernel({})


def test_a_weight_that_is_not_a_number_is_flagged() -> None:
    known, graph = one_pair(torch.tensor([1.0, torch.nan]).view(2, 1, 1, 1))
    found = rows(known, graph, "b", range(2), Recipe(batch=1))
    assert [(row["unit"], row["flag"]) for row in found] == [(0, None), (1, "nan"), (0, "dead"), (1, "nan")]


@pytest.mark.parametrize("layer", ["conv1", "mixed", "logits"])
def test_row_does_not_depend_on_which_units_are_asked_for(layer: str) -> None:
    graph = toy.network()
    among = [row for row in rows(LARGER, graph, layer, range(10)) if row["unit"] in (3, 4)]
    assert among
    assert rows(LARGER, graph, layer, range(3, 5)) == among


def test_middle_of_an_even_length_is_the_second_of_two() -> None:
    for length, expected in ((1, [0, 0, 0, 0, 0]), (2, [0, 0, 1, 0, 0]), (6, [1, 2, 3, 4, 5]), (7, [1, 2, 3, 4, 5])):
        row = cropped(torch.arange(float(length)).expand(1, 1, 1, length), 5)[0, 0, 2]
        assert row.tolist() == expected


def test_rows_fit_the_table_and_name_themselves_once() -> None:
    columns = {column.name for column in table("connections").columns}
    found = rows(LARGER, toy.network(), "mixed", range(32))
    assert {*found[0], "model", "layer", "weights_sha256", "software", "device"} == columns
    key = table("connections").sort_key
    assert len({key({"model": "", "layer": "", **row}) for row in found}) == len(found) > 32 * 2 * 2 * 5


def test_row_says_how_its_weights_were_found() -> None:
    expected = {**settings(Recipe()), "linearisation": "closed form"}
    assert all(row["recipe"] == expected for row in rows(LARGER, toy.network(), "mixed", range(2)))


def test_no_quality_is_less_exact() -> None:
    assert {LENS.recipe(quality) for quality in QUALITIES} == {Recipe()}


def test_a_network_that_is_no_graph_is_differentiated() -> None:
    known = organism("own:tests.models.own_networks.small")
    network = weights.network(known, weights.load(known))
    subject = Subject(known, known.layer("block_conv2"), torch.device("cpu"), lambda: network)
    found = [row for some in LENS.rows(subject, range(8), Recipe()) for row in some]
    assert {(row["towards"], row["other_layer"]) for row in found} == {("input", "block_conv1"), ("output", "mixer")}
    assert {row["recipe"]["linearisation"] for row in found} == {"gradient"}
    kernels = network.get_submodule("module.block.conv2").weight
    for row in found:
        if row["towards"] == "input":
            inner = torch.tensor(row["kernel"])[1:4, 1:4]
            torch.testing.assert_close(inner, kernels[row["unit"], row["other_unit"]])


def test_a_trained_network_is_wired() -> None:
    known = organism("efficientnet_lite0")
    network = weights.network(known, weights.load(known))
    subject = Subject(known, known.layer("blocks_4"), torch.device("cpu"), lambda: network)
    found = [row for some in LENS.rows(subject, range(40), Recipe()) for row in some]
    assert {row["other_layer"] for row in found} == {"blocks_3", "blocks_5"}
    assert len(found) == 40 * 2 * 2 * 10
    assert all(row["flag"] is None and row["strength"] <= row["norm"] * 1.0001 for row in found)
    own = [row for row in found if row["towards"] == "input" and row["rank"] == 0 and row["sign"] == 1]
    assert sum(row["unit"] == row["other_unit"] for row in own) > 20  # the sum hands each unit on
