"""What the documentation says is so: its code runs, its links within the repository lead somewhere."""

import re
import runpy
from itertools import groupby
from pathlib import Path

import pytest
from PIL import Image

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest
from microscope_atlas.atlas.tables import described
from microscope_atlas.cli import app
from microscope_atlas.lenses import caricature, deepdream
from microscope_atlas.publish.check import check
from microscope_atlas.rendering.ascend import Ascent
from microscope_atlas.run import run
from tests import atlases
from tests.commands import Commands

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "dataset_card.md")


def blocks(document: str) -> list[str]:
    """The Python in a document that stands for itself: it imports what it uses, and no file is named above it."""
    found = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    return [block for block in found if not block.startswith("# ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an atlas called microscope-atlas, of the layer that the examples name."""
    folder = tmp_path_factory.mktemp("docs")
    atlases.render_every(folder / "microscope-atlas", {"blocks_4": range(3)})
    return folder


@pytest.mark.parametrize(
    "code", [pytest.param(code, id=f"{name} {i}") for name in DOCUMENTS for i, code in enumerate(blocks(name))]
)
def test_code_runs(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Image.Image] = []
    monkeypatch.setattr(Image.Image, "show", lambda image: shown.append(image))
    monkeypatch.chdir(folder)
    names: dict[str, object] = {"__name__": "docs"}
    exec(compile(code, "docs", "exec", dont_inherit=True), names)
    if "load_dataset" in code:
        assert all(image.mode == "RGB" for image in shown)
        assert any(len(value) for value in names.values() if hasattr(value, "__len__") and not isinstance(value, str))


def test_contact_sheet_shows_a_tile_for_every_unit(folder: Path) -> None:
    contact_sheet = runpy.run_path(str(ROOT / "docs" / "contact_sheet.py"))["contact_sheet"]
    sheet = contact_sheet(str(folder / "microscope-atlas"), "efficientnet_lite0", "blocks_4")
    assert sheet.size == (8 * 116 - 4, 112)
    tiles = [sheet.crop((at * 116, 0, at * 116 + 112, 112)).getextrema() for at in range(4)]
    assert [any(low < high for low, high in tile) for tile in tiles] == [True, True, True, False]


def test_caricatures_stand_below_their_sources_beside_deepdreams(tmp_path: Path) -> None:
    quick = Ascent(steps=1)
    recipes = {"deepdream": deepdream.Recipe(quick, 32), "caricature": caricature.Recipe(quick, 32, sources=("cat",))}
    atlas, request = tmp_path / "atlas", atlases.request({"stem": range(32), "blocks_0": range(16)})
    run.render(Folder(atlas), [request], recipes, atlases.HERE, 8, lambda *_: None)
    contact_sheet = runpy.run_path(str(ROOT / "docs" / "deepdream_caricature.py"))["contact_sheet"]
    sheet = contact_sheet(str(atlas), "efficientnet_lite0")
    assert sheet.size == (2 * 148 - 4, 3 * 164)
    tiles = [sheet.crop((x, y + 20, x + 144, y + 164)) for y in (0, 164, 328) for x in (0, 148)]
    assert [any(low < high for low, high in tile.getextrema()) for tile in tiles] == [False, *[True] * 5]
    assert not list(check(Folder(atlas)))


def test_card_of_an_atlas_is_filled_in(folder: Path) -> None:
    card = (folder / "microscope-atlas" / schema.CARD).read_text()
    assert "{{ " not in card
    assert read_manifest(Folder(folder / "microscope-atlas")).models["efficientnet_lite0"]["weights_sha256"] in card
    assert "| `efficientnet_lite0` | `blocks_4` | `feature_visualization` | 3 |" in card
    assert not list(check(Folder(folder / "microscope-atlas")))


def test_commands_of_the_card_run(folder: Path, commands: Commands) -> None:
    card = (folder / "microscope-atlas" / schema.CARD).read_text()
    (block,) = re.findall(r"```sh\n(.*?)```", card, re.DOTALL)
    for line in block.splitlines():
        program, verb, atlas, *rest = line.split()
        assert (program, atlas) == ("microscope-atlas", "microscope-atlas")
        ended = commands(verb, folder / atlas, *rest)
        assert ended.status == 0, ended.err


def test_rows_of_the_cards_tables_are_as_wide_as_their_heads(folder: Path) -> None:
    lines = (folder / "microscope-atlas" / schema.CARD).read_text().splitlines()
    tables = [list(block) for is_row, block in groupby(lines, lambda line: line.startswith("|")) if is_row]
    assert len(tables) == len(schema.TABLES) + 3  # columns, coverage, and sources of weights and pictures
    for table in tables:
        assert len({line.count("|") for line in table}) == 1, table[0]


@pytest.mark.parametrize("name", schema.TABLES)
def test_card_says_of_every_column_what_the_schema_says(name: str) -> None:
    sections = re.split(r"^### `(\w+)`$", (ROOT / "dataset_card.md").read_text(), flags=re.MULTILINE)
    section = sections[sections.index(name) + 1].partition("\n## ")[0]
    for column in schema.TABLES[name].columns:
        assert f"| `{column.name}` | {described(column.type)} | {column.meaning} |\n" in section


def test_every_verb_stands_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"microscope-atlas {command.callback.__name__}" in text


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_within_the_repository_lead_somewhere(document: str) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)]+)\)", (ROOT / document).read_text()):
        assert (ROOT / target).exists(), target
