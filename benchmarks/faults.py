"""What runs and publications survived: each row of docs/faults.md that counts something, counted anew.

    python -m benchmarks.faults                       # all rows: some hours
    python -m benchmarks.faults --rows killed broken  # some of them

Each row is a test, run with all of its cases, those of the long tiers too. Writes how many there were, how many of them
were survived, and how long they took, to benchmarks/results/faults.json; rows that are not asked for stay as they are.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

from benchmarks import report

ROWS = {  # name -> what pytest is told
    "killed": ("tests/test_killed.py", "-k", "killed_at"),
    "asleep": ("tests/test_killed.py", "-k", "two_minutes"),
    "each_touch": ("tests/test_faults.py", "-k", "each_touch"),
    "broken": ("tests/publish/test_broken.py",),
    "fields": ("tests/publish/test_every_field.py",),
    "damage": ("tests/atlas/test_damage.py",),
    "nodes": ("tests/run/engines/test_ray.py", "-k", "workers_killed or nodes_killed"),
}
SURVIVED = {"passed"}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.faults", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--only", default=None, help="Of these rows the cases whose names have this, as pytest's -k.")
    parser.add_argument("--out", type=Path, default=report.FOLDER / "faults.json")
    asked = parser.parse_args(arguments)
    there = json.loads(asked.out.read_text()).get("rows", {}) if asked.out.exists() else {}
    for name in asked.rows:
        there[name] = counted(ROWS[name], asked.only)
        print(f"{name:<12} {there[name]['survived']} of {there[name]['cases']}")
        report.write(asked.out, report.about(), rows=there)
    return int(any(each["survived"] < each["cases"] for each in there.values()))


def counted(told: Sequence[str], only: str | None = None) -> dict[str, Any]:
    """How the cases of a test ended, by their kinds."""
    with TemporaryDirectory() as folder:
        results = Path(folder) / "results.xml"
        more = ["-k", f"({told[-1]}) and ({only})" if len(told) > 1 else only] if only else []
        command = [sys.executable, "-m", "pytest", "-q", "-m", "", "-n", "0", f"--junit-xml={results}", *told, *more]
        start = time.monotonic()
        subprocess.run(command, check=False)
        return {
            **outcomes(ElementTree.parse(results)),
            "seconds": round(time.monotonic() - start),
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": " ".join(["pytest", "-m", '""', *told, *more]),
        }


def outcomes(results: Any) -> dict[str, Any]:
    """How many cases there were, how many passed, which did not, and which were not run here."""
    failed, skipped, cases = [], [], 0
    for case in results.iter("testcase"):
        cases += 1
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(case.get("name"))
        elif case.find("skipped") is not None:
            skipped.append(case.get("name"))
    return {
        "cases": cases - len(skipped),
        "survived": cases - len(skipped) - len(failed),
        "failed": failed,
        "skipped": skipped,
    }


if __name__ == "__main__":
    sys.exit(main())
