"""What a user gets wrong about a lens is told in a sentence, where it is wrong."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.errors import (
    LensFailed,
    NetworkFailed,
    NotRendered,
    RenderFailed,
    RowsFailed,
    UnknownName,
)
from microscope_atlas.keys import Key
from microscope_atlas.lenses.registry import lens
from microscope_atlas.models.catalog import organism
from microscope_atlas.pictures.decoder import decoded
from microscope_atlas.publish.check import check
from microscope_atlas.run import reproduce, run, shard
from microscope_atlas.run.plan import Job
from tests.atlases import HERE, LAYER, MODEL, request

KEY = Key(MODEL, LAYER, 1)

LENS_FILE = """
import numpy as np, pyarrow as pa, torch
from dataclasses import dataclass
from microscope_atlas.atlas.schema import LAYER_KEY, PROVENANCE, UNIT_KEY
from microscope_atlas.atlas.tables import FLOATS, IMAGE, Column, Table
from microscope_atlas.lenses import recipe
from microscope_atlas.lenses.lens import Lens

@dataclass(frozen=True)
class Recipe(recipe.Recipe):
    size: int = 4

COLUMNS = (*UNIT_KEY, Column("response", pa.float32(), "m"), *PROVENANCE)
PICTURED = (*UNIT_KEY, Column("image", IMAGE, "m", optional=True), *PROVENANCE)

def table(columns=COLUMNS, **more):
    return Table("own_table", "a", columns, **more)

def each(**row):
    return lambda self, subject, units, recipe: iter([[{"unit": u, **row} for u in units]])

class Base(Lens):
    table = table(count=lambda settings: 1)
    divisible = True
    def recipe(self, quality): return Recipe()
    def rows(self, subject, units, recipe):
        yield [{"unit": u, "response": 1.0} for u in units]
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Write a module with a class Own below LENS_FILE, and name it."""

    def write(code: str, before: str = LENS_FILE) -> str:
        name = f"module_{abs(hash((request.node.name, code)))}"
        (tmp_path / f"{name}.py").write_text(f"{before}\n{code}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        return f"own:{name}.Own"

    return write


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def Own(:", "importing .* fails: SyntaxError"),
        ("raise RuntimeError('no')", "importing .* fails: RuntimeError: no"),
        ("import sys; sys.exit(3)", "importing .* fails: SystemExit: 3"),
    ],
)
def test_module_that_fails_is_told_in_a_sentence(code: str, told: str, written: Callable[[str], str]) -> None:
    name = written(code)
    with pytest.raises(LensFailed, match=f"{name.removesuffix('.Own')}.*{told}"):
        lens(name)
    with pytest.raises(NetworkFailed, match=told):
        organism(name)


@pytest.mark.parametrize("name", ["own:..a.b", "own:", "own:a..b", "own:nope.Nope", "own:nope"])
def test_name_that_leads_nowhere_is_the_callers_to_mend(name: str) -> None:
    with pytest.raises(LensFailed, match=r"expected own:PACKAGE\.MODULE\.LENS") as error:
        lens(name)
    assert error.value.exit_status == 2


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("class Own(Base): divisible = None", "does not say whether it is `divisible`"),
        ("class Own(Base): shares_pass = True", "`shares_pass` and has no `gather`"),
        ("class Own(Base): table = table(level='galaxy')", "level is 'galaxy', expected one of layer, unit"),
        ("class Own(Base): table = table(reads={'units': 'galaxy'})", "'galaxy', expected one of layer, whole layer, atlas"),
        ("class Own(Base): table = table(reads={'own_table': 'layer'})", "reads itself"),
        ("class Own(Base): table = table(count=lambda s: s['nope'])", "count of its table fails.*KeyError: 'nope'"),
        ("class Own(Base): table = table(count=lambda s: 0.5)", "count of its table is 0.5, expected a number"),
        ("class Own(Base): table = 5", "has no `table`"),
        ("class Own(Base):\n def __init__(self): raise ValueError('no')", "cannot be made: no"),
        ("class Own(Base):\n def __init__(self): raise SystemExit", "cannot be made: SystemExit"),
        ("class Own(Base):\n def recipe(self, quality): raise OSError('no')", "recipe..draft.. fails: OSError: no"),
        ("class Own(Base):\n def recipe(self, quality): return 5", "settings that are no Recipe"),
        ("@dataclass(frozen=True)\nclass R(Recipe):\n kind: torch.dtype = torch.float32", "TypeError.*dtype.*JSON"),
        ("@dataclass(frozen=True)\nclass R(Recipe):\n some: list[int] = (1, 2)", r"as in tuple\[int, \.\.\.\]"),
        ("class R(Recipe):\n steps: int = 4\n more = 2", r"steps, more of R.*@dataclass\(frozen=True\)"),
    ],
)
def test_wrong_definition_is_refused_where_it_is_imported(code: str, told: str, written: Callable[[str], str]) -> None:
    name = written(code if "class Own" in code else f"{code}\nclass Own(Base):\n def recipe(self, quality): return R()")
    with pytest.raises(LensFailed, match=f"{name}.*{told}") as error:
        lens(name)
    assert error.value.exit_status == 2


def made(name: str, storage: Folder | None = None) -> list[dict[str, Any]]:
    """The rows of units 0 and 1 through a lens that needs no weights, as they are stored."""
    job = Job(UnitRange(lens(name).name, MODEL, LAYER, 0, 2), lens(name).quick(), "random", "none", maker=name)
    rows = shard.rows(job, storage or Folder(Path("nowhere")), torch.device("cpu"))
    return [row for some in rows for row in some]


TWO = "table = table(count=lambda settings: 2)\n"
SOME = "table = table()\n"
ONE = "iter([[{'unit': 0, 'response': 1.0}]])"
WHOLE = "table = table((*LAYER_KEY, Column('response', pa.float32(), 'm'), *PROVENANCE), level='layer')\n"
LAYERS = "rows = lambda self, subject, units, recipe: iter"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (f"{SOME} rows = lambda *a: iter([[{{'unit': 100, 'response': 1.0}}]])", "unit 100, expected units 0:2 alone"),
        (
            f"{SOME} rows = lambda *a: iter([[{{'unit': 0, 'response': 1.0}}] * 2])",
            "two rows of .*unit 0; expected one",
        ),
        (TWO, "1 rows of unit 0, expected 2"),
        (
            f"{SOME} rows = lambda *a: iter([[{{'unit': 0, 'response': 1.0}}]])",
            "no row of unit 1, expected one or more",
        ),
        ("rows = lambda *a: iter(())", "0 rows of unit 0, expected 1"),
        ("rows = lambda *a: None", "returns NoneType, expected to yield lists"),
        ("rows = lambda *a: iter([{'unit': 0, 'response': 1.0}])", "yields dict, expected a list of rows"),
        ("rows = lambda *a: iter([[5]])", "a row that is int"),
        ("rows = each(response='much')", "response of own_table is float, .*much"),
        ("rows = each(response=1.0, model='other')", "a row of other/stem, expected efficientnet_lite0/stem alone"),
        ("rows = each(response=1.0, recipe=torch)", "recipe of a row of own_table cannot be written as JSON"),
        (f"{WHOLE} {LAYERS}(())", "no row of the layer"),
        (f"{WHOLE} {LAYERS}([[{{'response': 1.0}}] * 2])", "two rows of"),
    ],
)
def test_rows_that_were_not_asked_for_fail_where_they_are_made(
    code: str, told: str, written: Callable[[str], str]
) -> None:
    with pytest.raises(RowsFailed, match=told) as error:
        made(written(f"class Own(Base):\n {code}"))
    assert error.value.exit_status == 1


@pytest.mark.parametrize(
    "image",
    [
        "np.zeros((4, 5, 3), np.uint8)",
        "np.zeros((5, 4), np.uint8).T",
        "np.zeros((4, 5, 4), np.uint8)",
        "torch.zeros(4, 5, 3, dtype=torch.uint8)",
    ],
)
def test_image_is_uint8_of_torch_or_numpy(image: str, written: Callable[[str], str]) -> None:
    rows = made(written(f"class Own(Base):\n table = table(PICTURED)\n rows = each(image={image})"))
    assert [decoded(row["image"]["bytes"]).size for row in rows] == [(5, 4)] * 2


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("torch.zeros(4, 5, 3)", r"torch.float32 of \(4, 5, 3\)"),
        ("np.zeros((3, 4, 5), np.uint8)", r"uint8 of \(3, 4, 5\)"),
        ("np.zeros((0, 4, 3), np.uint8)", r"uint8 of \(0, 4, 3\)"),
        ("'a.png'", "str"),
        ("b'GIF89a'", "bytes"),
    ],
)
def test_image_of_another_type_is_refused_with_its_column(image: str, told: str, written: Callable[[str], str]) -> None:
    with pytest.raises(RowsFailed, match=f"image of own_table is {told}, expected uint8"):
        made(written(f"class Own(Base):\n table = table(PICTURED)\n rows = each(image={image})"))


def test_what_is_no_number_is_stored_and_checked(tmp_path: Path, written: Callable[[str], str]) -> None:
    name = written("class Own(Base):\n rows = each(response=float('nan'))")
    atlas = Folder(tmp_path / "atlas")
    run.render(atlas, [request({LAYER: range(2)})], {name: lens(name).quick()}, HERE, 2, lambda *_: None)
    assert list(check(atlas)) == []
    _, remade = reproduce.reproduce(atlas, KEY, name, torch.device("cpu"))
    assert all(row.close for row in remade)
    with pytest.raises(UnknownName, match=f"'own_table' is from outside; name it as --lens {name}"):
        reproduce.reproduce(atlas, KEY, "own_table", torch.device("cpu"))


@pytest.mark.parametrize("failing", ["1 / 0", "raise SystemExit(3)"])
def test_lens_that_fails_is_named_and_ends_nothing(failing: str, tmp_path: Path, written: Callable[[str], str]) -> None:
    name = written(
        f"FAILS = False\nclass Own(Base):\n def rows(self, subject, units, recipe):\n  if FAILS:\n   {failing}\n"
        "  yield [{'unit': u, 'response': 1.0} for u in units]"
    )
    module, atlas, asked = sys.modules, Folder(tmp_path / "atlas"), [request({LAYER: range(2)})]
    recipes = {name: lens(name).quick()}
    run.render(atlas, asked, recipes, HERE, 2, lambda *_: None)
    vars(module[name[4:-4]])["FAILS"] = True
    _, remade = reproduce.reproduce(atlas, KEY, name, torch.device("cpu"))
    with pytest.raises(RowsFailed, match=f"{name} fails: (ZeroDivisionError|SystemExit)"):
        list(remade)
    with pytest.raises(RenderFailed, match=r"ZeroDivisionError|SystemExit"):
        run.render(Folder(tmp_path / "other"), asked, recipes, HERE, 2, lambda *_: None)


def test_table_that_nobody_makes_is_refused_before_anything_is_written(
    tmp_path: Path, written: Callable[[str], str]
) -> None:
    name = written("class Own(Base):\n table = table(reads={'nope': 'layer'})")
    storage = Folder(tmp_path / "atlas")
    with pytest.raises(LensFailed, match=f"{name} reads 'nope', which is neither in the atlas nor asked for"):
        run.render(storage, [request({LAYER: range(2)})], {name: lens(name).quick()}, HERE, 2, lambda *_: None)
    assert not storage.root.exists()


def test_lenses_that_read_each_other_or_share_a_name_are_refused(tmp_path: Path, written: Callable[[str], str]) -> None:
    one = written("class Own(Base): table = table(reads={'other': 'layer'})")
    two = written("class Own(Base): table = Table('other', 'a', COLUMNS, reads={'own_table': 'layer'})")
    three = written("class Own(Base): pass")
    for names, told in (([one, two], "own_table reads other reads own_table"), ([one, three], "both make table own_")):
        recipes = {name: lens(name).quick() for name in names}
        with pytest.raises(LensFailed, match=told):
            run.render(Folder(tmp_path / "a"), [request({LAYER: range(2)})], recipes, HERE, 2, lambda *_: None)


def test_rows_that_a_lens_reads_and_that_are_not_there_are_told(tmp_path: Path, written: Callable[[str], str]) -> None:
    name = written("class Own(Base): table = table(reads={'responses': 'layer'})")
    with pytest.raises(NotRendered, match=f"no responses of {MODEL}/{LAYER} 0:2, which own_table is made from"):
        made(name)


@pytest.mark.parametrize(("size", "told"), [(0, "fails with .*size=0.*ZeroDivisionError"), (-4, "is -1, expected")])
def test_settings_that_its_table_cannot_count_are_refused(
    size: int, told: str, tmp_path: Path, written: Callable[[str], str]
) -> None:
    name = written("class Own(Base): table = table(count=lambda settings: 4 // settings['size'])")
    recipe = replace(lens(name).quick(), size=size)
    with pytest.raises(LensFailed, match=f"{name}: the count of its table {told}"):
        run.render(Folder(tmp_path / "a"), [request({LAYER: range(2)})], {name: recipe}, HERE, 2, lambda *_: None)
    assert not (tmp_path / "a").exists()
