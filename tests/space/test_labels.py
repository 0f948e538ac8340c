"""Labels in the Space: on a unit's page, as captions, in searches by label and meaning; never without who says so."""

import shutil
from pathlib import Path

import pytest

import microscope_atlas as ma
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.keys import Key
from microscope_atlas.lenses import labels_clip_dissect
from microscope_atlas.lenses.recipe import changed
from microscope_atlas.lenses.registry import lens
from microscope_space import records, routes
from microscope_space.brief import brief_unit
from microscope_space.html import text
from microscope_space.openapi import description
from microscope_space.search import index, meaning
from microscope_space.search.find import find
from microscope_space.search.said import who
from tests import seeing_texts
from tests.lenses.test_labels_clip_dissect import NAME, recipes
from tests.seeing_texts import SEEING

SOURCE = Path(__file__).parents[1] / "version_0_1" / "atlas"
MODEL = "efficientnet_lite0"
FAMILY = f"{MODEL}/stem/1"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    """An atlas with a family from a table. Nobody may write to it."""
    folder = tmp_path_factory.mktemp("labelled")
    root = shutil.copytree(SOURCE, folder / "atlas")
    (folder / "families.csv").write_text(f"key,label,score,measure\n{FAMILY},<b>Gabor filters,0.5,votes\n")
    ma.open(root).label(folder / "families.csv", "a toy & its maker", "CC0-1.0", method="by eye")
    return Atlas(Folder(Path(root)))


@pytest.fixture
def dissected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Atlas:
    """The network that sees colours, with labels by CLIP-Dissect."""
    seeing_texts.install(tmp_path, monkeypatch)
    labels_clip_dissect._once.cache_clear()
    meaning._is_here.cache_clear()
    given = recipes(seeing_texts.photos(tmp_path), seeing_texts.listed(tmp_path))
    given["units"] = changed(lens("units").recipe("draft"), {})
    seeing_texts.rendered(tmp_path / "a", {"colours": range(4)}, given)
    return Atlas(Folder(tmp_path / "a"))


def test_page_of_a_unit_says_what_it_is_said_to_be_for_and_by_whom(labelled: Atlas) -> None:
    page = routes.show(labelled, {"model": MODEL, "layer": "stem", "unit": "1"})
    section = page.partition('<section aria-labelledby="labels">')[2].partition("</section>")[0]
    for told in (
        "&lt;b&gt;Gabor filters",
        "by eye",
        "0.5",
        "a toy &amp; its maker",
        "CC0-1.0",
        "Score of by eye: votes.",
    ):
        assert told in section
    assert text.LABELS_WARNING in section
    assert '<a href="#labels">' in page
    without = routes.show(labelled, {"model": MODEL, "layer": "stem", "unit": "0"})
    assert 'aria-labelledby="labels"' not in without
    assert '<a href="#labels">' not in without


def test_layer_shows_the_first_label_as_a_caption_and_who_says_so(labelled: Atlas) -> None:
    page = routes.show(labelled, {"model": MODEL, "layer": "stem"})
    assert page.count("<small>&lt;b&gt;Gabor filters</small>") == 1
    assert "Words below pictures are labels; by eye: a toy &amp; its maker." in page
    assert "label &lt;b&gt;Gabor filters (by eye: a toy &amp; its maker)" in page  # for those who point at it
    assert text.LABELS_SHOWN not in routes.show(labelled, {"model": MODEL, "layer": "blocks_2"})


def test_search_finds_a_unit_by_its_label_and_says_who_says_so(labelled: Atlas) -> None:
    assert index.of(labelled).read.wait(60)
    first = find(labelled, "gabor").found[0]
    assert (str(first.key), first.what) == (FAMILY, "label: <b>Gabor filters (by eye: a toy & its maker)")
    assert "Gabor filters (by eye: a toy &amp; its maker)" in routes.show(labelled, {"q": "gabor filter"})
    by_number = find(labelled, "stem 1").found
    assert FAMILY in map(str, (each.key for each in by_number))
    assert "<small>label: &lt;b&gt;Gabor filters (by eye" in routes.show(labelled, {"q": "stem 1"})


def test_programs_are_told_of_labels_with_who_says_so(labelled: Atlas) -> None:
    (row,) = records.of_unit(labelled, MODEL, "stem", 1)["labels"]
    assert (row["label"], row["source"], row["license"]) == ("<b>Gabor filters", "a toy & its maker", "CC0-1.0")
    (told,) = brief_unit(labelled, Key(MODEL, "stem", 1))["labels"]
    assert told == {
        "label": "<b>Gabor filters",
        "method": "by eye",
        "source": "a toy & its maker",
        "license": "CC0-1.0",
        "score": 0.5,
    }
    assert "Labels" in description(labelled, "http://here/")["components"]["schemas"]
    (found,) = [each for each in records.of_words(labelled, "gabor")["found"] if each["key"] == FAMILY]
    assert "by eye" in found["what"]


def test_units_are_found_by_meaning_where_the_clip_is_here(dissected: Atlas) -> None:
    assert meaning.at_hand(dissected)
    page = routes.show(dissected, {"q": "xx"})
    assert text.BY_MEANING in page
    found = records.record(dissected, {"q": "xx", "by": "meaning"})[0]["found"]  # as long as green, and in no list
    assert [each["key"] for each in found] == [f"{SEEING.name}/colours/{unit}" for unit in (1, 0, 2)]
    assert found[0]["what"].startswith("cosine 1.00; label: gg (clip_dissect: word list letters, sha256 ")
    page = routes.show(dissected, {"q": "xx", "by": "meaning"})
    assert text.MEANT in page
    assert text.BY_NAME in page


def test_without_the_clip_labels_alone_are_searched(
    dissected: Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path / "elsewhere"))
    meaning._is_here.cache_clear()
    assert index.of(dissected).read.wait(60)
    page = routes.show(dissected, {"q": "gg"})
    assert text.BY_MEANING not in page
    assert "label: gg (clip_dissect" in page
    told, status = records.record(dissected, {"q": "gg", "by": "meaning"})
    assert status == 503 or "text tower" in told["error"]
    assert "text tower" in routes.show(dissected, {"q": "gg", "by": "meaning"})


def test_atlas_without_embeddings_offers_no_search_by_meaning(labelled: Atlas) -> None:
    assert not meaning.at_hand(labelled)
    assert text.BY_MEANING not in routes.show(labelled, {"q": "gabor"})
    assert "has no embeddings to search by meaning" in routes.show(labelled, {"q": "gabor", "by": "meaning"})


def test_text_that_is_too_long_is_answered_in_a_sentence(dissected: Atlas) -> None:
    assert "shorten it" in routes.show(dissected, {"q": "a b c d e f g h", "by": "meaning"})


def test_hashes_are_shown_by_their_beginning() -> None:
    assert who("m", f"list, sha256 {'ab' * 32}; more") == "m: list, sha256 abababababab; more"
    assert len(who("m", "x" * 999)) == 160


def test_labels_of_both_kinds_are_in_the_order_of_people_first(dissected: Atlas, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(f"key,label\n{SEEING.name}/colours/0,rouge\n")
    root = Path(dissected.storage.name)
    ma.open(root).label(tmp_path / "own.csv", "me", "CC0-1.0")
    atlas = Atlas(Folder(root))
    assert [row["label"] for row in atlas.rows("labels", SEEING.name, "colours", 0)] == ["rouge", "r", "bbb", "gg"]
    assert atlas.first_labels(SEEING.name, "colours")[0]["label"] == "rouge"
    assert NAME in atlas.manifest.of_config("labels")
