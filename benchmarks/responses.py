"""What `responses` of all layers of a network cost: processor time, seconds and memory of one `render`.

    python -m benchmarks.responses --weights FILE --pictures FOLDER [--before FOLDER] [--count 1000] [--turns 3]

`--before` is a clone of version 0.1, whose packages the same Python runs, in turn with these: there each layer has a
pass of its own. The rows of both are compared, column by column. Each run is a process of its own, its start, the look
at the pictures and the writing of shards included. results/responses.json holds the medians with their ratios.
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks.startup import HERE, cost

MODEL = "inceptionv1_caffe"
OURS = ("microscope_atlas.cli", (HERE / "generate", HERE / "space"))
OF_0_1 = "generate.cli"
OTHERWISE = ("software", "recipe")  # columns that two versions fill otherwise: their names, and how they call the set
PICTURES = (".jpg", ".jpeg", ".png", ".webp")


class Taken(NamedTuple):
    """By one run."""

    cpu_seconds: float  # user and system
    seconds: float
    megabytes: float  # resident at most, of its largest process


def timed(module: str, paths: Sequence[Path], arguments: Sequence[str]) -> Taken:
    start = time.perf_counter()
    spent = cost(module, paths, arguments)
    return Taken(spent.cpu_seconds, time.perf_counter() - start, spent.megabytes)


def medians(runs: Sequence[Taken]) -> Taken:
    return Taken(*(median(values) for values in zip(*runs, strict=True)))


def some(folder: Path, count: int, into: Path) -> int:
    """Link `count` pictures of a folder, evenly spaced, into another; how many there are."""
    files = sorted(path for path in folder.resolve().iterdir() if path.suffix.lower() in PICTURES)
    chosen = files if len(files) <= count else [files[at * len(files) // count] for at in range(count)]
    into.mkdir()
    for path in chosen:
        (into / path.name).symlink_to(path)
    return len(chosen)


def rows(atlas: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """All rows of responses, by layer and unit."""
    import pyarrow.parquet as pq  # late, as everything large: a process counts the memory of the one that started it

    files = sorted((atlas / "responses").rglob("*.parquet"))
    found = (row for file in files for row in pq.read_table(file, partitioning=None).to_pylist())
    return {(row["layer"], row["unit"]): row for row in found}


def compared(ours: Mapping[Any, Mapping[str, Any]], theirs: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    """How many rows are the same in every column that both versions fill alike, and which columns are not."""
    both = ours.keys() & theirs.keys()
    columns = sorted({name for key in both for name in (*ours[key], *theirs[key])} - {*OTHERWISE})
    other = {name: sum(ours[key].get(name) != theirs[key].get(name) for key in both) for name in columns}
    alike = sum(all(ours[key].get(name) == theirs[key].get(name) for name in columns) for key in both)
    return {
        "rows": len(ours),
        "rows_before": len(theirs),
        "the_same": alike,
        "other_in": {name: count for name, count in other.items() if count},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    runs: dict[str, list[Taken]] = {"now": [], "before": []}
    with TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["MICROSCOPE_ATLAS_CACHE"] = str(folder / "cache")
        pictures = some(asked.pictures, asked.count, folder / "pictures")
        if asked.weights:
            cost(*OURS, ["weights", asked.model, "--from", str(asked.weights)])
        layers = [option for layer in asked.layers for option in ("--layer", layer)]
        told = ["--model", asked.model, "--lens", "responses", "--pictures", str(folder / "pictures"), *layers]
        told += ["--workers", str(asked.workers), "--device", "cpu"]
        told += [] if asked.weights else ["--weights", "random"]
        for turn in range(asked.turns):
            runs["now"].append(timed(*OURS, ["render", str(folder / f"now{turn}"), *told]))
            print(*(f"{value:.4g}" for value in runs["now"][-1]), flush=True)
            if asked.before:
                before = asked.before.resolve()
                runs["before"].append(timed(OF_0_1, [before], ["render", str(folder / f"before{turn}"), *told]))
                print(*(f"{value:.4g}" for value in runs["before"][-1]), "before", flush=True)
        now = medians(runs["now"])
        found: dict[str, Any] = {"model": asked.model, "pictures": pictures, "workers": asked.workers}
        found |= {"turns": asked.turns, **_rounded(now)}
        if asked.before:
            then = medians(runs["before"])
            found |= {f"before_{name}": value for name, value in _rounded(then).items()}
            found["times_less_cpu"] = round(then.cpu_seconds / now.cpu_seconds, 2)
            found["times_faster"] = round(then.seconds / now.seconds, 2)
            found["share_of_memory"] = round(now.megabytes / then.megabytes, 3)
            found |= compared(rows(folder / "now0"), rows(folder / "before0"))
        else:
            found["rows"] = len(rows(folder / "now0"))
    from benchmarks import report

    report.show("responses of all layers", [{k: v for k, v in found.items() if not isinstance(v, dict)}])
    about = report.about("cpu") | {"command": f"python -m benchmarks.responses {' '.join(map(_word, sys.argv[1:]))}"}
    report.write(asked.out or report.FOLDER / "responses.json", about, **found)


def _word(argument: str) -> str:
    """As typed, a path by its last part: where things lie on a machine is nobody's business."""
    return Path(argument).name if "/" in argument else argument


def _rounded(taken: Taken) -> dict[str, float]:
    return {name: round(value, 2) for name, value in taken._asdict().items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.responses")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--layers", nargs="*", default=(), help="all unless named")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="trained ones, as of `weights --from`; random")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", required=True)
    parser.add_argument("--count", type=int, default=1000, help="of its pictures, evenly spaced")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="a clone of version 0.1")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path)
    return parser


if __name__ == "__main__":
    main()
