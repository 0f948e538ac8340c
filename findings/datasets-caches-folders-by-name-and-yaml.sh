#!/usr/bin/env bash
# datasets 5.2.0 (pyarrow 26.0.1, pandas 3.1.1): which Parquet rows load_dataset gives for a local folder with a card.
#
# Guess: a folder is known by its path and its files, so another folder, or the same one with another file in it, gives
# its own rows.
# Seen: a folder is known by its last name and the YAML of its README.md. Two folders called `atlas` with the same YAML
# and different files give the rows of whichever was loaded first; so does one folder after its file was replaced. A
# config's `description` is part of the key, and nothing reads it otherwise: another one, and the right rows come.
#
#   first   [1, 2]
#   other folder, same name and YAML   [1, 2]   (its file holds 3, 4)
#   replaced file   [1, 2]   (the file holds 5, 6)
#   another description   [5, 6]
#
# How this project lives with it: the card of an atlas puts a hash of the rows' files into each config's description.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pyarrow==26.0.1 pandas==3.1.1
cd "$folder"
HF_HOME="$folder/home" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import load_dataset

CARD = "---\nconfigs:\n- config_name: rows\n  description: {about}\n  data_files:\n  - split: train\n    path: data/*.parquet\n---\n"


def write(folder: str, numbers: list[int], about: str = "some rows") -> None:
    (Path(folder) / "data").mkdir(parents=True, exist_ok=True)
    (Path(folder) / "README.md").write_text(CARD.format(about=about))
    pq.write_table(pa.table({"n": numbers}), Path(folder) / "data" / "a.parquet")


def rows(folder: str) -> list[int]:
    return list(load_dataset(folder, "rows", split="train")["n"])


write("one/atlas", [1, 2])
write("two/atlas", [3, 4])
first, other = rows("one/atlas"), rows("two/atlas")
write("one/atlas", [5, 6])
replaced = rows("one/atlas")
write("one/atlas", [5, 6], about="other rows")
described = rows("one/atlas")
print("first", first)
print("other folder, same name and YAML", other)
print("replaced file", replaced)
print("another description", described)
assert (first, other, replaced, described) == ([1, 2], [1, 2], [1, 2], [5, 6]), "it behaves otherwise now"
PY
