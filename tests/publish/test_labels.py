"""Labels from outside in an atlas: a table of their own that is checked, cited, loaded, and taken back."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import load_dataset

import microscope_atlas as ma
from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import LOCK, Folder
from microscope_atlas.atlas.label_files import Stated
from microscope_atlas.atlas.manifest import read_manifest, write_manifest
from microscope_atlas.atlas.revision import Revision
from microscope_atlas.errors import AtlasUnwritable, InvalidSetting, UnknownName
from microscope_atlas.hub.repo import Repo
from microscope_atlas.keys import Key
from microscope_atlas.publish.check import check
from microscope_atlas.publish.cite import cite
from microscope_atlas.publish.labels import take, take_back
from microscope_atlas.run import reproduce
from tests import atlases
from tests.commands import Commands

SOURCE = Path(__file__).parents[1] / "version_0_1" / "atlas"
MODEL = "efficientnet_lite0"
LINES = ("key,family", f"{MODEL}/stem/1,Gabor filters", f"{MODEL}/stem/1,lines", f"{MODEL}/blocks_2/0,curves")
STATED = Stated("a toy of this test, https://example.org/families", "CC0-1.0", "by eye", columns={"label": "family"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SOURCE, tmp_path / "microscope-atlas"))


@pytest.fixture
def families(tmp_path: Path) -> Path:
    (tmp_path / "families.csv").write_text("\n".join(LINES) + "\n")
    return tmp_path / "families.csv"


def content(root: Path) -> dict[str, bytes]:
    """Every file but the one that is held by who writes."""
    return {path: found for path, found in atlases.content(root).items() if path != LOCK}


def test_labels_are_rows_of_an_atlas_that_is_in_order(root: Path, families: Path, tmp_path: Path) -> None:
    """Checked, cited, loaded by `datasets`; and every other file is as it was."""
    before = content(root)
    taken = take(Folder(root), families, STATED)
    assert (taken.table, taken.labels, taken.units, taken.left_out) == ("labels_families", 3, 2, 0)
    assert list(check(Folder(root))) == []
    changed = {path for path, found in content(root).items() if before.get(path) != found}
    made = {path for path in changed if path.startswith("labels_families/")}
    assert changed - made == {schema.MANIFEST, schema.CARD} | {schema.index_path(MODEL)} & changed

    rows = load_dataset(str(root), "labels", split=MODEL, cache_dir=str(tmp_path / "cache"))
    assert rows.column_names == [column.name for column in schema.LABELS.columns]
    assert [(row["layer"], row["unit"], row["rank"], row["label"]) for row in rows] == [
        ("blocks_2", 0, 0, "curves"),
        ("stem", 1, 0, "Gabor filters"),
        ("stem", 1, 1, "lines"),
    ]
    assert {(row["method"], row["license"], row["score"], row["measure"]) for row in rows} == {
        ("by eye", "CC0-1.0", None, None)
    }
    weights = read_manifest(Folder(root)).models[MODEL]["weights_sha256"]
    assert {(row["source"], row["weights_sha256"], row["device"]) for row in rows} == {
        (STATED.source, weights, "imported")
    }
    assert f"labels_families: {STATED.source}, license CC0-1.0; families.csv, sha256 " in cite(Folder(root))
    with pytest.raises(UnknownName, match=r"labels_families was not made here: it was taken from families\.csv"):
        reproduce.reproduce(Folder(root), Key(MODEL, "stem", 1), "labels_families", atlases.HERE.device)


def test_labels_claim_no_unit_that_has_no_rows(root: Path, families: Path) -> None:
    """Units 0 and 1 of the stem are there: no other becomes one by a label."""
    before = {str(shard.units) for shard in read_manifest(Folder(root)).shards.values()}
    take(Folder(root), families, STATED)
    runs = {
        (shard.units.layer, shard.units.start, shard.units.stop)
        for shard in read_manifest(Folder(root)).shards.values()
        if str(shard.units) not in before
    }
    assert runs == {("stem", 0, 2), ("blocks_2", 0, 2)}


def test_the_same_file_twice_is_refused_and_changes_nothing(root: Path, families: Path) -> None:
    take(Folder(root), families, STATED)
    before = content(root)
    with pytest.raises(InvalidSetting, match=r"was taken in already, as labels_families; .* --forget families"):
        take(Folder(root), families, STATED, name="others")
    families.write_text("\n".join(LINES[:-1]) + "\n")
    with pytest.raises(InvalidSetting, match=r"labels_families are labels of another file, families\.csv"):
        take(Folder(root), families, STATED)
    assert content(root) == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a/b", "expected letters, digits"), ("..", "expected letters"), ("clip_dissect", "that this package makes")],
)
def test_name_that_a_table_cannot_have_is_refused(root: Path, families: Path, name: str, reason: str) -> None:
    with pytest.raises(InvalidSetting, match=reason):
        take(Folder(root), families, STATED, name)


def test_bad_file_stores_nothing(root: Path, families: Path) -> None:
    before = content(root)
    families.write_text(f"key,family\n{MODEL}/stem/1,a\n{MODEL}/stem/31,b\n")
    with pytest.raises(UnknownName, match=r"row 2: .*has units 0:2 there"):
        take(Folder(root), families, STATED)
    assert content(root) == before


def test_what_was_stopped_goes_on(root: Path, families: Path, tmp_path: Path) -> None:
    """Planned and not stored, as a run leaves it that is killed: the same command stores it, and all is as if whole."""
    take(Folder(root), families, STATED)
    whole = content(root)
    manifest = read_manifest(Folder(root))
    for path in [path for path in manifest.shards if path.startswith("labels_families/")]:
        del manifest.shards[path]
        (root / path).unlink()
    write_manifest(Folder(root), manifest)
    assert any("planned and not there" in problem for problem in check(Folder(root)))
    take(Folder(root), families, STATED)
    assert content(root) == whole


def test_labels_are_taken_back_as_if_they_had_never_been(root: Path, families: Path) -> None:
    take(Folder(root), families, STATED)
    atlas = ma.open(root)
    assert atlas.forget_labels("families") == 3
    assert list(check(Folder(root))) == []
    assert not list(root.glob("labels*/*/*"))
    assert "labels" not in atlas.tables
    with pytest.raises(UnknownName, match="none were imported"):
        atlas.forget_labels("families")


def test_three_lines_of_python(root: Path, families: Path) -> None:
    atlas = ma.open(root)
    assert atlas.label(families, source="a toy", license="CC0-1.0", columns={"label": "family"}) == 3
    assert [each.key for each in atlas.find("gabor")] == [f"{MODEL}/stem/1"]
    unit = atlas.unit(f"{MODEL}/stem/1")
    assert unit.labels()[0] == {
        "label": "Gabor filters",
        "method": "imported",
        "source": "a toy",
        "license": "CC0-1.0",
        "score": None,
        "measure": None,
    }
    assert atlas.table("labels", f"{MODEL}/stem", ["unit", "label"]).to_pylist() == [
        {"unit": 1, "label": "Gabor filters"},
        {"unit": 1, "label": "lines"},
    ]
    with pytest.raises(InvalidSetting, match="by is 'sound', expected label or meaning"):
        atlas.find("gabor", by="sound")
    with pytest.raises(InvalidSetting, match="has no words to look for"):
        atlas.find(" ")


def test_all_words_are_looked_for_and_whole_ones_come_first(root: Path, tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text(
        "key,label,score,measure\n"
        + "".join(
            f"{MODEL}/{where},{label},{score},votes\n"
            for where, label, score in (
                ("stem/0", "curved lines", 1),
                ("stem/1", "Lines", 1),
                ("blocks_2/0", "lines", 2),
                ("blocks_2/1", "linear", 3),
            )
        )
    )
    atlas = ma.open(root)
    atlas.label(tmp_path / "more.csv", "a toy", "CC0-1.0")
    assert [(each.key.partition("/")[2], each.score) for each in atlas.find("LINES")] == [
        ("blocks_2/0", 2.0),
        ("stem/1", 1.0),
        ("stem/0", 1.0),
    ]
    assert [each.label for each in atlas.find("lin")] == ["linear", "lines", "Lines", "curved lines"]
    assert [each.label for each in atlas.find("lines curved")] == ["curved lines"]
    assert atlas.find("dog") == []
    assert len(atlas.find("lin", most=2)) == 2


def test_published_version_is_not_labelled(families: Path) -> None:
    with pytest.raises(AtlasUnwritable, match="is published, and never changes; label the atlas that it was made from"):
        take(Revision(Repo("someone/atlas", "dataset"), "v2026.1.0", "0" * 40), families, STATED)


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"no labels")], ids=["lost", "damaged"])
def test_labels_that_are_lost_or_damaged_are_had_again_as_check_says(
    root: Path, families: Path, harm: Callable[[Path], object]
) -> None:
    """No rendering brings them back."""
    take(Folder(root), families, STATED)
    path = next(path for path in read_manifest(Folder(root)).shards if path.startswith("labels_families/"))
    harm(root / path)
    told = [problem for problem in check(Folder(root)) if problem.startswith(path)]
    assert told and all("label ATLAS --forget families, then --from families.csv" in problem for problem in told)
    assert not any("render" in problem for problem in told)
    take_back(Folder(root), "families")
    take(Folder(root), families, STATED)
    assert list(check(Folder(root))) == []


def test_label_without_an_owner_is_no_label_to_check(root: Path, families: Path) -> None:
    take(Folder(root), families, STATED)
    path = next(path for path in read_manifest(Folder(root)).shards if path.startswith("labels_families/"))
    rows = ma.open(root)._reader.shard(path).to_pylist()
    atlases.replace_rows(root, path, [{**row, "source": ""} for row in rows])
    assert any("it does not say who says so" in problem for problem in check(Folder(root)))


def test_commands_take_labels_in_find_them_and_take_them_back(root: Path, families: Path, commands: Commands) -> None:
    said = ("--source", "a toy", "--license", "CC0-1.0", "--column", "label=family")
    ended = commands("label", root, "--from", families, *said)
    assert (ended.status, ended.out) == (0, f"{root}: 3 labels of 2 units as labels_families.\n")
    found = json.loads(commands("find", root, "gabor", "--json").out)["found"]
    assert [(each["key"], each["source"]) for each in found] == [(f"{MODEL}/stem/1", "a toy")]
    table = commands("find", root, "gabor").out
    assert re.search(rf"{MODEL}/stem/1 +Gabor filters +imported +a toy +CC0-1.0", table)
    assert commands("find", root, "dog").out == f"{root}: no unit is labelled so.\n"
    again = commands("label", root, "--from", families, *said)
    assert again.status == 2
    assert "was taken in already, as labels_families" in again.err
    assert commands("label", root, "--forget", "families").out == f"{root}: 3 labels taken back.\n"
    for wrong in ((), ("--from", families, "--forget", "families"), ("--from", families, "--column", "label")):
        ended = commands("label", root, *wrong)
        assert (ended.status, ended.err.count("\n")) == (2, 1)
