from collections.abc import Iterator
from threading import Event

import pytest

from microscope_atlas.lenses.lens import Row
from microscope_atlas.run.shard import _beside


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
