from collections.abc import Iterator
from threading import Event

import pytest

from microscope_atlas.atlas import schema
from microscope_atlas.errors import LensFailed
from microscope_atlas.lenses.lens import Row
from microscope_atlas.run.shard import _beside, _finished


def test_batch_is_finished_while_the_next_is_made() -> None:
    begun = Event()

    def batches() -> Iterator[list[Row]]:
        yield [{"unit": 0}]
        assert begun.wait(30), "the first batch waits until the second is made"
        yield [{"unit": 1}]

    def finish(some: list[Row]) -> list[Row]:
        begun.set()
        return [{**row, "finished": True} for row in some]

    assert list(_beside(finish, batches())) == [[{"unit": 0, "finished": True}], [{"unit": 1, "finished": True}]]


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_what_fails_in_finishing_fails_the_shard(bad: int) -> None:
    def finish(some: list[Row]) -> list[Row]:
        if some[0]["unit"] == bad:
            raise ValueError(f"unit {bad}")
        return some

    with pytest.raises(ValueError, match=f"unit {bad}"):
        list(_beside(finish, ([{"unit": unit}] for unit in range(3))))


def test_what_fails_in_making_fails_the_shard() -> None:
    def batches() -> Iterator[list[Row]]:
        yield [{"unit": 0}]
        raise MemoryError("no more")

    with pytest.raises(MemoryError, match="no more"):
        list(_beside(lambda some: some, batches()))


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
    with pytest.raises(LensFailed, match=f"a row of caricature has {told}"):
        _finished(row, schema.CARICATURE)
