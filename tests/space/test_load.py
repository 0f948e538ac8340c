"""Many visitors at once: no errors, quick pages, and memory that does not grow."""

import asyncio
from pathlib import Path

import pytest

from benchmarks import space_load
from tests.atlases import MODEL


@pytest.mark.long
def test_fifty_visitors_and_five_caricatures(every: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short form of benchmarks/space_load.py, which is what is quoted."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    results = asyncio.run(
        space_load.measure(str(every), (MODEL, "blocks_4"), visitors=50, caricaturing=5, seconds=20, warm_seconds=10)
    )
    for name, most_seconds in (("browsing", 1), ("browsing and caricaturing", 3)):
        result = results[name]
        assert result["errors"] == 0, result["first_errors"]
        for what in ("first page", "page"):
            assert result["seconds"][what]["count"] > 20
            assert result["seconds"][what]["p95"] < most_seconds
        assert result["rss_mb"]["last_third"] < 1.1 * result["rss_mb"]["first_third"]
    assert results["browsing and caricaturing"]["seconds"]["caricature, first frame"]["count"] > 0
