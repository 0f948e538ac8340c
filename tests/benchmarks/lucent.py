"""Lucent, which comes with an extra; tests that need it are skipped without."""

from importlib.util import find_spec

import pytest


def needed(test: object) -> object:
    """Mark a test that needs Lucent."""
    skipped = pytest.mark.skipif(find_spec("lucent") is None, reason="Lucent is not installed: the extra [lucent]")
    return pytest.mark.lucent(skipped(test))
