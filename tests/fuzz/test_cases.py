"""There are as many cases as is said, and each kind of them has a test."""

import re
from pathlib import Path

import pytest

from tests.fuzz.cases import CASES, LEAST

FILES = [path for folder in ("fuzz", "security") for path in (Path(__file__).parents[1] / folder).glob("test_*.py")]


def test_there_are_enough() -> None:
    assert sum(long for _, long in CASES.values()) >= LEAST
    assert all(quick < long for quick, long in CASES.values())


@pytest.mark.parametrize("name", CASES)
def test_each_kind_is_generated(name: str) -> None:
    assert any(re.search(rf'generated\.of\("{name}"\)', path.read_text()) for path in FILES)
