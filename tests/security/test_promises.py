"""Each promise of SECURITY.md is held by tests, and those are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = re.findall(r"^\| (.+) \| (`tests/.+`) \|$", (ROOT / "SECURITY.md").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("row", ROWS, ids=[promise[:40] for promise, _ in ROWS])
def test_promise_is_held_by_tests_that_are_there(row: tuple[str, str]) -> None:
    files = re.findall(r"`([^`]+)`", row[1])
    assert files
    for file in files:
        assert "\ndef test_" in (ROOT / file).read_text(), file


def test_there_are_promises() -> None:
    table = (ROOT / "SECURITY.md").read_text().partition("|---|---|\n")[2].partition("\n\n")[0]
    assert len(ROWS) == len(table.splitlines()) > 10


def test_security_tests_hold_promises() -> None:
    named = (ROOT / "SECURITY.md").read_text()
    for folder in ("fuzz", "security"):
        for path in (ROOT / "tests" / folder).glob("test_*.py"):
            if path.stem not in ("test_promises", "test_cases"):
                assert path.relative_to(ROOT).as_posix() in named
