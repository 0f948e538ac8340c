"""What a Hugging Face Space runs: deployed as `app.py`, at the top of the Space's repository.

`atlas.txt`, beside it there, names the dataset and the revision that are shown; the variable MICROSCOPE_ATLAS, in the
Space's settings, another one.
"""

import importlib
import os
from importlib.util import find_spec
from pathlib import Path

if find_spec("spaces"):  # ZeroGPU's, which must be there before torch is
    importlib.import_module("spaces")

from microscope_space.app import serve

PINNED = Path(__file__).with_name("atlas.txt")

if __name__ == "__main__":
    serve(os.environ.get("MICROSCOPE_ATLAS") or PINNED.read_text().strip())
