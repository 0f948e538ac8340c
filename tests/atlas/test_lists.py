"""Lists of units as files of an atlas: read, refused, checked."""

import json
from pathlib import Path
from typing import Any

import pytest

from microscope_atlas.atlas import lists, schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.errors import AtlasDamaged, UnknownName
from microscope_atlas.publish.check import check
from microscope_atlas.publish.cite import cite
from tests.atlases import LAYER, MODEL
from tests.commands import Commands

UNIT = {"key": f"{MODEL}/{LAYER}/1", "note": "a curve"}


def put(root: Path, plain: Any, name: str = "curves") -> str:
    path = root / schema.list_path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(plain if isinstance(plain, str) else json.dumps(plain))
    return schema.list_path(name)


def test_a_list_is_read_as_it_was_written(atlas: Path) -> None:
    put(atlas, {"title": "Curves", "about": "In Circuits.", "units": [UNIT, {"key": f"{MODEL}/{LAYER}/0"}]})
    found = lists.read(Folder(atlas), "curves")
    assert (found.title, found.about, [entry.note for entry in found.units]) == (
        "Curves",
        "In Circuits.",
        ["a curve", ""],
    )
    assert lists.names(Folder(atlas)) == ["curves"]
    assert list(check(Folder(atlas))) == []


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ("{", "is no list of units"),
        ([], "is no list of units"),
        ("[" * 100_000, "is no list of units"),
        ({"title": "x", "units": []}, "expected 1 to 64"),
        ({"title": "x", "units": [UNIT] * 65}, "expected 1 to 64"),
        ({"title": "x", "units": [UNIT, UNIT]}, "listed twice"),
        ({"title": "x", "units": [{"key": f"{MODEL}/{LAYER}"}]}, "names no unit"),
        ({"title": "x", "units": [{"key": "../x/1"}]}, "expected, for example"),
        ({"title": "x", "units": [{"unit": "x"}]}, "there is no units[0].unit; nearest: units[0].note, units[0].key"),
        ({"title": 3, "units": [UNIT]}, "title is 3, expected text"),
        ({"title": "\ud800", "units": [UNIT]}, "that can be printed"),
        ({"title": "x" * 1001, "units": [UNIT]}, "at most 1000 characters"),
        ({"title": "x", "units": [UNIT], "more": 1}, "there is no more"),
        (" " * (1 << 18), "expected at most"),
    ],
)
def test_what_is_no_list_is_refused_in_a_sentence_that_check_says_too(atlas: Path, plain: Any, said: str) -> None:
    path = put(atlas, plain)
    with pytest.raises(AtlasDamaged) as refused:
        lists.read(Folder(atlas), "curves")
    assert said in str(refused.value)
    assert str(refused.value).startswith(path)
    assert list(check(Folder(atlas))) == [str(refused.value)]


def test_check_names_units_that_are_not_there_and_files_that_are_no_lists(atlas: Path) -> None:
    path = put(atlas, {"title": "x", "units": [{"key": f"{MODEL}/{LAYER}/17"}]})
    put(atlas, {}, "no list!")
    problems = list(check(Folder(atlas)))
    assert len(problems) == 2
    assert problems[0].startswith(f"{path}: {MODEL}/{LAYER}/17 is not in the atlas")
    assert problems[1].startswith("lists/no list!.json: no list's name")


@pytest.mark.parametrize("name", ["none", "../atlas", "", "a/b", "x" * 200, "\0"])
def test_a_list_that_is_not_there_is_unknown(atlas: Path, name: str) -> None:
    with pytest.raises(UnknownName, match="has none"):
        lists.read(Folder(atlas), name)


def test_a_list_is_cited(atlas: Path, commands: Commands) -> None:
    put(atlas, {"title": "Curves", "units": [UNIT]})
    assert r"list curves" in cite(Folder(atlas), of="curves")
    ended = commands("cite", atlas, "lists/curves.json")
    assert (ended.status, ended.out.strip()) == (0, cite(Folder(atlas), of="curves"))
    ended = commands("cite", atlas, "lists/curve")
    assert ended.status == 2
    assert "nearest: curves" in ended.err
