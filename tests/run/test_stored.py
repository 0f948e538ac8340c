import pytest

from microscope_atlas.atlas import schema
from microscope_atlas.errors import RowsFailed
from microscope_atlas.lenses.lens import Row
from microscope_atlas.run.stored import _finished, _refuse_unfit

ROW = {
    **{column.name: "x" for column in schema.CARICATURE.columns},
    **dict.fromkeys(("image", "flag", "cosine", "score")),
    "recipe": {"steps": 1},
}


def test_row_is_stored_as_its_table_has_it() -> None:
    assert _finished(ROW, schema.CARICATURE) == {**ROW, "recipe": '{"steps": 1}'}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({**ROW, "cosin": 1.0}, "'cosin', which is no column .nearest: cosine"),
        ({name: value for name, value in ROW.items() if name != "cosine"}, "no 'cosine'"),
        ({name: value for name, value in ROW.items() if name != "image"}, "no 'image'"),
        ({**ROW, "seed": None}, "None as 'seed'"),
        ({**{name: value for name, value in ROW.items() if name != "flag"}, "Flag": None}, "'Flag'.*; and no 'flag'"),
    ],
)
def test_misspelt_forgotten_or_empty_column_is_an_error_that_names_it(row: Row, told: str) -> None:
    with pytest.raises(RowsFailed, match=f"a row of caricature has {told}"):
        _refuse_unfit(row, schema.CARICATURE)
