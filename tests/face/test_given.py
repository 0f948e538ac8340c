"""What callers from Python give is taken as it is meant, or refused."""

from typing import Any

import numpy as np
import pytest

from microscope_atlas.errors import InvalidSetting, UnknownName
from microscope_atlas.face.given import names, number, ranges, whole


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers_are_pythons_and_numpys(value: Any) -> None:
    assert whole("unit", value) == 3
    assert type(whole("unit", value)) is int


@pytest.mark.parametrize("value", [True, 3.0, "3", None, -1, 2**40, np.float32(3), [3]])
def test_what_is_no_whole_number_is_refused(value: Any) -> None:
    with pytest.raises(InvalidSetting, match=r"unit is .*, expected a whole number"):
        whole("unit", value)


@pytest.mark.parametrize("value", [True, "2", None, float("nan"), float("inf"), 0.0, -1])
def test_what_is_no_number_above_zero_is_refused(value: Any) -> None:
    with pytest.raises(InvalidSetting, match=r"rate is .*, expected a number above 0"):
        number("rate", value, above=0)


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (None, [None]),
        (3, [range(3, 4)]),
        (np.int64(3), [range(3, 4)]),
        (range(2, 5), [range(2, 5)]),
        (range(0, 4, 2), [range(1), range(2, 3)]),
        ([7, 0, 1, 7], [range(2), range(7, 8)]),
        (np.arange(2), [range(2)]),
    ],
)
def test_units_are_one_or_several(units: Any, expected: list[range | None]) -> None:
    assert ranges(units) == expected


@pytest.mark.parametrize("units", ["0:2", range(0), [], range(-2, 2), [0.5], ["1"]])
def test_what_are_no_units_is_refused(units: Any) -> None:
    with pytest.raises(InvalidSetting):
        ranges(units)


def test_one_name_is_not_taken_letter_by_letter() -> None:
    assert names("lens", "deepdream") == ["deepdream"]
    assert names("lens", ("deepdream", "caricature")) == ["deepdream", "caricature"]
    assert names("lens", None) == []
    for wrong in ("", [""], [3]):
        with pytest.raises(UnknownName):
            names("lens", wrong or [""])  # type: ignore[arg-type]
