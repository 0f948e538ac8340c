"""Files of labels: how units are named in them, and what is refused."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from microscope_atlas.atlas.label_files import Stated, read
from microscope_atlas.atlas.manifest import Manifest, Shard
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.errors import InvalidKey, InvalidSetting, UnknownName

LENS = "feature_visualization"
LAYERS = {"mixed3b": range(480), "mixed4d": range(400, 528), "conv2d2": range(8)}
SAID = Stated("somebody", "CC-BY-4.0")


def manifest() -> Manifest:
    runs = [UnitRange(LENS, "inceptionv1", layer, units.start, units.stop) for layer, units in LAYERS.items()]
    return Manifest(shards={run.path: Shard(run, "", "", 0, 0) for run in runs})


def told(path: Path, stated: Stated = SAID, skip_absent: bool = False) -> list[tuple[str, str]]:
    return [(str(each.key), each.label) for each in read(path, manifest(), stated, skip_absent).labels]


def csv(folder: Path, *lines: str) -> Path:
    (folder / "families.csv").write_text("\n".join(lines) + "\n")
    return folder / "families.csv"


@pytest.mark.parametrize(
    ("named", "key"),
    [
        ("inceptionv1/mixed3b/379", "inceptionv1/mixed3b/379"),
        ("https://microscope.openai.com/models/inceptionv1/mixed3b_0/379", "inceptionv1/mixed3b/379"),
        ("https://microscope.openai.com/models/inceptionv1/mixed4d_5x5_0/12", "inceptionv1/mixed4d/412"),
        ("inceptionv1/mixed3b_0/379", "inceptionv1/mixed3b/379"),
        ("3b:379", "inceptionv1/mixed3b/379"),
        ("mixed3b:379", "inceptionv1/mixed3b/379"),
    ],
)
def test_unit_is_named_as_papers_name_it(tmp_path: Path, named: str, key: str) -> None:
    stated = Stated("somebody", "CC-BY-4.0", model="inceptionv1")
    assert told(csv(tmp_path, "key,label", f"{named},curves"), stated) == [(key, "curves")]


def test_families_as_papers_print_them_are_read(tmp_path: Path) -> None:
    """A table of families: layer, unit and family, in columns of its own names."""
    path = csv(tmp_path, "layer,neuron,family", "3b,379,curves", "3b,385,curves", "mixed4d,412,loops")
    stated = Stated("a toy", "CC0-1.0", "by eye", model="inceptionv1", columns={"label": "family", "unit": "neuron"})
    assert told(path, stated) == [
        ("inceptionv1/mixed3b/379", "curves"),
        ("inceptionv1/mixed3b/385", "curves"),
        ("inceptionv1/mixed4d/412", "loops"),
    ]


def test_every_form_says_the_same(tmp_path: Path) -> None:
    rows = [
        {"model": "inceptionv1", "layer": "mixed3b", "unit": 379, "label": "curves", "score": 0.5, "measure": "votes"}
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "b.json").write_text(json.dumps({"labels": rows}))
    (tmp_path / "c.jsonl").write_text(json.dumps(rows[0]) + "\n\n")
    (tmp_path / "d.csv").write_text(
        "\ufeffmodel,layer,unit,label,score,measure\r\ninceptionv1,mixed3b,379, curves ,.5,votes\r\n"
    )
    (tmp_path / "e.tsv").write_text("key\tlabel\tscore\tmeasure\ninceptionv1/mixed3b/379\tcurves\t0.5\tvotes\n")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "f.parquet")
    found = {read(path, manifest(), SAID).labels for path in sorted(tmp_path.iterdir())}
    assert len(found) == 1
    ((label,),) = found
    assert (label.label, label.score, label.measure, label.method) == ("curves", 0.5, "votes", "imported")


def test_row_that_says_who_says_so_is_believed_before_what_is_stated(tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        "key,label,source,license,method",
        "inceptionv1/mixed3b/1,a,me,CC0-1.0,by eye",
        "inceptionv1/mixed3b/2,b,,,",
    )
    first, second = read(path, manifest(), SAID).labels
    assert (first.source, first.license, first.method) == ("me", "CC0-1.0", "by eye")
    assert (second.source, second.license, second.method) == ("somebody", "CC-BY-4.0", "imported")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["key,label", "inceptionv1/mixed3b/1,"], "row 1: its label is empty"),
        (["key,label", "inceptionv1/mixed3b/1, "], "row 1: its label is empty"),
        (["key,label", "inceptionv1/mixed3b/1,a", "inceptionv1/mixed3b/1,a"], "row 2: .* stands in row 1 already"),
        (
            ["key,label,score,measure", "inceptionv1/mixed3b/1,a,1,votes", "inceptionv1/mixed3b/1,a,2,votes"],
            "row 2: .* stands in row 1 already",
        ),
        (["key,label,score", "inceptionv1/mixed3b/1,a,1"], "row 1 has a score, and nobody says what it measures"),
        (["key,label,score,measure", "inceptionv1/mixed3b/1,a,high,votes"], "its score is 'high', expected a number"),
        (["key,label,score,measure", "inceptionv1/mixed3b/1,a,nan,votes"], "its score is 'nan', expected a number"),
        (["key,label", "inceptionv1/mixed3b/1,a,b,c"], "row 1 has more cells than the table's head"),
        (["key,label", f"inceptionv1/mixed3b/1,{'a' * 201}"], "its label is .* expected a line of at most 200"),
        (["key,label", '"inceptionv1/mixed3b/1","a\nb"'], "expected a line of at most 200 characters"),
        (["key,label"], "has no label of a unit that is in the atlas"),
    ],
)
def test_what_is_no_label_is_refused_with_its_row(tmp_path: Path, lines: list[str], reason: str) -> None:
    with pytest.raises(InvalidSetting, match=reason):
        told(csv(tmp_path, *lines))


def test_two_may_say_the_same_of_a_unit(tmp_path: Path) -> None:
    row = "inceptionv1/mixed3b/1,a"
    path = csv(tmp_path, "key,label,method,source", f"{row},by eye,me", f"{row},by eye,you", f"{row},by ear,me")
    assert len(told(path)) == 3


@pytest.mark.parametrize(
    ("stated", "lacking"),
    [
        (Stated("me"), "license"),
        (Stated("me", "\t "), "license"),
        (Stated(license="CC0-1.0"), "source"),
        (Stated(" ", "CC0-1.0"), "source"),
        (Stated("me", "CC0-1.0", ""), "method"),
        (Stated("me", "CC0-1.0", " "), "method"),
    ],
)
def test_label_that_lacks_who_or_how_or_a_license_is_refused(tmp_path: Path, stated: Stated, lacking: str) -> None:
    with pytest.raises(InvalidSetting, match=f"row 1 has no {lacking}"):
        told(csv(tmp_path, "key,label", "inceptionv1/mixed3b/1,a"), stated)


@pytest.mark.parametrize(
    ("row", "error", "reason"),
    [
        ("inceptionv1/mixed3b/480", UnknownName, "row 1: .*has units 0:480 there"),
        ("inceptionv1/mixed4d/3", UnknownName, "row 1: .*has units 400:528 there"),
        ("inceptionv1/mixed9z/1", UnknownName, "row 1: .*nearest: mixed"),
        ("alexnet/conv1/1", UnknownName, "row 1: .*model 'alexnet' is not in it"),
        ("inceptionv1/mixed3b", InvalidKey, "row 1: .*names no unit"),
        ("../../x/1", InvalidKey, "row 1: "),
        (
            "https://microscope.openai.com/models/inceptionv1",
            UnknownName,
            "row 1: the atlas has no rows about unit",
        ),
        ("4c:1", InvalidKey, "row 1: "),
    ],
)
def test_unit_that_is_not_there_is_refused_with_its_row(
    tmp_path: Path, row: str, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        told(csv(tmp_path, "key,label", f"{row},a"))


def test_absent_units_are_left_out_where_that_is_asked(tmp_path: Path) -> None:
    path = csv(tmp_path, "key,label", "inceptionv1/mixed3b/1,a", "inceptionv1/mixed5a/1,b")
    found = read(path, manifest(), SAID, skip_absent=True)
    assert ([label.label for label in found.labels], found.left_out) == (["a"], 1)
    with pytest.raises(InvalidSetting, match="of 1 rows about units that it does not have"):
        read(csv(tmp_path, "key,label", "inceptionv1/mixed5a/1,b"), manifest(), SAID, skip_absent=True)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.xlsx", b"", r"is no table that is read; expected \.csv"),
        ("a.json", b"{", "cannot be read as json"),
        ("a.json", b'{"rows": []}', "expected a list of objects"),
        ("a.json", b"[1]", "row 1: '1'; expected columns with values"),
        ("a.json", b'[{"key": 3, "label": "a"}]', "row 1: its key is '3', expected text"),
        ("a.json", b'[{"key": "inceptionv1/mixed3b/1", "label": ["a"]}]', "its label is .* expected text"),
        ("a.json", b"[" * 100_000, "cannot be read as json"),
        ("a.jsonl", b'{"key"', "cannot be read as jsonl"),
        ("a.csv", b"key,label\n\xff,a\n", "cannot be read as csv"),
        ("a.csv", b'key,label\n"a', "cannot be read as csv"),
        ("a.parquet", b"PAR1", "cannot be read as parquet"),
    ],
)
def test_what_is_no_table_is_refused_in_a_sentence(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidSetting, match=reason):
        told(tmp_path / name)


def test_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="cannot be read"):
        told(tmp_path / "nowhere.csv")


def test_what_is_said_of_all_rows_is_text() -> None:
    with pytest.raises(InvalidSetting, match="source of labels is '3', expected text"):
        Stated(3)  # type: ignore[arg-type]


def test_unknown_columns_are_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="labels have no column 'lable'; nearest: label"):
        Stated(columns={"lable": "family"})
    with pytest.raises(InvalidSetting, match="row 1 has no column 'famly'; nearest: family"):
        told(
            csv(tmp_path, "key,family", "inceptionv1/mixed3b/1,a"), Stated("me", "CC0-1.0", columns={"label": "famly"})
        )


@pytest.mark.parametrize("unit", ["NaN", "Infinity", "-Infinity", "1.5", "1e999", "9" * 400, "true", "[1]"])
def test_unit_that_is_no_number_of_one_is_refused(tmp_path: Path, unit: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(f'[{{"model": "inceptionv1", "layer": "mixed3b", "unit": {unit}, "label": "curves"}}]')
    with pytest.raises((InvalidKey, InvalidSetting), match="row 1"):
        read(path, manifest(), SAID)


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"key": ["inceptionv1/mixed3b/1"], "label": ["a"]}), path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InvalidSetting, match="cannot be read as parquet"):
        read(path, manifest(), SAID)
