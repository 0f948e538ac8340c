"""Tables of labels from strangers, in every form that is read: damaged files, and rows of any values."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from microscope_atlas.atlas.label_files import COLUMNS, READERS, read
from tests.atlas.test_label_files import SAID, manifest
from tests.fuzz import cases as generated
from tests.fuzz.limits import reads
from tests.fuzz.mutation import survived
from tests.fuzz.test_text import TEXT

ROWS = [
    {"model": "inceptionv1", "layer": "mixed3b", "unit": 379, "label": "curves", "score": 0.5, "measure": "votes"},
    {"model": "inceptionv1", "layer": "mixed3b", "unit": 385, "label": "curves", "score": None, "measure": None},
]
VALUE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),  # nan and infinity among them, which Python's JSON has too
    TEXT,
    st.sampled_from(("inceptionv1", "mixed3b", "3b:379", "inceptionv1/mixed3b/379", 379, 379.0, "curves", 0.5)),
    st.lists(st.integers(), max_size=2),
)
ROW = st.fixed_dictionaries({}, optional=dict.fromkeys(COLUMNS, VALUE)) | st.builds(
    lambda more: {**ROWS[0], **more}, st.dictionaries(st.sampled_from(COLUMNS) | TEXT, VALUE, max_size=2)
)


def written(path: Path) -> Path:
    """The same labels in the form that a file's ending says."""
    table = pa.Table.from_pylist(ROWS)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(ROWS))
    elif path.suffix in (".jsonl", ".ndjson"):
        path.write_text("\n".join(map(json.dumps, ROWS)))
    else:
        between = "\t" if path.suffix == ".tsv" else ","
        lines = [COLUMNS[1:7], *([str(row.get(name) or "") for name in COLUMNS[1:7]] for row in ROWS)]
        path.write_text("\n".join(map(between.join, lines)))
    return path


@generated.of("files of labels")
@pytest.mark.parametrize("ending", READERS)
def test_damaged_files(tmp_path: Path, ending: str, cases: int) -> None:
    path = written(tmp_path / f"labels{ending}")
    survived(lambda damaged: read(damaged, manifest(), SAID), [path.read_bytes()], path, cases)


@generated.of("rows of labels")
def test_rows_of_any_values(tmp_path: Path, cases: int) -> None:
    path = tmp_path / "labels.json"

    def one(rows: list[dict[str, Any]]) -> None:
        path.write_text(json.dumps(rows), errors="surrogatepass")
        reads(lambda known: read(known, manifest(), SAID), path, json.dumps(rows)[:300])

    generated.each(st.lists(ROW, max_size=3), cases, one)
