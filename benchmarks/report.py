"""What every benchmark says of itself: the machine, the versions, the commit. And its table, and its JSON."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from microscope_atlas.run.engines.local import num_cores
from microscope_atlas.run.shard import device_name, software

FOLDER = Path(__file__).parent / "results"
CODE = (":(top)generate", ":(top)space", ":(top,glob)benchmarks/*.py")  # that results depend on
CPUINFO = Path("/proc/cpuinfo")


def about(device: str = "cpu", libraries: Iterable[str] = ()) -> dict[str, Any]:
    """The machine with its load, the software, the commit, and the versions of further `libraries`."""
    return {
        "machine": processor(),
        "cores": num_cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "device": device_name(torch.device(device)),
        **({} if torch.cuda.is_available() else {"cuda": "nothing was measured: no device at hand"}),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "software": software(),
        **{name: installed(name) for name in libraries},
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def processor() -> str:
    """The processor's own name, where the system tells it."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def installed(library: str) -> str | None:
    """A library's version; None where it is not there."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """Of the code that runs, with `+` where it differs from that; None outside of a repository."""
    try:
        found, changed = (
            subprocess.run(["git", *asked], cwd=FOLDER.parent, capture_output=True, text=True, check=True).stdout
            for asked in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--", *CODE])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.strip() + ("+" if changed.strip() else "")


def summed(values: Sequence[float]) -> dict[str, float | int]:
    """Median, quartiles and number of some measurements."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"median": rounded(middle), "lower": rounded(low), "upper": rounded(high), "count": len(values)}


def averaged(ratios: Sequence[float]) -> dict[str, float | int] | None:
    """Mean with its standard error, and what `summed` tells; None of no ratios."""
    if not ratios:
        return None
    error = statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else 0.0
    return {"mean": rounded(statistics.mean(ratios)), "error": rounded(error), **summed(ratios)}


def rounded(value: float, digits: int = 4) -> float:
    """To so many significant digits."""
    return float(f"{value:.{digits}g}")


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as a table: a column for each name, numbers to the right; what was not measured stays empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    numbers = [all(isinstance(row.get(name), int | float | None) for row in rows) for name in names]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"\n{title}")
    for line in cells:
        parts = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(line, widths, numbers, strict=True)]
        print("  ".join(parts).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def write(path: Path, about: Mapping[str, Any], **results: Any) -> None:
    """Write results as JSON, behind what they were measured on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"about": about, **results}, indent=1) + "\n")
    print(f"\n{path}")
