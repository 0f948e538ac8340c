import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from microscope_atlas.structure import (
    EACH_ONCE,
    PRINTABLE,
    Absent,
    Count,
    above,
    at_least,
    before,
    between,
    from_text,
    hint,
    matching,
    one_of,
    structure,
)


@dataclass(frozen=True)
class Inner:
    share: Annotated[float, between(0, 1)] = 0.5
    kind: Literal["float32", "bfloat16"] = "float32"


@dataclass(frozen=True)
class Outer:
    steps: Count
    size: Annotated[int, at_least(8)] | None = None
    rate: Annotated[float, above(0)] = 0.05
    names: Annotated[tuple[Annotated[str, one_of(("cat", "dog"))], ...], EACH_ONCE] = ("cat",)
    inner: Inner = field(default_factory=Inner)
    pair: tuple[int, str] = (1, "a")
    renderer: Annotated[Count, Absent(1)] = 2
    yes: bool = True
    sizes: Mapping[str, int] = field(default_factory=dict)


def test_what_is_there_is_taken_and_what_is_absent_has_its_default() -> None:
    made = structure(Outer, {"steps": 3, "names": ["dog", "cat"], "inner": {"share": 1}, "pair": [2, "b"]})
    assert made == Outer(3, names=("dog", "cat"), inner=Inner(1.0), pair=(2, "b"), renderer=1)
    assert isinstance(made.inner.share, float)
    assert structure(Outer, {"steps": 3, "size": 9, "renderer": 2, "sizes": {"a": 1}}) == Outer(3, 9, sizes={"a": 1})


def test_fields_that_came_later_are_named_with_what_their_absence_means() -> None:
    @dataclass(frozen=True)
    class Around:
        outer: Outer

    assert before(Around, {"outer": {"steps": 3}}) == {"outer.renderer": 1}
    assert before(Around, {"outer": {"steps": 3, "renderer": 2}}) == {}
    assert before(Around, {}) == {}


@pytest.mark.parametrize(
    ("plain", "told"),
    [
        ({}, "steps is absent, expected a whole number, 1 or more"),
        ({"steps": 0}, "steps is 0, expected a whole number, 1 or more"),
        ({"steps": True}, "steps is True, expected a whole number, 1 or more"),
        ({"steps": 10**400}, "steps is a number of 401 digits, expected a whole number, 1 or more, below 2^63"),
        ({"steps": 1.0}, "steps is 1.0, expected a whole number, 1 or more"),
        ({"steps": 1, "size": 7}, "size is 7, expected a whole number, 8 or more"),
        ({"steps": 1, "size": "8"}, "size is '8', expected a whole number, 8 or more"),
        ({"steps": 1, "rate": 0}, "rate is 0, expected a number, above 0"),
        ({"steps": 1, "rate": float("nan")}, "rate is nan, expected a number"),
        ({"steps": 1, "rate": float("inf")}, "rate is inf, expected a number"),
        ({"steps": 1, "rate": 10**400}, "expected a number"),
        ({"steps": 1, "rate": None}, "rate is None, expected a number, above 0"),
        ({"steps": 1, "names": []}, "names is [], expected a list of text, one of cat, dog, one or more, each once"),
        ({"steps": 1, "names": ["cat", "cat"]}, "one or more, each once"),
        ({"steps": 1, "names": "cat"}, "names is 'cat', expected a list"),
        ({"steps": 1, "names": ["cow"]}, "names[0] is 'cow', expected text, one of cat, dog"),
        ({"steps": 1, "inner": {"share": 1.1}}, "inner.share is 1.1, expected a number, 0 to 1"),
        ({"steps": 1, "inner": {"kind": "int8"}}, "inner.kind is 'int8', expected one of float32, bfloat16"),
        ({"steps": 1, "inner": {"shar": 1}}, "there is no inner.shar; nearest: inner.share"),
        ({"steps": 1, "inner": 5}, "inner is 5, expected names with values"),
        ({"steps": 1, "pair": [1]}, "pair is [1]"),
        ({"steps": 1, "sizes": {"a": "b"}}, "sizes.a is 'b', expected a whole number"),
        ({"step": 1}, "there is no step; nearest: steps"),
        ([], "it is [], expected names with values"),
    ],
)
def test_what_does_not_fit_is_named_with_what_was_expected(plain: Any, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        structure(Outer, plain)


def test_message_stays_short_whatever_was_there() -> None:
    deep: Any = []
    for _ in range(500):
        deep = [deep]
    for value in (deep, "x" * 10_000, {"x" * 10_000: 1}, [0] * 10_000):
        with pytest.raises(ValueError, match="expected") as caught:
            structure(int, value)
        assert len(str(caught.value)) < 200


def test_text_has_the_form_that_is_asked_for() -> None:
    kind = Annotated[str, matching(re.compile("[a-z]+"), "small letters")]
    assert structure(kind, "abc") == "abc"
    with pytest.raises(ValueError, match="'ab1', expected text, small letters"):
        structure(kind, "ab1")
    with pytest.raises(ValueError, match="that can be printed"):
        structure(Annotated[str, PRINTABLE], "\x1b[2J")


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("steps", "256", 256),
        ("steps", "many", "many"),  # which `structure` refuses
        ("size", "none", None),
        ("size", "64", 64),
        ("rate", "1e-3", 1e-3),
        ("names", "cat, dog", ["cat", "dog"]),
        ("names", "", []),
        ("inner.kind", "bfloat16", "bfloat16"),
        ("yes", "false", False),
    ],
)
def test_words_of_a_command_line_are_read_by_the_type_at_their_path(path: str, text: str, value: Any) -> None:
    assert from_text(hint(Outer, path), text) == value


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("stepp", "there is no stepp; nearest: steps"),
        ("inner.shares", "there is no inner.shares; nearest: inner.share"),
        ("steps.more", "there is no steps.more; nearest: steps"),
        ("inner", "inner has settings of its own; name one: inner.share, inner.kind"),
    ],
)
def test_path_that_leads_nowhere_is_answered_with_the_nearest(path: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        hint(Outer, path)
