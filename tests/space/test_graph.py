"""The drawing of a network's layers."""

import re
from itertools import combinations, pairwise

import pytest

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.models.catalog import CATALOG
from microscope_space.html import graph
from microscope_space.html.graph import FORMS, Form, Place
from microscope_space.pages import model
from tests.atlases import MODEL
from tests.space.test_pages import Elements

EDGES = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "e"), ("a", "f"), ("d", "f")]
SMALL = Form("small", columns=3, width=100, height=200, picture=60, above=20)


def test_nodes_are_ranked_by_their_longest_way() -> None:
    assert graph.ranked(EDGES, "abcdef") == [["a"], ["b", "c"], ["d", "e"], ["f"]]
    assert graph.ranked([], []) == []


def test_a_side_branch_has_a_lane_of_its_own() -> None:
    ranks = graph.ranked(EDGES, "abcdef")
    assert graph.lanes(ranks, EDGES) == {"a": 0, "b": 0, "c": 1, "d": 0, "e": 1, "f": 0}


def test_rows_are_filled_from_left_to_right_and_are_as_high_as_their_lanes() -> None:
    ranks = graph.ranked(EDGES, "abcdef")
    at, height = graph.placed(ranks, graph.lanes(ranks, EDGES), SMALL)
    assert at == {
        "a": Place(0, 0, 21, 20), "b": Place(1, 0, 121, 20), "c": Place(1, 1, 121, 220), "d": Place(2, 0, 221, 20),
        "e": Place(2, 1, 221, 220), "f": Place(3, 0, 21, 420),
    }  # fmt: skip
    assert height == 600


def test_edges_go_past_other_pictures() -> None:
    a, b, c, f = Place(0, 0, 21, 20), Place(1, 0, 121, 20), Place(1, 1, 121, 220), Place(3, 0, 21, 420)
    assert graph.route(a, b, SMALL) == [(83, 50), (119, 50)]
    assert graph.route(a, c, SMALL) == [(83, 50), (96, 50), (96, 250), (119, 250)]
    assert graph.route(a, f, SMALL) == [(83, 50), (101, 50), (101, 410), (1, 410), (1, 450), (19, 450)]


def test_corners_are_round() -> None:
    assert graph.path([(0, 0), (20, 0), (20, 8)]) == "M0 0L14 0Q20 0 20 4L20 8"


@pytest.mark.parametrize("name", CATALOG)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_network_is_drawn_without_overlaps(name: str, form: Form) -> None:
    edges, layers = CATALOG[name].edges, list(CATALOG[name].layers)
    ranks = graph.ranked(edges, layers)
    at, height = graph.placed(ranks, graph.lanes(ranks, edges), form)
    assert at.keys() == set(layers)
    for one, other in combinations(at.values(), 2):
        assert abs(one.x - other.x) >= form.width or abs(one.y - other.y) >= form.height
    for start, end in edges:
        corners = graph.route(at[start], at[end], form)
        assert all(0 < x < form.columns * form.width + 2 and 0 < y < height for x, y in corners)
        for (x, y), (to_x, to_y) in pairwise(corners):
            assert x == to_x or y == to_y
            for place in at.values():  # no line leads through a picture
                assert (
                    max(x, to_x) <= place.x
                    or min(x, to_x) >= place.x + form.picture
                    or max(y, to_y) <= place.y
                    or min(y, to_y) >= place.y + form.picture
                )


def test_the_page_draws_and_tells_every_edge(known: Atlas) -> None:
    shown = model.model(known, MODEL).body
    for form in FORMS:
        (drawing,) = re.findall(rf'<svg class="edges {form.name}".*?</svg>', shown)
        assert drawing.count("marker-end") == 2  # from the input to blocks_4 to blocks_6
        assert 'aria-hidden="true"' in drawing
    assert ", reads blocks_4</span>" in shown and ", reads the input</span>" in shown
    assert len({each["id"] for each in Elements(shown).of("marker")}) == len(FORMS)


def test_a_caricature_begins_with_its_picture(known: Atlas) -> None:
    assert "data:image/jpeg" in model.model(known, MODEL, "caricature", "cat").body
    assert "data:image/jpeg" not in model.model(known, MODEL).body


def test_unknown_wiring_is_not_made_up(known: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Atlas, "organism", lambda *_: None)
    shown = model.model(Atlas(known.storage), MODEL).body
    assert "marker-end" not in shown and "how they are wired is known of" in shown
    assert Elements(shown).of("a")
