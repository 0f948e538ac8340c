"""Many visitors at once: no errors, quick pages, and memory that does not grow."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks import space_load
from microscope_atlas.atlas.locate import open_atlas
from microscope_atlas.atlas.reader import Atlas
from tests.atlases import MODEL


@pytest.mark.hours
def test_fifty_visitors_and_five_caricatures(every: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short form of benchmarks/space_load.py, which is what is quoted."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    slack = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # where others work here, too
    results = asyncio.run(
        space_load.measure(str(every), (MODEL, "blocks_4"), visitors=50, caricaturing=5, seconds=20, warm_seconds=10)
    )
    assert space_load.missed(results, slack) == []
    for result in results.values():
        assert min(result["seconds"][what]["count"] for what in ("first page", "page", "picture")) > 20
    assert results["browsing and caricaturing"]["seconds"]["caricature, first frame"]["count"] > 0


def test_caricatures_are_of_a_network_that_the_atlas_has(
    every: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[tuple[str, str]] = []

    async def measure(atlas: str, place: tuple[str, str], *numbers: float) -> dict[str, dict[str, Any]]:
        places.append(place)
        return {}

    monkeypatch.setattr(space_load, "measure", measure)
    monkeypatch.setattr("os.sched_setaffinity", lambda pid, cores: None)
    with pytest.raises(SystemExit) as ended:
        space_load.main([str(every), "--out", str(tmp_path / "load.json")])
    assert ended.value.code == 0
    ((model, layer),) = places
    assert model == MODEL
    assert layer in Atlas(open_atlas(str(every))).layers(MODEL)


def test_what_is_missed_is_said() -> None:
    good = {
        "errors": 0,
        "first_errors": [],
        "rss_mb": {"first_third": 100, "last_third": 109},
        "seconds": {"first page": {"p95": 0.9}, "page": {"p95": 0.9}},
    }
    assert space_load.missed({"browsing": good}) == []
    slow = {**good, "seconds": {"first page": {"p95": 2.9}, "page": {"p95": 0.9}}}
    assert len(space_load.missed({"browsing": slow, "browsing and caricaturing": slow})) == 1
    assert space_load.missed({"browsing": slow}, slack=3) == []
    assert space_load.missed({"browsing": {**good, "errors": 1}}) == ["browsing: 1 errors: []"]
    grown = {**good, "rss_mb": {"first_third": 100, "last_third": 111}}
    assert space_load.missed({"browsing": grown}) == ["browsing: memory grew from 100 to 111 MB"]
