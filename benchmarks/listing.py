"""What it costs to list a network's layers, beside the import of PyTorch and of the library it comes from.

    python -m benchmarks.listing [torchvision:vit_b_16]

Counted are processor seconds, user and system, of building the network without values and reading its layers, edges and
what is not shown, and how far memory grows meanwhile at most; each in a process of its own, with one thread. What the
imports take is said beside. Medians of `--runs`; results/listing.json.
"""

import argparse
import json
import resource
import subprocess
import sys
from statistics import median

COSTS = ("import_cpu_seconds", "import_megabytes", "cpu_seconds", "megabytes")


def used() -> tuple[float, float]:
    """Processor seconds of this process, and the most memory in MB."""
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_utime + now.ru_stime, now.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def listed(name: str) -> dict[str, float]:
    """Of this process: what the imports cost, and what the list."""
    import torch

    from microscope_atlas.models.catalog import organism

    torch.set_num_threads(1)
    known = organism(name)  # which imports the library
    seconds, memory = used()
    layers = len(known.structure.layers)
    took, most = used()
    costs = dict(zip(COSTS, (seconds, memory, took - seconds, most - memory), strict=True))
    return {**costs, "layers": layers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="torchvision:vit_b_16")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(listed(asked.model)))
        return
    command = [sys.executable, "-m", "benchmarks.listing", asked.model, "--one"]
    runs = [
        json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        for _ in range(asked.runs)
    ]
    found = {name: round(median(run[name] for run in runs), 3) for name in (*COSTS, "layers")}
    from benchmarks import report  # late: a process counts the memory of the one that started it

    report.show(asked.model, [found])
    about = report.about(libraries=("torchvision", "timm")) | {"command": f"python -m benchmarks.listing {asked.model}"}
    report.write(report.FOLDER / "listing.json", about, model=asked.model, runs=asked.runs, **found)


if __name__ == "__main__":
    main()
