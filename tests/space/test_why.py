"""Why here?, in a network whose answers are worked out by hand, and on a trained one."""

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import InvalidSetting, PicturesFailed, UnknownName
from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.pictures.sources import source
from microscope_atlas.rendering.attribution import Ablation
from microscope_space.html import text
from microscope_space.live import chooser, drawn, excited, explained, place, probe, reasons, why
from tests import atlases
from tests.space.test_probe import SIZE, a_red_dot, atlas  # noqa: F401 - a fixture

SHEPHERD = 235


def test_a_unit_is_credited_to_the_one_before_where_that_fires(atlas: Any) -> None:  # noqa: F811
    """conv2's first unit is edge plus red at the position itself: at the red dot red gives 2, the edge what it has."""
    found = reasons.why(atlas, a_red_dot(), "handmade", "conv2", 0, where=(5.4, 2.6))
    assert (found.earlier, found.place) == ("conv1", (2, 5))
    red = next(each for each in found.units_for if each.unit == 1)
    assert red.amount == pytest.approx(2)
    assert np.argwhere(red.map).tolist() == [[2, 5]]
    assert found.attribution.total == pytest.approx(found.attribution.target)  # it has no bias
    assert found.attribution.nonlinear == () and not found.units_against


def test_a_class_is_credited_to_means_over_the_picture(atlas: Any) -> None:  # noqa: F811
    found = reasons.why(atlas, a_red_dot(), "handmade", "logits", 0, "conv1")
    red = next(each for each in found.units_for if each.unit == 1)
    assert red.amount == pytest.approx(2 / SIZE**2) and found.place is None
    against = reasons.why(atlas, a_red_dot(), "handmade", "logits", 1, "conv1").units_against
    # conv2's first unit, which is taken away, has red's 2; its second fires there, 2 * 2 - 2, and takes away 2 more
    assert {each.unit: each.amount for each in against}[1] == pytest.approx(-4 / SIZE**2)


def test_the_place_is_the_strongest_unless_one_is_asked_for(atlas: Any) -> None:  # noqa: F811
    picture = Image.new("RGB", (SIZE, SIZE))
    picture.putpixel((6, 4), (255, 255, 255))  # an edge from the position at its left
    found = reasons.why(atlas, picture, "handmade", "conv2", 0)
    acts = excited.probe(atlas, picture, "handmade").maps["conv1", 0]
    assert found.place == tuple(np.unravel_index(acts.argmax(), acts.shape))
    assert reasons.why(atlas, picture, "handmade", "conv2", 0, where="mean").place is None


def test_groups_make_up_the_layer_and_are_credited_with_their_part(atlas: Any) -> None:  # noqa: F811
    found = reasons.why(atlas, a_red_dot(), "handmade", "logits", 0, "conv1")
    assert len(found.groups) == 3 and found.groups_explain > 0.9  # no more than units
    assert sum(each.amount for each in found.groups) == pytest.approx(found.attribution.total, rel=0.2)
    assert max(each.map.max() for each in found.groups) == 1
    assert all(each.units for each in found.groups)


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        (("conv1", 0), InvalidSetting, "no layer of handmade is before conv1, so nothing there could be a reason"),
        (("conv2", 0, "logits"), InvalidSetting, "layer 'logits' of handmade does not lead to"),
        (("conv2", 0, "conv9"), UnknownName, "layer 'conv9' is not in handmade; nearest: conv"),
        (("conv2", 5), UnknownName, "unit 5 is not in handmade/conv2; it has 0 to 1"),
        (("conv3", 0), UnknownName, "layer 'conv3' is not in handmade"),
        (("conv2", 1, None, (0.0, 0.0)), InvalidSetting, "no unit of conv1 moves it: it is silent or saturated"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    atlas: Any,  # noqa: F811
    asked: tuple[Any, ...],
    error: type[Exception],
    said: str,
) -> None:
    with pytest.raises(error, match=said):
        reasons.why(atlas, a_red_dot(), "handmade", *asked)


def test_a_picture_of_one_colour_has_no_reasons(atlas: Any) -> None:  # noqa: F811
    with pytest.raises(PicturesFailed, match="all one colour"):
        reasons.why(atlas, Image.new("RGB", (SIZE, SIZE), "red"), "handmade", "conv2", 0)


@pytest.mark.parametrize(
    ("drop", "credited", "random", "said"),
    [
        (3.0, 3.5, (0.2, -0.1), "So they do matter, and about as much as they are credited with."),
        (3.0, 9.0, (0.2, 0.5), "So they do matter, but take the single amounts with care."),
        (0.4, 3.0, (0.2, 0.5), "So they matter no more than others: do not rely on this list."),
        (0.4, 3.0, (), "they are credited with 3. No other unit is active here to compare with."),
        (-1.0, 3.0, (-2.0, -3.0), "So they matter no more than others: do not rely on this list."),
    ],
)
def test_what_the_test_says_is_said(drop: float, credited: float, random: tuple[float, ...], said: str) -> None:
    assert explained.judged(Ablation((1, 2), credited, drop, random)).endswith(said)


def test_nothing_for_it_leaves_nothing_to_silence() -> None:
    assert "none to silence" in explained.judged(Ablation((), 0.0, 0.0, (0.0,)))
    alone = explained.judged(Ablation((7,), 3.0, 2.0, ()))
    assert alone.startswith("with the unit silenced that is credited most, it falls by 2; it is credited with 3.")


def test_masks_are_numbered_and_told_apart() -> None:
    left, right = np.zeros((32, 32), np.float32), np.zeros((32, 32), np.float32)
    left[:, :16], right[:, 16:] = 1, 1
    picture = np.full((32, 32, 3), 128, np.uint8)
    image = np.asarray(drawn.masks(picture, [left, right])).astype(int)
    orange, blue = image[200, 100], image[200, 200]
    assert orange[0] > orange[2] + 60 and blue[2] > blue[0] + 60
    assert (image[:60, :60] == 255).all(2).any() and (image[:60, 140:200] == 255).all(2).any()  # the discs
    assert len(set(drawn.COLOURS)) >= reasons.GROUPS


def test_classes_are_told_with_their_shares(known: Atlas) -> None:
    seen = excited.probe(known, source("dog"), atlases.MODEL)
    assert seen.classes[0].name == "German shepherd"
    assert seen.classes[0].share > 0.9 and len(seen.classes) == excited.CLASSES
    html = probe.shown(known, "dog", atlases.MODEL, seen)
    assert f'data-why="logits/{SHEPHERD}"' in html and "below 1%" in html
    assert html.count("data-why=") == 5 + sum(len(units) for units in seen.layers.values())


def test_rows_are_json_and_the_same_each_time(known: Atlas) -> None:
    rows = why.plain(known, "dog", atlases.MODEL, "logits", SHEPHERD, None, "strongest")
    assert (
        json.loads(json.dumps(rows))
        == rows
        == why.plain(known, "dog", atlases.MODEL, "logits", SHEPHERD, "blocks_6", "strongest")
    )
    assert rows["earlier"] == "blocks_6" and rows["class_name"] == "German shepherd"
    assert rows["credited"] + rows["remainder"] == pytest.approx(rows["target"])
    assert [each["amount"] for each in rows["units_for"]] == sorted(
        (each["amount"] for each in rows["units_for"]), reverse=True
    )
    assert all(each["amount"] < 0 for each in rows["units_against"])
    assert len(rows["silenced"]["random_drops"]) == reasons.DRAWS


def test_units_of_the_atlas_lead_to_their_pages_and_others_say_so(known: Atlas) -> None:
    html = why.shown(known, "dog", atlases.MODEL, f"logits/{SHEPHERD}", "strongest", 50, 50, "blocks_6")
    linked = {int(part.split('"')[0]) for part in html.split(f'href="./{atlases.MODEL}/blocks_6/')[1:]}
    assert linked <= {0, 1}  # those that the atlas has, of 80
    assert "is not in this atlas" in html
    assert "Why German shepherd?" in html and "<b>Tested:</b> with the 10 units silenced" in html
    assert "piecewise linear, so the two add up exactly" in html


def test_what_goes_wrong_is_said_escaped(known: Atlas) -> None:
    for asked in ("<script>alert(1)</script>", "", "blocks_6", "blocks_6/999", "blocks_99/1", None):
        html = why.shown(known, "dog", atlases.MODEL, asked, "strongest", 50, 50, None)  # type: ignore[arg-type]
        assert 'role="alert"' in html and "<script>" not in html and text.UNREADABLE not in html
    assert chooser.FORGOTTEN[1:] in why.shown(known, None, atlases.MODEL, "logits/1", "strongest", 50, 50, None)  # type: ignore[arg-type]
    for asked in ("there", "nan,1", "1,2,3", "inf,0", None):
        with pytest.raises(InvalidSetting, match=f"where is {asked!r}; expected strongest, mean, or a point as 112,80"):
            place.place(asked)
    assert place.place("112, 80") == (112.0, 80.0)


def test_only_layers_before_are_offered(known: Atlas) -> None:
    organism = CATALOG[atlases.MODEL]
    assert reasons.earlier_layers(known, organism, "logits") == ["blocks_4", "blocks_6"]
    assert reasons.earlier_layers(known, organism, "blocks_6") == ["blocks_4"]
    assert reasons.earlier_layers(known, organism, "blocks_4") == ["stem", *(f"blocks_{at}" for at in range(4))]
    assert reasons.earlier_layers(known, organism, "stem") == []
    assert not why.button(known, atlases.MODEL, "stem", 0, "stem 0")
