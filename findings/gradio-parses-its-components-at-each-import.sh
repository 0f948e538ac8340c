#!/usr/bin/env bash
# gradio 6.31.0, on Python 3.11 and 3.12: what the import of a library of web pages spends its time with.
#
# Guess: most of it goes into what it stands on, pandas, FastAPI with pydantic, httpx; its own modules are code that
# Python has compiled already, so they cost next to nothing, and nothing is written.
# Seen: a third to a half of the import goes into one function of its own. Of each of some eighty component classes it
# parses the source anew, renders a template for each event, and compares the result with a stub (.pyi) beside the
# source, within the installed package, for editors; at each import of each process. Where a class is in no file it does
# without. Where the folder cannot be written, the same work is done and thrown away. Two cores of a Xeon:
#
#   2.6 s with stubs of 81 classes, 1.4 s without: 46% of the import     (Python 3.11)
#
# and beside other work 4.4 and 2.3 s on Python 3.11, 3.3 and 2.1 on 3.12, which splits lines faster.
#
# How this project lives with it: while the Space imports Gradio, classes of Gradio are in no file.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet gradio==6.31.0
"$folder/venv/bin/python" -c 'import gradio' # compiles it
"$folder/venv/bin/python" - <<'PY'
import subprocess
import sys

TIMED = """
import inspect, sys, time
files, classes = inspect.getfile, 0
def getfile(what):
    global classes
    own = isinstance(what, type) and what.__module__.startswith("gradio.")
    classes += own
    if own and sys.argv[1] == "without":
        raise OSError
    return files(what)
inspect.getfile = getfile
start = time.process_time()
import gradio
print(time.process_time() - start, classes)
"""


def imported(how: str) -> tuple[float, int]:
    """The least CPU time of three imports, and how many of Gradio's classes were looked up in their files."""
    told = [subprocess.check_output([sys.executable, "-c", TIMED, how], text=True).split() for _ in range(3)]
    return min(float(seconds) for seconds, _ in told), int(told[0][1])


(with_stubs, classes), (without, _) = imported("with"), imported("without")
share = 1 - without / with_stubs
print(f"{with_stubs:.1f} s with stubs of {classes} classes, {without:.1f} s without: {share:.0%} of the import")
assert classes > 60 and share > 0.2, "it behaves otherwise now"
PY
