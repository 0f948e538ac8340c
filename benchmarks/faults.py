"""What runs and publications survived: each row of docs/faults.md that counts something, counted anew.

    python -m benchmarks.faults                       # all rows: some hours
    python -m benchmarks.faults --rows killed broken  # some of them

Each row is a test, run with all of its cases, those of the long tiers too. Writes how many there were, how many of them
were survived, and how long they took, to benchmarks/results/faults.json; rows that are not asked for stay as they are.
Stopped, it writes what was counted by then.
"""

import argparse
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
HOW = "(?P<how>PASSED|FAILED|ERROR|SKIPPED)"
# pytest's line of a case, and that of several processes
ENDED = re.compile(rf"^\S+::(?P<name>.+) {HOW}\b")
ENDED_ELSEWHERE = re.compile(rf"^\[gw\d+\] \[ *\d+%\] {HOW} \S+?::(?P<name>.+?)\s*$")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.faults", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--only", default=None, help="Of these rows the cases whose names have this, as pytest's -k.")
    parser.add_argument("--processes", type=int, default=0, help="that run cases at once. Default: none but one's own.")
    parser.add_argument("--out", type=Path, default=report.FOLDER / "faults.json")
    asked = parser.parse_args(arguments)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a stop keeps what was counted
    there = json.loads(asked.out.read_text()).get("rows", {}) if asked.out.exists() else {}
    for name in asked.rows:
        there[name] = counted(ROWS[name], asked.only, asked.processes)
        print(f"{name:<12} {there[name]['survived']} of {there[name]['cases']}")
        report.write(asked.out, report.about(), rows=there)
    signal.signal(signal.SIGTERM, before)
    return int(any(each["survived"] < each["cases"] for each in there.values()))


def counted(told: Sequence[str], only: str | None = None, processes: int = 0) -> dict[str, Any]:
    """How the cases of a test ended; of a count that is stopped, those that were there by then."""
    more = ["-k", f"({told[-1]}) and ({only})" if len(told) > 1 else only] if only else []
    many = ["-n", str(processes)]
    command = [sys.executable, "-m", "pytest", "-v", "-m", "", *many, "-p", "no:cacheprovider", *told, *more]
    how: dict[str, str] = {}
    start, stopped = time.monotonic(), False
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        try:
            for line in running.stdout:
                how |= ended(line)
        except KeyboardInterrupt:
            running.terminate()
            stopped = True
    return {
        "cases": sum(each != "SKIPPED" for each in how.values()),
        "survived": sum(each == "PASSED" for each in how.values()),
        "not_survived": [name for name, each in how.items() if each in ("FAILED", "ERROR")],
        "skipped": sum(each == "SKIPPED" for each in how.values()),
        "stopped": stopped,
        "seconds": round(time.monotonic() - start),
        "command": " ".join(["pytest", "-m", '""', *(many if processes else ()), *told, *more]),
    }


def ended(line: str) -> dict[str, str]:
    """The case that a line of pytest's is about, and how it ended; none of other lines."""
    found = ENDED.match(line) or ENDED_ELSEWHERE.match(line)
    return {found["name"]: found["how"]} if found else {}


if __name__ == "__main__":
    sys.exit(main())
