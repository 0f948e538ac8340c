"""Counting what was survived: by the lines that pytest writes of each case."""

import json
from pathlib import Path

import pytest

from benchmarks import faults


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("tests/test_a.py::test_b[3-run] PASSED   [ 10%]\n", {"test_b[3-run]": "PASSED"}),
        ("tests/test_a.py::test_b[4 a b] FAILED   [ 20%]\n", {"test_b[4 a b]": "FAILED"}),
        ("tests/test_a.py::test_c SKIPPED (no) [ 30%]\n", {"test_c": "SKIPPED"}),
        ("FAILED tests/test_a.py::test_b[4] - assert 1\n", {}),
        ("[gw1] [  3%] PASSED tests/test_one.py::test_n[7 of 9] \n", {"test_n[7 of 9]": "PASSED"}),
        ("[gw0] [100%] FAILED tests/test_one.py::test_n[0] \n", {"test_n[0]": "FAILED"}),
        ("3 passed in 2 s\n", {}),
    ],
)
def test_lines_of_pytest_say_how_a_case_ended(line: str, found: dict[str, str]) -> None:
    assert faults.ended(line) == found


@pytest.mark.long
def test_cases_are_counted_and_other_rows_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test, out = tmp_path / "test_one.py", tmp_path / "faults.json"
    test.write_text(
        "import pytest\n\n@pytest.mark.parametrize('n', range(4))\ndef test_n(n):\n    assert n != 2\n"
        "    n == 3 and pytest.skip('no')\n"
    )
    out.write_text(json.dumps({"rows": {"broken": {"cases": 1, "survived": 1}}}))
    monkeypatch.setattr(faults, "ROWS", {"killed": (str(test), "-k", "test_n"), "broken": ()})
    assert faults.main(["--rows", "killed", "--out", str(out)]) == 1
    rows = json.loads(out.read_text())["rows"]
    assert rows["broken"] == {"cases": 1, "survived": 1}
    counted = {name: rows["killed"][name] for name in ("cases", "survived", "not_survived", "skipped", "stopped")}
    assert counted == {"cases": 3, "survived": 2, "not_survived": ["test_n[2]"], "skipped": 1, "stopped": False}
