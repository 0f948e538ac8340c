"""The pages, as HTML: what stands on each, whatever the link."""

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qsl, unquote

import pytest

import microscope_atlas as ma
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.links import link as old_link
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import UnknownName
from microscope_atlas.keys import Key, parse_key
from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.pictures.cuts import NOW, OF_0_1
from microscope_space import routes
from microscope_space.html import links, text
from microscope_space.pages import layer, unit
from microscope_space.pages.choice import Choice, chosen
from microscope_space.pages.frame import Page
from microscope_space.search.given import exists
from tests import atlases
from tests.atlases import MODEL

LAYER = (MODEL, "blocks_4")
UNIT = {"model": MODEL, "layer": "blocks_4", "unit": "2"}
PAGES: dict[str, dict[str, str]] = {
    "home": {},
    "model": {"model": MODEL},
    "caricatures": {"model": MODEL, "lens": "caricature"},
    "layer": {"model": MODEL, "layer": "blocks_4"},
    "minimised": {"model": MODEL, "layer": "blocks_4", "direction": "-1", "objective": "neuron"},
    "unit": UNIT,
    "not rendered": {**UNIT, "unit": "39"},
    "compare": {"view": "compare", "a": f"{MODEL}/blocks_4/0", "b": f"{MODEL}/blocks_6/1"},
    "about": {"view": "about"},
    "search": {"q": "blocks 4 1"},
    "list": {"units": f"{MODEL}/blocks_4/0,{MODEL}/blocks_6/1", "title": "Two", "notes": "one | other"},
    "lists": {"view": "list"},
    "wrong": {"model": "vgg"},
}
PARAMETERS = (
    "model", "layer", "unit", "lens", "source", "revision", "url", "q", "view", "a", "b", "sort", "branch", "flag",
    "method", "objective", "direction", "tiles", "other", "units", "title", "about", "notes", "list",
)  # fmt: skip
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "${alert(1)}",
    "../../etc/passwd",
    "\0\n<b>",
    "x" * 100_000,
)


class Elements(HTMLParser):
    """The elements of a page with their attributes, and whether each end tag fits."""

    VOID = ("img", "input", "br", "wbr", "rect", "circle", "line", "polyline", "meta", "link")

    def __init__(self, html: str):
        super().__init__()
        self.all: list[tuple[str, Mapping[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def of(self, *tags: str) -> list[Mapping[str, str | None]]:
        return [attrs for tag, attrs in self.all if tag in tags]


def led_to(atlas: Atlas, link: str) -> Page:
    """The page that a link of a page leads to."""
    path, _, query = link.removeprefix(links.root()).partition("?")
    return routes.answer(atlas, dict(parse_qsl(query)), path)[0]


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_sound(known: Atlas, name: str) -> None:
    shown = routes.show(known, PAGES[name])
    page = Elements(shown)
    assert not page.open
    assert known.revision in shown
    assert len(page.of("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.all if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all("alt" in attrs for attrs in page.of("img"))
    assert all(attrs.get("aria-label") or attrs.get("aria-hidden") for attrs in page.of("svg"))
    ids = [attrs["id"] for _, attrs in page.all if "id" in attrs]
    assert len(ids) == len(set(ids))
    for attrs in page.of("section", "nav"):
        assert attrs.get("aria-label") or attrs.get("aria-labelledby") in ids
    assert not [tag for tag, attrs in page.all if tag == "script" or any(key.startswith("on") for key in attrs)]


@pytest.mark.parametrize("name", PAGES)
def test_links_of_every_page_lead_somewhere(known: Atlas, name: str) -> None:
    for attrs in Elements(routes.show(known, PAGES[name])).of("a"):
        target = attrs["href"] or ""
        if target.startswith("./picture?"):
            asked = dict(parse_qsl(target.partition("?")[2]))
            assert known.image(asked["table"], asked["model"], asked["name"], asked["column"])
        elif target.startswith("./"):
            assert led_to(known, target).status == 200, target
        else:
            assert re.match("https://|#", target), target


@pytest.mark.parametrize("name", PAGES)
def test_links_within_a_page_lead_to_a_part_of_it(known: Atlas, name: str) -> None:
    page = Elements(routes.show(known, PAGES[name]))
    ids = {attrs["id"] for _, attrs in page.all if "id" in attrs}
    assert {(attrs["href"] or "")[1:] for attrs in page.of("a") if (attrs["href"] or "").startswith("#")} <= ids


@pytest.mark.parametrize("name", PAGES)
def test_images_of_every_page_are_in_the_atlas(known: Atlas, name: str) -> None:
    for attrs in Elements(routes.show(known, PAGES[name])).of("img"):
        src = attrs["src"] or ""
        asked = dict(parse_qsl(src.partition("?")[2]))
        if src.startswith("data:image/jpeg"):
            continue  # one of the package's own
        if src.startswith("./thumbnail/"):
            assert exists(known, parse_key(unquote(src.removeprefix("./thumbnail/").partition("?")[0])))
            continue
        assert known.image(asked["table"], asked["model"], asked["name"], asked["column"])


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize(
    "start", [{}, {"model": MODEL}, {"model": MODEL, "layer": "blocks_4"}, UNIT, {"view": "compare"}]
)
def test_nothing_gets_in_through_a_link(known: Atlas, start: dict[str, str], hostile: str) -> None:
    for name in PARAMETERS:
        shown = routes.show(known, {**start, name: hostile})
        page = Elements(shown)
        assert not page.open
        assert len(shown) < 300_000
        for tag, attrs in page.all:
            assert tag != "script"
            assert not any(key.startswith("on") for key in attrs)
            assert not (attrs.get("href") or "").startswith("javascript")


def test_unit_page_has_every_lens(known: Atlas) -> None:
    shown = routes.show(known, UNIT)
    rows = known.rows("feature_visualization", MODEL, "blocks_4", 2)
    assert len(rows) == atlases.IMAGES
    for row in rows:
        assert row["image"].replace("/", "%2F") in shown
    assert shown.count('class="heat"') == 3
    assert shown.count('class="kernel"') == len(known.rows("connections", MODEL, "blocks_4", 2))
    assert "Borowski et al. 2021" in shown
    assert "Geirhos et al. 2024" in shown
    assert "@misc{microscope_atlas" in shown
    assert "not in this atlas" in shown  # its neighbours in the network are not


def test_weights_are_drawn_over_the_pictures_of_the_units_that_they_weigh(
    known: Atlas, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = known.rows("connections", *LAYER, 2)
    assert {row["other_layer"] for row in rows}.isdisjoint(known.layers(MODEL))  # folded: their units are not there
    assert routes.show(known, UNIT).count("not in this atlas</small></h3></summary>") == 2
    there = [{**row, "other_layer": "blocks_6", "other_unit": at % 3} for at, row in enumerate(rows)]
    read = known.rows
    monkeypatch.setattr(known, "rows", lambda table, *key: there if table == "connections" else read(table, *key))
    shown = unit.unit(known, *LAYER, 2).body
    assert "not in this atlas" not in shown
    tiles = re.findall(r'<a class="tile"[^>]*><span class="both">(.*?)<svg class="kernel"', shown)
    assert len(tiles) == len(rows)
    assert [("<img" in tile, "nothing" in tile) for tile in tiles[:3]] == [(True, False), (True, False), (False, True)]


def test_lens_without_rows_is_said_to_have_none(tmp_path: Path) -> None:
    atlases.render(tmp_path / "atlas", range(2))
    atlas = Atlas(Folder(tmp_path / "atlas"))
    shown = routes.show(atlas, {"model": MODEL, "layer": "stem", "unit": "1"})
    for lens in ("dataset samples", "synthetic tuning", "connections", "responses"):
        assert f"This atlas has no {lens} of {MODEL}/stem/1." in shown
    assert shown.count('class="warning"') == 1  # of the one lens that there is: what is not there needs none
    assert f"This atlas has no deepdream of {MODEL}/stem." in routes.show(atlas, {"model": MODEL, "layer": "stem"})
    assert routes.show(atlas, {})


def test_layer_page_is_one_image_with_a_link_for_every_unit(known: Atlas) -> None:
    page = Elements(routes.show(known, {"model": MODEL, "layer": "blocks_4"}))
    (grid,) = [attrs for attrs in page.of("ul") if attrs.get("class") == "sheet medium"]
    assert (grid["style"] or "").count("picture?table=sheets") == 1
    places = [attrs["style"] for attrs in page.of("a") if (attrs.get("style") or "").startswith("--at")]
    sheet = known.rows("sheets", MODEL, "blocks_4")[0]
    assert (sheet["units"], sheet["columns"]) == ([0, 1, 2, 3], 2)  # of 40
    assert places == [f"--at:{x}.000% {y}.000%" for x, y in ((0, 0), (100, 0), (0, 100), (100, 100))]


def options(page: str) -> dict[str, dict[str, str]]:
    """Of each select its options, and which is chosen, as `""`."""
    found: dict[str, dict[str, str]] = {}
    for name, inner in re.findall(r'<select name="(\w+)"[^>]*>(.*?)</select>', page):
        for value, chosen_, words in re.findall(r'<option value="([^"]*)"( selected)?>([^<]*)<', inner):
            found.setdefault(name, {})[value] = words
            found[name] |= {"": value} if chosen_ else {}
    return found


def test_a_layers_pictures_are_chosen_by_lens_objective_and_direction(known: Atlas) -> None:
    asked = {"model": MODEL, "layer": "blocks_4"}
    shown = options(routes.show(known, asked))
    assert list(shown) == ["method", "objective", "direction", "sort", "tiles"]
    assert shown["method"] == {
        "fourier": "made pictures",
        "top": "best natural pictures",
        "colours": "preferred colours",
        "curves": "preferred curves",
        "gratings": "preferred gratings",
        "": "fourier",
    }
    assert shown["objective"] == {"channel": "channel", "neuron": "centre neuron", "": "channel"}
    assert shown["direction"] == {"1": "maximised", "-1": "minimised", "": "1"}
    # of samples there is one sheet: nothing else is asked, and what was asked of another kind of picture is let go
    page = routes.show(known, {**asked, "method": "top", "direction": "-1"})
    assert options(page).keys() == {"method", "sort", "tiles"}
    sheets = {(row["lens"], row["objective"], row["direction"]): row["image"] for row in known.rows("sheets", *LAYER)}
    assert sheets["dataset_samples", "neuron", 1] in page
    minimised = routes.show(known, {**asked, "objective": "neuron", "direction": "-1", "tiles": "large"})
    assert sheets["feature_visualization", "neuron", -1] in minimised
    assert 'class="sheet large"' in minimised


def test_a_layer_without_the_usual_pictures_shows_what_it_has(tmp_path: Path) -> None:
    sheets = {("maco", "neuron", "-1"): {}, ("maco", "neuron", "1"): {}, ("top", "neuron", "1"): {}}
    assert Choice().among(sheets, "here").sheet == ("maco", "neuron", "1")
    assert Choice(direction="-1").among(sheets, "here").sheet == ("maco", "neuron", "-1")
    assert Choice(method="top", direction="-1").among(sheets, "here").sheet == ("top", "neuron", "1")
    for wrong in (Choice(method="gratings"), Choice(objective="layer"), Choice(direction="2"), Choice(tiles="huge")):
        with pytest.raises(UnknownName, match="not in"):
            wrong.among(sheets, "here")


def test_a_sheet_shows_units_with_such_a_picture_alone(known: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = known.rows("units", *LAYER)
    for row in rows[:3]:
        row["visualizations"] = [each for each in row["visualizations"] if each["objective"] != "neuron"]
    for units in (None, [3]):  # as of version 0.1, and as now
        sheets = [{**row, "num_pictures": 1, "units": units} for row in known.rows("sheets", *LAYER)]
        told = {"units": rows, "sheets": sheets}
        with monkeypatch.context() as patched:
            patched.setattr(known, "rows", lambda table, *_, told=told: told.get(table, []))
            shown = layer.layer(known, *LAYER, Choice(objective="neuron")).body
        assert f"4 of {known.num_units(*LAYER)} units are rendered; 1 of them have such a picture." in shown
        assert shown.count('style="--at') == 1


def test_units_that_have_pictures_alone_are_listed_all_the_same(tmp_path: Path) -> None:
    """As of a run with `--lens feature_visualization`: what is known of a unit's responses is another lens' matter."""
    atlases.render_every(tmp_path, {"blocks_4": range(3)}, lenses=("feature_visualization", "sheets"))
    atlas = Atlas(Folder(tmp_path))
    assert atlas.units_there(*LAYER) == [0, 1, 2]
    shown = layer.layer(atlas, *LAYER).body
    assert f"3 of {atlas.num_units(*LAYER)} units are rendered" in shown
    assert shown.count('style="--at') == 3
    assert 'title="unit 1"' in shown
    assert "has no units" not in shown


ROWS = [
    {"unit": unit, "maximum": maximum, "branch": branch, "flag": flag, "visualizations": [
        {"method": "fourier", "objective": "channel", "direction": 1, "variant": 0, "score": -unit, "natural": None}
    ]}
    for unit, maximum, branch, flag in (
        (0, 2.0, "a", None), (1, None, "a", "nan"), (2, 5.0, "b", None), (3, -1.0, None, "dead")
    )
]  # fmt: skip


@pytest.mark.parametrize(
    ("choice", "units"),
    [
        (Choice(), [0, 1, 2, 3]),
        (Choice(sort="maximum"), [2, 0, 3, 1]),
        (Choice(sort="score"), [0, 1, 2, 3]),
        (Choice(sort="natural"), [0, 1, 2, 3]),
        (Choice(branch="a"), [0, 1]),
        (Choice(branch="none"), [3]),
        (Choice(flag="dead"), [3]),
        (Choice(flag="none", sort="maximum"), [2, 0]),
    ],
)
def test_units_are_sorted_and_filtered(choice: Choice, units: list[int]) -> None:
    assert [row["unit"] for row in chosen(ROWS, choice)] == units


@pytest.mark.parametrize(
    ("asked", "said", "near"),
    [
        ({"model": "efficientnet"}, "nearest: efficientnet_lite0", f'"./{MODEL}"'),
        ({"model": MODEL, "layer": "block_4"}, "nearest: blocks_4", f'"./{MODEL}/blocks_4"'),
        ({**UNIT, "unit": "40"}, "it has 0 to 39", f'"./{MODEL}/blocks_4/39"'),
        ({**UNIT, "unit": "x"}, "unit &#39;x&#39;", f'"./{MODEL}/blocks_4"'),
        ({**UNIT, "unit": "007"}, "unit &#39;007&#39;", f'"./{MODEL}/blocks_4"'),
        ({"layer": "blocks_4"}, "names a layer and no model", f'"./{MODEL}"'),
        ({"view": "compere"}, "nearest: compare", f'"./{MODEL}"'),
        ({"model": MODEL, "layer": "blocks_4", "sort": "size"}, "sort &#39;size&#39;", f'"./{MODEL}/blocks_4"'),
        ({"model": MODEL, "layer": "blocks_4", "method": "maco"}, "fourier-channel-1", f'"./{MODEL}/blocks_4"'),
        ({"model": MODEL, "lens": "caricature", "source": "dog"}, "nearest: cat", f'"./{MODEL}"'),
        ({"url": "https://example.com/models/vgg19_caffe"}, "is not to microscope.openai.com", '<a href="./"'),
    ],
)
def test_wrong_link_says_what_is_wrong_and_what_is_near(
    known: Atlas, asked: dict[str, str], said: str, near: str
) -> None:
    shown = routes.show(known, asked)
    assert text.WRONG in shown
    assert f"{said[:1].upper()}{said[1:]}" in shown or said in shown
    assert near in shown


def test_old_links_lead_to_the_same_unit() -> None:
    for name in ("inceptionv1", "vgg19_caffe"):
        known = CATALOG[name]
        inner = list(known.layers)[-2]
        old = old_link(known, inner, 7)
        assert old
        assert routes.key_of({"url": old}) == Key(name, inner, 7)
        assert routes.key_of({"url": old.removeprefix("https://microscope.openai.com")}) == Key(name, inner, 7)


def test_old_link_to_what_the_atlas_lacks_offers_what_it_has(known: Atlas) -> None:
    shown = routes.show(known, {"url": "/models/inceptionv1/mixed4c_0/447"})
    assert text.WRONG in shown
    assert f'"./{MODEL}"' in shown


def test_link_at_another_revision_is_noted(known: Atlas) -> None:
    assert 'class="notice"' in routes.show(known, {**UNIT, "revision": "v2020.1.0"})
    assert 'class="notice"' not in routes.show(known, {**UNIT, "revision": known.pin})


def test_same_unit_correlates_with_itself(known: Atlas) -> None:
    key = f"{MODEL}/blocks_4/1"
    assert "correlate by <b>1.00</b>" in routes.show(known, {"view": "compare", "a": key, "b": key})


def test_a_layer_says_what_its_tiles_are(known: Atlas) -> None:
    asked = {"model": MODEL, "layer": "blocks_4", "objective": "neuron"}
    assert "made to silence the unit, its centre neuron." in routes.show(known, {**asked, "direction": "-1"})
    assert "Each is the natural picture that" in routes.show(known, {**asked, "method": "top"})


def test_set_of_photos_says_how_many_they_are() -> None:
    assert (
        text.picture_set("default", OF_0_1.revision) == f"default, crops of 12 photos, revision {OF_0_1.revision[:12]}"
    )
    assert "crops of 87 photos" in text.picture_set("default", NOW.revision)
    assert text.picture_set("folder", "0" * 64) == "folder, revision 000000000000"


def test_page_says_what_a_unit_is_only_where_that_is_known(whole: Path, tmp_path: Path) -> None:
    own = "own:tests.models.own_networks.small"
    brief = {"feature_visualization": {"ascent.steps": 1}}
    ma.render(tmp_path, own, "feature_visualization", "logits", 0, settings=brief, workers=1, device="cpu")
    for root, model, shown, said in (
        (whole, MODEL, "stem", "channel 0 of 32."),
        (tmp_path, own, "logits", "unit 0 of 1."),  # without its row of `units` nobody says that it is a neuron
    ):
        page = routes.show(Atlas(Folder(root)), {"model": model, "layer": shown, "unit": "0"})
        assert f'<p class="about">{said}' in page


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0%"),
        (0.633, "63%"),
        (0.9974, "99.7%"),
        (0.99996, "99.996%"),
        (0.0004, "0.04%"),
        (1 - 1e-9, "more than 99.999%"),
        (1e-9, "less than 0.001%"),
        (1.0, "100%"),
    ],
)
def test_unit_that_fires_somewhere_is_not_at_zero_everywhere(value: float, said: str) -> None:
    assert unit.share(value) == said
