"""Real trained weights and photos that may lie beside the repository; tests that need them are skipped without."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "shared"
GOOGLENET = FOLDER / "weights" / "bvlc_googlenet.caffemodel"
PHOTOS = FOLDER / "photos" / "imagenet_sample"

needed = [
    pytest.mark.weights,
    pytest.mark.skipif(not GOOGLENET.is_file(), reason="no real weights in ../shared"),
]
