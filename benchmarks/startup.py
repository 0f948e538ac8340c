"""What a command costs before it does anything: processor time and memory of `--help`, `status`, `cite`.

    python -m benchmarks.startup [--before FOLDER]

FOLDER is a clone of another version, whose packages the same Python runs, in turn with this one. The figures are
medians of `--runs` runs; results/startup.json holds them with their ratios.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

HERE = Path(__file__).resolve().parents[1]
ATLAS = HERE / "tests" / "version_0_1" / "atlas"
COMMANDS = {
    "help": ["--help"],
    "status": ["status", str(ATLAS)],
    "cite": ["cite", str(ATLAS), "efficientnet_lite0/stem/1"],
    "models": ["models"],
}


class Cost(NamedTuple):
    """Of one process."""

    cpu_seconds: float  # user and system
    megabytes: float  # at most, resident


# a small process between us and what is measured: Linux counts as a process' own what its parent held when it began
LAUNCHER = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""


def cost(module: str, paths: Sequence[Path], arguments: Sequence[str]) -> Cost:
    """Run the command line in `module`, found in `paths`, once; RuntimeError where it fails."""
    return python_cost(["-m", module, *arguments], paths)


def python_cost(arguments: Sequence[str], paths: Sequence[Path]) -> Cost:
    """Run this Python once, with what is found in `paths`; RuntimeError where it fails."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "COLUMNS": "100"}
    command = [sys.executable, "-c", LAUNCHER, sys.executable, *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    code, seconds, resident = json.loads(ended.stdout)
    if code:
        raise RuntimeError(f"{' '.join(arguments)} ended with {code}: {ended.stderr}")
    scale = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return Cost(seconds, resident * scale / 1e6)


def medians(costs: Sequence[Cost]) -> Cost:
    return Cost(median(each.cpu_seconds for each in costs), median(each.megabytes for each in costs))


def measured(runs: int, before: Path | None) -> dict[str, Mapping[str, float]]:
    """Of each command: this version's medians and, where there is another, its own and the shares of them."""
    found: dict[str, Mapping[str, float]] = {}
    for name, arguments in COMMANDS.items():
        ours, theirs = [], []
        for _ in range(runs + 1):  # the first fills the disk's cache
            ours.append(cost("microscope_atlas.cli", [HERE / "generate", HERE / "space"], arguments))
            if before:
                theirs.append(cost("generate.cli", [before], arguments))
        now = medians(ours[1:])
        figures = {"cpu_seconds": round(now.cpu_seconds, 3), "megabytes": round(now.megabytes, 1)}
        if before:
            then = medians(theirs[1:])
            figures |= {
                "before_cpu_seconds": round(then.cpu_seconds, 3),
                "before_megabytes": round(then.megabytes, 1),
                "share_of_cpu": round(now.cpu_seconds / then.cpu_seconds, 3),
                "share_of_memory": round(now.megabytes / then.megabytes, 3),
            }
        found[name] = figures
        print(name, *(f"{key} {value}" for key, value in figures.items()), sep="  ")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a clone of version 0.1")
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    commands = measured(asked.runs, asked.before and asked.before.resolve())
    from benchmarks import report  # late: a process counts the memory of the one that started it

    about = report.about("cpu") | {"command": f"python -m benchmarks.startup --before FOLDER --runs {asked.runs}"}
    report.write(report.FOLDER / "startup.json", about, commands=commands)


if __name__ == "__main__":
    main()
