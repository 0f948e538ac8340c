"""A lens from outside: rendered, checked, loaded, cited and shown as ours are, and read without its code."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import load_dataset

from microscope_atlas.atlas import outside, schema
from microscope_atlas.atlas.coverage import coverage
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import DIGEST, Manifest, read_manifest
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.errors import (
    AtlasDamaged,
    LensFailed,
    RenderFailed,
    SettingsDiffer,
    UnknownName,
)
from microscope_atlas.keys import Key
from microscope_atlas.lenses.recipe import settings
from microscope_atlas.lenses.registry import lens
from microscope_atlas.publish.check import check
from microscope_atlas.publish.cite import cite
from microscope_atlas.run import reproduce, run
from microscope_space.pages import about, layer, unit
from tests.atlases import HERE, LAYER, LENS, MODEL, RECIPE, content, request
from tests.commands import Commands
from tests.contracts import brightness
from tests.contracts.colours import TABLE

OWN = "own:tests.contracts.colours.Colours"
DERIVED = "own:tests.contracts.brightness.Brightness"
KEY = Key(MODEL, LAYER, 1)
VERSION_0_1 = Path(__file__).parents[1] / "version_0_1" / "atlas"


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas with a table of ours and one from outside. Nobody may write to it."""
    root = tmp_path_factory.mktemp("outside") / "microscope-atlas"
    recipes = {LENS: RECIPE, OWN: lens(OWN).recipe("draft")}
    assert run.render(Folder(root), [request({LAYER: range(3)})], recipes, HERE, 3, lambda *_: None).made == 3 * (4 + 4)
    return root


@pytest.fixture(autouse=True)
def _without_its_code(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads does not import it, unless a test is about making rows."""
    if request.node.get_closest_marker("makes") is None and "colours" in request.fixturenames:
        request.getfixturevalue("colours")

        def never(name: str) -> Any:
            raise AssertionError(f"{name} is imported by who only reads")

        monkeypatch.setattr("microscope_atlas.lenses.registry._own", never)


def test_manifest_describes_its_table(colours: Path) -> None:
    manifest = read_manifest(Folder(colours))
    table = manifest.table("colours")
    assert (table.columns, table.level, table.title) == (TABLE.columns, "unit", "Plain colours")
    assert (table.arrow, table.about) == (TABLE.arrow, TABLE.about)
    assert table.count(manifest.lenses["colours"]) == 4
    assert manifest.tables["colours"]["lens"] == OWN
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_atlas_without_one_keeps_its_bytes() -> None:
    text = (VERSION_0_1 / schema.MANIFEST).read_text()
    again = Manifest.from_json(text).to_json().splitlines(keepends=True)
    assert "".join(line for line in again if not line.startswith(f' "{DIGEST}": ')) == text


def test_it_is_checked_and_counted(colours: Path) -> None:
    assert list(check(Folder(colours))) == []
    assert [(c.lens, c.present) for c in coverage(Folder(colours))] == [("colours", 3), (LENS, 3)]


def test_datasets_loads_it(colours: Path, tmp_path: Path) -> None:
    loaded = load_dataset(str(colours), "colours", split=MODEL, cache_dir=str(tmp_path))
    assert loaded.column_names == [column.name for column in TABLE.columns]
    assert [(row["unit"], row["colour"]) for row in loaded] == [
        (unit, name) for unit in range(3) for name in ("blue", "green", "grey", "red")
    ]
    assert loaded[3]["image"].getpixel((5, 5))[0] > 250
    assert {json.dumps(row["rgb"]) for row in loaded if row["colour"] == "grey"} == {"[0.5, 0.5, 0.5]"}


def test_it_is_cited_and_stands_in_the_card(colours: Path) -> None:
    assert f"key {KEY}" in cite(Folder(colours), KEY).replace(r"\_", "_")
    card = (colours / schema.CARD).read_text()
    assert f"### `colours`\n\nHow strongly a unit answers to a plain colour; by `{OWN}`." in card
    assert "| `response` | float64 | mean activation over all positions |" in card


def test_it_is_shown(colours: Path) -> None:
    atlas = Atlas(Folder(colours))
    page = unit.unit(atlas, MODEL, LAYER, 1).body
    rows = atlas.rows("colours", MODEL, LAYER, 1)
    section = page.partition('<section aria-labelledby="table-colours">')[2].partition("</section>")[0]
    assert "Plain colours" in section
    assert "How strongly a unit answers to a plain colour." in section
    assert re.findall(r"<figcaption>(\w+)", section) == ["blue", "green", "grey", "red"]
    assert section.count("<img ") == 4
    assert section.count("<tr>") == 5
    assert 'title="mean activation over all positions">response</th>' in section
    assert "<summary>Plain colours</summary>" in page
    assert atlas.image("colours", MODEL, rows[0]["image"]).startswith(b"\xff\xd8")
    assert "table-colours" not in layer.layer(atlas, MODEL, LAYER).body
    assert "<dt>Plain colours</dt>" in about.about(atlas).body


@pytest.mark.makes
def test_its_rows_are_made_again_as_they_were(colours: Path) -> None:
    notes, remade = reproduce.reproduce(Folder(colours), KEY, OWN, torch.device("cpu"))
    found = list(remade)
    assert (notes, len(found)) == ([], 4)
    assert all(row.close and row.numbers == 0 for row in found)


@pytest.mark.makes
def test_second_run_makes_nothing_and_other_lenses_go_on_without_it(tmp_path: Path) -> None:
    asked, recipes = [request({LAYER: range(2)})], {OWN: lens(OWN).recipe("draft")}
    run.render(Folder(tmp_path), asked, recipes, HERE, 2, lambda *_: None)
    before = content(tmp_path)
    assert run.render(Folder(tmp_path), asked, recipes, HERE, 2, lambda *_: None).made == 0
    assert content(tmp_path) == before
    assert run.render(Folder(tmp_path), asked, {LENS: RECIPE}, HERE, 2, lambda *_: None).made == 8
    assert list(check(Folder(tmp_path))) == []


@pytest.mark.makes
def test_derived_lens_follows_the_rows_that_it_reads(tmp_path: Path) -> None:
    def render(units: range, *others: str) -> run.Outcome:
        recipes = {LENS: RECIPE} | {name: lens(name).recipe("draft") for name in others}
        return run.render(Folder(tmp_path), [request({LAYER: units})], recipes, HERE, 2, lambda *_: None)

    assert render(range(2), DERIVED).made == 2 * (4 + 1)
    before = content(tmp_path)
    assert render(range(2), DERIVED).made == 0
    assert content(tmp_path) == before
    with pytest.raises(LensFailed, match=f"holds brightness, which follows other rows.*--lens {DERIVED}"):
        render(range(3))
    assert render(range(3), DERIVED).made == 4 + 1
    assert list(check(Folder(tmp_path))) == []
    first = next(path for path in sorted(read_manifest(Folder(tmp_path)).shards) if path.startswith(LENS))
    (tmp_path / first).unlink()
    assert render(range(3), DERIVED).made == 2 * 4  # the same again, so what was made from them holds
    assert list(check(Folder(tmp_path))) == []
    table = read_manifest(Folder(tmp_path)).table("brightness")
    assert (table.reads, table.columns) == (brightness.TABLE.reads, brightness.TABLE.columns)
    rows = [row for path in sorted(tmp_path.glob("brightness/*/*")) for row in read_shard(path).to_pylist()]
    assert [row["unit"] for row in rows] == [0, 1, 2]
    assert all(0.2 < row["brightness"] < 0.8 for row in rows)


@pytest.mark.makes
def test_other_settings_are_refused(tmp_path: Path) -> None:
    asked = [request({LAYER: range(1)})]
    run.render(Folder(tmp_path), asked, {OWN: lens(OWN).recipe("draft")}, HERE, 2, lambda *_: None)
    with pytest.raises(SettingsDiffer, match="colours: size is 32 in the atlas, 64 asked"):
        run.render(Folder(tmp_path), asked, {OWN: lens(OWN).recipe("standard")}, HERE, 2, lambda *_: None)


@pytest.mark.makes
def test_row_that_is_not_its_tables_fails_the_shard_and_is_named(tmp_path: Path) -> None:
    name = "own:tests.contracts.colours.Misspelt"
    with pytest.raises(RenderFailed, match=r"a row of misspelt has 'color', which is no column .nearest: colour"):
        run.render(Folder(tmp_path), [request({LAYER: range(1)})], {name: lens(name).quick()}, HERE, 2, lambda *_: None)


@pytest.mark.long
@pytest.mark.makes
def test_command_line_takes_it_with_its_settings_into_worker_processes(commands: Commands, tmp_path: Path) -> None:
    one = [
        "--model",
        MODEL,
        "--layer",
        LAYER,
        "--units",
        "0:2",
        "--device",
        "cpu",
        "--workers",
        "2",
        "--shard-units",
        "1",
    ]
    ended = commands("render", tmp_path / "a", *one, "--lens", OWN, "--set", "colours.colours=red,grey")
    assert "4 rows made" in ended.out, ended.err
    assert read_manifest(Folder(tmp_path / "a")).lenses["colours"]["colours"] == ["red", "grey"]
    refused = commands("render", tmp_path / "b", *one, "--lens", OWN, "--set", "colours.size=4")
    assert (refused.status, "size is 4, expected a whole number, 8 to 512" in refused.err) == (2, True)


@pytest.mark.makes
def test_instance_is_a_lens_too() -> None:
    assert lens("own:tests.contracts.colours.INSTANCE").table is TABLE
    assert settings(lens("own:tests.contracts.colours.INSTANCE").recipe("draft"))["size"] == 32


@pytest.mark.makes
@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("Colliding", LensFailed, "'sheets' is one of this package's own"),
        ("Unsaid", LensFailed, "does not say recipe, weights_sha256, software, device of its rows"),
        ("Unfinished", LensFailed, "cannot be made"),
        ("NOTHING", LensFailed, "is int, expected a Lens"),
        ("Colour", UnknownName, "nearest: Colours"),
    ],
)
def test_what_is_none_is_refused(name: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        lens(f"own:tests.contracts.colours.{name}")


@pytest.mark.makes
def test_module_that_is_not_there_is_named() -> None:
    with pytest.raises(LensFailed, match=r"'nowhere' cannot be imported.*PYTHONPATH=FOLDER"):
        lens("own:nowhere.Lens")


PLAIN = outside.described(TABLE, OWN, {"colours": ["red"]})


@pytest.mark.parametrize(
    "damage",
    [
        {"columns": []},
        {"columns": PLAIN["columns"][1:]},
        {"columns": [*PLAIN["columns"], {"name": "x", "type": {"dtype": "object"}, "meaning": ""}]},
        {"columns": [*PLAIN["columns"], {"name": "../x", "type": {"dtype": "int32"}, "meaning": ""}]},
        {"columns": [*PLAIN["columns"], {"name": "x", "type": {"list": {"list": 5}}, "meaning": ""}]},
        {"columns": [*PLAIN["columns"], PLAIN["columns"][-1]]},
        {"columns": None},
        {"level": "atlas"},
        {"about": "\x1b[2J"},
        {"rows": 0.5},
        {"reads": {"../x": "layer"}},
        {"more": 1},
    ],
)
def test_manifest_that_describes_no_table_is_damaged(colours: Path, tmp_path: Path, damage: dict[str, Any]) -> None:
    plain = json.loads((colours / schema.MANIFEST).read_text())
    plain["tables"]["colours"] |= damage
    (tmp_path / schema.MANIFEST).write_text(json.dumps(plain))
    with pytest.raises(AtlasDamaged, match="is not a manifest"):
        read_manifest(Folder(tmp_path))
    del plain["tables"]
    plain["tables"] = {"sheets": PLAIN}
    (tmp_path / schema.MANIFEST).write_text(json.dumps(plain))
    with pytest.raises(AtlasDamaged, match="one of this package's own"):
        read_manifest(Folder(tmp_path))


@pytest.mark.makes
@pytest.mark.parametrize("name", ["Grey", "Maps"])
def test_lens_of_the_documentation_is_one(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "own-lenses.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if f"class {name}" in block)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / f"{name.lower()}_of_the_docs.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    own, asked = f"own:{name.lower()}_of_the_docs.{name}", [request({LAYER: range(2)})]
    run.render(Folder(tmp_path / "atlas"), asked, {own: lens(own).quick()}, HERE, 2, lambda *_: None)
    assert list(check(Folder(tmp_path / "atlas"))) == []
