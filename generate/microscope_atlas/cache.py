"""Where things are kept on this machine that can be had again: converted weights, and where sets of pictures lie."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache() -> Path:
    """The cache's folder: ~/.cache/microscope-atlas, or what MICROSCOPE_ATLAS_CACHE says."""
    return Path(os.environ.get("MICROSCOPE_ATLAS_CACHE") or Path.home() / ".cache" / "microscope-atlas")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place beside `path` to write a file to, which is then at `path`, whole or not at all; OSError as it comes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
