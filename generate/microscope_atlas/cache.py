"""Where things are kept on this machine that can be had again: converted weights, and where sets of pictures lie."""

import os
from pathlib import Path


def cache() -> Path:
    """The cache's folder: ~/.cache/microscope-atlas, or what MICROSCOPE_ATLAS_CACHE says."""
    return Path(os.environ.get("MICROSCOPE_ATLAS_CACHE") or Path.home() / ".cache" / "microscope-atlas")
