"""What a render costs beside version 0.1, in one run: processor time a unit, peak memory, whole renders of a quality.

    python -m benchmarks.before ../v01
    python -m benchmarks.before ../v01 efficientnet_lite0/blocks_6 --quality standard
    python -m benchmarks.before ../v01 inceptionv1/mixed4c --quality standard --weights random --steps 32

`../v01` is a clone of version 0.1. Each version renders the same units of each layer in a process with one thread, in
turns, by its own recipe of that quality in float32: its steps, its schedule and, of this version, the random views that
`robust_score` is taken from; with `--steps` by so many, without those views. Whether the pictures are as good is
another question: see quality. Medians of the turns go to benchmarks/results/before.json.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks import report
from benchmarks.startup import HERE

PLACES = ("efficientnet_lite0/blocks_2", "efficientnet_lite0/blocks_6", "inceptionv1_caffe/inception_4c")
VERSIONS = ("before", "now")
NUMBERS = ("steps", "seconds_a_unit", "peak_mb")
RENDER = """
import json, os, resource, sys
import torch

torch.set_num_threads(1)
before, model, layer, quality, weights, units, steps = json.loads(sys.argv[1])
if before:
    from benchmarks.ours import Case, changed, rendered
    from generate.engines.local import keep_freed_memory
else:
    from benchmarks.ours import Case, rendered
    from microscope_atlas.lenses.recipe import changed
    from microscope_atlas.run.engines.local import keep_freed_memory
keep_freed_memory()
changes = {"ascent.precision": "float32", **({"ascent.steps": steps} if steps else {})}
if steps and not before:
    changes["robust_views"] = 0
case = Case(model, layer, kind=weights, quality=quality, changes=changes)
subject, recipe = case.subject, case.recipe
assert subject.graph is not None  # loaded before anything is measured
rendered(subject, range(units), changed(recipe, {"ascent.steps": 2}))
start = os.times()
rendered(subject, range(units), recipe)
end = os.times()
seconds = end.user + end.system - start.user - start.system
print(json.dumps([recipe.ascent.steps, seconds / units, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.before", description=__doc__.partition("\n")[0])
    parser.add_argument("clone", type=Path, help="folder of version 0.1")
    parser.add_argument("places", nargs="*", default=PLACES, metavar="MODEL/LAYER")
    parser.add_argument("--quality", default="draft")
    parser.add_argument("--weights", default="pretrained", choices=("pretrained", "random"))
    parser.add_argument("--units", type=int, default=16)
    parser.add_argument("--steps", type=int, help="of both, for the cost of a step; else by recipe")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, default=report.FOLDER / "before.json")
    asked = parser.parse_args(arguments)
    roots = {"before": [asked.clone], "now": [HERE / "generate", HERE / "space", HERE]}
    found = []
    for place in asked.places:
        case = [*place.split("/"), asked.quality, asked.weights, asked.units, asked.steps]
        turns = [
            {name: rendered(roots[name], [name == "before", *case]) for name in VERSIONS} for _ in range(asked.turns)
        ]
        medians = {name: [median(each[name][at] for each in turns) for at in range(3)] for name in VERSIONS}
        ratio = median(each["before"][1] / each["now"][1] for each in turns)
        told = {
            name: dict(zip(("steps", "seconds_a_unit", "peak_mb"), of, strict=True)) for name, of in medians.items()
        }
        found.append({"place": place, **told, "times_faster": round(ratio, 2)})
        print(f"{place:<34} {medians['before'][1]:7.3f} s  {medians['now'][1]:7.3f} s a unit  {ratio:5.2f} times")
    about = {"quality": asked.quality, "precision": "float32", "units": asked.units, **report.about()}
    report.write(asked.out, about, layers=found)


def rendered(roots: Sequence[Path], case: Sequence[object]) -> list[float]:
    """Steps, seconds of processor time a unit, and peak memory in MB, of a process with these packages."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, roots)), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", RENDER, json.dumps(case)], env=environment, capture_output=True, text=True, cwd=roots[0]
    )
    if ended.returncode:
        raise RuntimeError(f"{case} ended with {ended.returncode}: {ended.stderr}")
    numbers: list[float] = json.loads(ended.stdout.splitlines()[-1])
    return numbers


if __name__ == "__main__":
    main()
