from itertools import pairwise

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from microscope_atlas.errors import InvalidKey
from microscope_atlas.keys import LAYER, MODEL, NUMBER, Key, parse_key, parse_units

MODELS = st.from_regex(MODEL, fullmatch=True)
LAYERS = st.from_regex(LAYER, fullmatch=True)
UNITS = st.integers(0, 999_999_999)
KEYS = st.one_of(st.builds(Key, MODELS), st.builds(Key, MODELS, LAYERS), st.builds(Key, MODELS, LAYERS, UNITS))
NEARLY = st.text(st.sampled_from("aZ09_.:/- \n\x00é٣"), max_size=20)  # letters of keys, and some that are not


@given(KEYS)
def test_key_survives_being_written_and_parsed(key: Key) -> None:
    assume(len(str(key)) <= 256)
    assert parse_key(str(key)) == key


@given(st.one_of(st.text(), NEARLY))
@example("")
@example("/")
@example("inceptionv1/mixed4c/")
@example("inceptionv1/mixed4c/447\n")
@example("inceptionv1/mixed4c/٣")
@example("../mixed4c/447")
def test_text_is_the_one_spelling_of_its_key_or_invalid(text: str) -> None:
    try:
        key = parse_key(text)
    except InvalidKey:
        return
    assert str(key) == text


def test_key_of_over_256_characters_is_refused() -> None:
    assert parse_key("a" * 256) == Key("a" * 256)
    with pytest.raises(InvalidKey, match="key of 257 characters"):
        parse_key("a" * 257)


@pytest.mark.parametrize("unit", ["007", "+7", "-7", " 7", "7.0", "7_0", "0x7", "1000000000"])
def test_unit_has_one_spelling(unit: str) -> None:
    with pytest.raises(InvalidKey, match="unit"):
        parse_key(f"inceptionv1/mixed4c/{unit}")
    with pytest.raises(InvalidKey, match="units"):
        parse_units(unit)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("incéption/mixed4c/447", "model 'incéption'"),
        ("inceptionv1/mixed-4c/447", "layer 'mixed-4c'"),
        ("inceptionv1/mixed4c/x", "unit 'x'"),
        ("inceptionv1/mixed4c/447/0", "has 4 parts"),
    ],
)
def test_wrong_part_is_named(text: str, wrong: str) -> None:
    with pytest.raises(InvalidKey, match=wrong):
        parse_key(text)


@given(UNITS, UNITS)
def test_range_of_units(start: int, stop: int) -> None:
    if start < stop:
        assert parse_units(f"{start}:{stop}") == [range(start, stop)]
    else:
        with pytest.raises(InvalidKey, match="is empty"):
            parse_units(f"{start}:{stop}")
    assert parse_units(str(start)) == [range(start, start + 1)]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), min_size=1, max_size=6))
def test_several_ranges_are_each_unit_once_in_order(ranges: list[tuple[int, int]]) -> None:
    found = parse_units(",".join(f"{start}:{start + length}" for start, length in ranges))
    units = [unit for some in found for unit in some]
    assert units == sorted({unit for start, length in ranges for unit in range(start, start + length)})
    assert all(before.stop < after.start for before, after in pairwise(found))


@given(st.one_of(st.text(), NEARLY))
@example(":")
@example("0:")
@example(":3")
@example("0:1:2")
@example("1,")
@example(",")
def test_text_is_ranges_of_units_or_invalid(text: str) -> None:
    try:
        found = parse_units(text)
    except InvalidKey:
        return
    assert all(NUMBER.fullmatch(part) for some in text.split(",") for part in some.split(":"))
    if "," not in text:
        (units,) = found
        assert text in (f"{units.start}:{units.stop}", str(units.start))
