"""Lists of units: as a link, as a file of the atlas, with the connections among them, and as text for papers."""

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.lists import MOST_UNITS, Entry, UnitList
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.keys import Key
from microscope_space import routes
from microscope_space.html import papers, text
from microscope_space.pages import lists
from tests.atlases import MODEL
from tests.space.test_pages import Elements

A, B = f"{MODEL}/blocks_4/2", f"{MODEL}/blocks_6/1"


@pytest.fixture
def listed(every: Path, tmp_path: Path) -> Path:
    """An atlas with a list."""
    root = Path(shutil.copytree(every, tmp_path / "atlas"))
    (root / "lists").mkdir()
    units = [{"key": A, "note": "a wheel & <more>"}, {"key": B}]
    (root / "lists/cars.json").write_text(json.dumps({"title": "Cars", "about": "As in a paper.", "units": units}))
    return root


def test_units_of_a_link_stand_side_by_side_with_what_is_said(known: Atlas) -> None:
    asked = {"units": f"{A}, {B}", "title": "Wheels", "about": "All of them.", "notes": "a wheel | <b>"}
    shown = routes.show(known, asked)
    page = Elements(shown)
    assert not page.open
    assert '<h1 tabindex="-1">Wheels</h1>' in shown
    assert "All of them." in shown
    assert "<p>a wheel</p>" in shown
    assert "<p>&lt;b&gt;</p>" in shown
    for key in (A, B):
        model, layer, unit = key.split("/")
        row = next(r for r in known.rows("feature_visualization", model, layer, int(unit)) if r["image"])
        assert row["image"] in shown


def test_a_list_is_the_same_through_its_own_link(known: Atlas) -> None:
    asked = {"units": f"{A},{B}", "title": "Wheels", "notes": "a wheel | a window, too"}
    shown = routes.show(known, asked)
    (link,) = [attrs["href"] for attrs in Elements(shown).of("a") if "data-link" in attrs]
    assert routes.show(known, dict(parse_qsl((link or "").partition("?")[2]))) == shown


def test_units_that_are_not_there_are_said_to_be_none_beside_those_that_are(known: Atlas) -> None:
    shown = routes.show(known, {"units": f"{A},{MODEL}/blocks_4/400,nothing,{MODEL}/blocks_4"})
    assert f"{MODEL}/blocks_4/400 is not in this atlas" in shown
    assert "names no unit" in shown
    assert text.WRONG not in shown
    assert shown.count('class="error"') == 3


def test_too_many_units_are_refused_in_a_sentence(known: Atlas) -> None:
    units = ",".join(f"{MODEL}/stem/{unit}" for unit in range(MOST_UNITS + 1))
    assert f"expected 1 to {MOST_UNITS}" in routes.show(known, {"units": units})
    assert "longer than 4096 characters" in routes.show(known, {"units": "x" * 5000})


def rows(atlas: Atlas, *keys: Key) -> dict[Key, list[dict[str, Any]]]:
    return {key: atlas.rows("connections", key.model, str(key.layer), key.unit) for key in keys}


def test_connections_among_units_are_those_of_the_atlas(known: Atlas) -> None:
    row = known.rows("connections", MODEL, "blocks_6", 1)[0]
    key, other = Key(MODEL, "blocks_6", 1), Key(MODEL, row["other_layer"], row["other_unit"])
    found = lists.wires(rows(known, key, other))
    (wire,) = [each for each in found if each.row["sign"] == row["sign"] and other in (each.start, each.end)]
    assert (wire.start, wire.end) == ((other, key) if row["towards"] == "input" else (key, other))
    assert wire.verb == ("excites" if row["sign"] > 0 else "inhibits")
    assert len({(each.start, each.end, each.row["sign"]) for each in found}) == len(found)
    assert lists.wires(rows(known, key)) == []


def test_where_no_connection_is_known_that_is_said(known: Atlas) -> None:
    assert text.NOT_AMONG in routes.show(known, {"units": f"{A},{MODEL}/blocks_4/3"})


def test_a_list_of_the_atlas_is_shown_and_listed(listed: Path) -> None:
    atlas = Atlas(Folder(listed))
    shown = routes.show(atlas, {"view": "list"})
    assert '<a href="./?view=list&amp;list=cars">Cars</a>' in shown
    assert "2 units. As in a paper." in shown
    shown = routes.show(atlas, {"list": "cars"})
    assert "a wheel &amp; &lt;more&gt;" in shown
    assert "list cars" in shown  # its citation
    wrong = routes.show(atlas, {"list": "car"})
    assert text.WRONG in wrong
    assert "nearest: cars" in wrong


def test_a_damaged_list_is_said_to_be_and_others_are_listed(listed: Path) -> None:
    (listed / "lists/broken.json").write_text('{"title": 3}')
    atlas = Atlas(Folder(listed))
    shown = routes.show(atlas, {"view": "list"})
    assert "cannot be read" in shown
    assert "Cars" in shown
    assert text.UNREADABLE in routes.show(atlas, {"list": "broken"})


def test_an_atlas_without_lists_says_so(known: Atlas) -> None:
    assert "This atlas has no lists." in routes.show(known, {"view": "list"})
    assert "which has none" in routes.show(known, {"list": "cars"})


UNITS = UnitList("100 % of {cars} & _more_", (Entry("a_b/c/1", "a [car]^2"), Entry("a_b/c/2")), "See <this>")
WIRES = [(Key("a_b", "c", 1), "excites", Key("a_b", "c", 2))]


def test_latex_shows_what_was_written() -> None:
    made = papers.latex(UNITS, WIRES, lambda key: f"https://x.org/?a=1&b=%20#{key.unit}", "v1")
    assert made.splitlines() == [
        "% needs \\usepackage{hyperref}; from Microscope Atlas, v1",
        r"\paragraph{100 \% of \{cars\} \& \_more\_} See \textless{}this\textgreater{}",
        r"\begin{itemize}",
        r"  \item \href{https://x.org/?a=1\&b=\%20\#1}{\texttt{a\_b/c/1}}: a [car]\textasciicircum{}2",
        r"  \item \href{https://x.org/?a=1\&b=\%20\#2}{\texttt{a\_b/c/2}}",
        r"  \item \texttt{a\_b/c/1} excites \texttt{a\_b/c/2}",
        r"\end{itemize}",
    ]


def test_markdown_shows_what_was_written() -> None:
    made = papers.markdown(UNITS, WIRES, lambda key: f"?unit={key.unit}", "v1")
    assert made.splitlines() == [
        r"## 100 % of \{cars\} \& \_more\_",
        "",
        r"See \<this\>",
        "",
        r"- [`a_b/c/1`](?unit=1): a \[car\]^2",
        "- [`a_b/c/2`](?unit=2)",
        "",
        "- `a_b/c/1` excites `a_b/c/2`",
        "",
        "From Microscope Atlas, v1.",
    ]
