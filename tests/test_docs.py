"""What the documentation says is so: its code runs, its commands, files and links are there, its pages are whole."""

import importlib.util
import json
import re
import runpy
import subprocess
import sys
import warnings
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from PIL import Image

import microscope_atlas
from docs import organism_pictures
from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest
from microscope_atlas.atlas.organisms import organisms
from microscope_atlas.atlas.tables import described
from microscope_atlas.cli import app
from microscope_atlas.lenses import caricature, deepdream
from microscope_atlas.lenses.registry import LENSES
from microscope_atlas.publish.check import check
from microscope_atlas.rendering.ascend import Ascent
from microscope_atlas.run import run
from tests import atlases
from tests.commands import Commands

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
DOCUMENTS = ("README.md", "dataset_card.md", *PAGES)
AROUND = ("CONTRIBUTING.md", "SECURITY.md", "findings/README.md")  # without examples
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))

# where a path in the text may begin
ROOTS = [ROOT, ROOT / "generate" / "microscope_atlas", ROOT / "docs", ROOT / "benchmarks" / "results"]


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
    assert (
        len(tables) == len({table.config for table in schema.TABLES.values()}) + 4
    )  # columns, coverage, sources of weights and photos, and a set of pictures
    for table in tables:
        assert len({line.count("|") for line in table}) == 1, table[0]


@pytest.mark.parametrize("name", schema.TABLES)
def test_card_says_of_every_column_what_the_schema_says(name: str) -> None:
    sections = re.split(r"^### `(\w+)`$", (ROOT / "dataset_card.md").read_text(), flags=re.MULTILINE)
    section = sections[sections.index(schema.TABLES[name].config) + 1].partition("\n## ")[0]
    for column in schema.TABLES[name].columns:
        assert f"| `{column.name}` | {described(column.type)} | {column.meaning} |\n" in section


def test_lens_pictures_are_drawn_of_an_atlas(folder: Path, tmp_path: Path) -> None:
    draw = runpy.run_path(str(ROOT / "docs" / "lens_pictures.py"))["main"]
    draw(str(folder / "microscope-atlas"), "efficientnet_lite0", "blocks_4", tmp_path)
    sizes = {}
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            sizes[path.name] = image.size
            assert any(low < high for low, high in image.convert("RGB").getextrema())
    assert sizes["synthetic_tuning.png"] == (3 * 84 - 4, 6 * 84 - 4)  # three units; of three families stimulus and map
    assert sizes["connections.png"] == (3 * 84 - 4, 6 * 84 - 4)  # of two signs three kernels
    assert sizes["dataset_samples.jpg"] == (7 * 84 - 4, 3 * 84 - 4)
    assert sizes.keys() == {path.name for path in (ROOT / "docs" / "lenses").iterdir()}


def test_sheets_of_a_whole_network_are_drawn_of_an_atlas(folder: Path, tmp_path: Path) -> None:
    organism_pictures.main(str(folder / "microscope-atlas"), "efficientnet_lite0", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == organism_pictures.SHEETS.keys()
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            colours = len(image.convert("RGB").getcolors(2**24) or ())
            assert colours == 1 if path.name == "units.jpg" else colours > 2  # three units have no map
            if path.name == "feature_visualization.jpg":
                assert image.size == (84 + 3 * 68 - 4, 64)  # one layer's three units behind its name


def test_every_verb_stands_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"microscope-atlas {command.callback.__name__}" in text


def test_every_verb_stands_on_the_page_of_commands() -> None:
    text = (ROOT / "docs" / "commands.md").read_text()
    for name in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert f"| `{name}` |" in text


def typed(document: str) -> Iterator[tuple[str, list[str]]]:
    """The command lines in a document: verb and options."""
    for verb, rest in re.findall(r"microscope-atlas ([a-z]+)((?: [^`\n#|)&']*)?)", (ROOT / document).read_text()):
        yield verb, re.findall(r"(?<=\s)--[a-z-]+", rest)


@pytest.mark.parametrize("document", [*DOCUMENTS, *AROUND])
def test_command_lines_are_understood(document: str) -> None:
    verbs: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for verb, options in typed(document):
        assert verb in verbs
        known = {option for parameter in verbs[verb].params for option in parameter.opts} | {"--help"}
        assert not set(options) - known, verb


@pytest.mark.parametrize("document", [*DOCUMENTS, *AROUND])
def test_targets_and_benchmarks_are_there(document: str) -> None:
    text, targets = (ROOT / document).read_text(), (ROOT / "Makefile").read_text()
    for line in re.findall(r"(?:^|`)make ([a-z][a-z -]*)(?=`| +#|\n)", text, re.MULTILINE):
        for target in line.split():
            assert f"\n{target}:" in targets, target
    for name in re.findall(r"python -m (benchmarks\.\w+)", text):
        assert importlib.util.find_spec(name), name


@pytest.mark.parametrize("document", [*DOCUMENTS, *AROUND])
def test_files_that_are_named_are_there(document: str) -> None:
    for name in re.findall(r"`(?:pytest )?([\w.-]+/[\w/.-]*|[\w-]+\.json)(?: [^`]*)?`", (ROOT / document).read_text()):
        if re.search(r"\.(py|json|jpg|ipynb)$|^(tests|docs|benchmarks|findings)/", name):
            assert name == schema.MANIFEST or any((root / name).exists() for root in ROOTS), name


@pytest.mark.parametrize("document", [*DOCUMENTS, *AROUND])
def test_links_within_the_repository_lead_somewhere(document: str) -> None:
    for target in re.findall(r"\]\((?!https?://|#|\{\{)([^)#]+)[^)]*\)", (ROOT / document).read_text()):
        assert ((ROOT / document).parent / target).exists(), target


def test_catalog_is_the_one_that_is_there() -> None:
    listed = [line for line in (ROOT / "docs/catalog.md").read_text().splitlines() if line.startswith("| `")]
    assert len(listed) == len(organisms())
    for line, (name, known) in zip(listed, organisms().items(), strict=True):
        shown = [layer for layer in known.layers.values() if not layer.named_only]
        assert line == (
            f"| `{name}` | [{known.title}]({known.paper}), {known.year} | {known.dataset} | {known.input_size} | "
            f"{len(shown)} | {sum(layer.units for layer in shown):,} |"
        )


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900


def test_every_page_is_in_the_navigation() -> None:
    def pages(part: Any) -> Iterator[str]:
        if isinstance(part, str):
            yield part
        else:
            for each in part.values() if isinstance(part, dict) else part:
                yield from pages(each)

    listed = list(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(f"docs/{page}" for page in listed) == PAGES


@pytest.mark.parametrize("name", microscope_atlas.__all__)
def test_public_name_stands_on_a_page(name: str) -> None:
    assert any(f"\n::: microscope_atlas.{name}\n" in (ROOT / page).read_text() for page in PAGES)


@pytest.mark.parametrize("name", [*LENSES])
def test_lens_has_a_section_with_its_limits(name: str) -> None:
    sections = re.split(r"^## (.+)$", (ROOT / "docs" / "lenses.md").read_text(), flags=re.MULTILINE)
    titles = [title.lower().replace(" ", "_") for title in sections[1::2]]
    assert "**Its limits.**" in sections[2::2][titles.index(LENSES[name].table.config)]


def test_version_is_the_same_wherever_it_stands() -> None:
    version = microscope_atlas.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] == version


def test_notebooks_hold_no_output_and_no_path_of_a_machine() -> None:
    assert {path.stem for path in NOTEBOOKS} == {"analyst", "author"}
    for path in NOTEBOOKS:
        notebook = json.loads(path.read_text())
        assert not any(cell.get("outputs") for cell in notebook["cells"])
        assert not re.search(r"/(home|root|work|tmp|Users)/", path.read_text())


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    # the kernel runs the code that is tested here
    monkeypatch.setenv("PYTHONPATH", str(Path(microscope_atlas.__file__).parents[1]))
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    notebook = nbformat.read(path, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Jupyter's own
        nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    assert any(output.get("data", {}).get("image/png") for cell in notebook.cells for output in cell.get("outputs", ()))


@pytest.mark.long
def test_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    elsewhere = r"=[\"']?(?:https?:)?//"
    loads = re.compile(rf"<(?:script|img|iframe|source)\b[^>]*\bsrc{elsewhere}|<link\b[^>]*\bhref{elsewhere}")
    for page in tmp_path.rglob("*.html"):
        assert not loads.search(page.read_text()), page
    assert len(list(tmp_path.rglob("*.html"))) == len(PAGES) + 1  # and the one for links that lead nowhere
