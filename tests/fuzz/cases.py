"""How many cases of hostile input each test generates: a quick share always, and all of them where `long` is run."""

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CASES = {  # of what -> in the quick share, and in the long one
    "caffemodels": (100, 1500),
    "protobufs": (100, 1000),
    "graphdefs": (100, 1000),
    "zipped graphdefs": (100, 500),
    "tensors of graphdefs": (100, 1000),
    "checkpoints": (100, 1500),
    "archived checkpoints": (100, 500),
    "safetensors": (200, 1000),
    "kept weights": (100, 500),
    "safetensors of any header": (100, 1000),
    "state dicts": (200, 1000),
    "torchscript archives": (200, 1500),
    "pickles in archives": (100, 1000),
    "shards": (150, 1000),
    "shards in check": (60, 300),
    "shards in the Space": (60, 400),
    "indexes": (60, 400),
    "manifests": (100, 1000),
    "manifests in check": (100, 500),
    "releases": (100, 500),
    "files of labels": (40, 300),
    "rows of labels": (200, 1500),
    "keys": (100, 1000),
    "old links": (200, 1000),
    "recipes": (100, 500),
    "names of atlases and pictures": (50, 300),
    "queries": (50, 700),
    "what programs ask": (50, 300),
    "requests": (40, 300),
    "uploads": (100, 1500),
    "uploads as text": (100, 500),
    "pictures in a folder": (100, 1000),
    "stored images": (100, 1000),
}
LEAST = 10_000  # long ones, together

T = TypeVar("T")


def of(name: str) -> pytest.MarkDecorator:
    """Run a test with `cases`, how many it is to generate: twice, few and many."""
    quick, long = CASES[name]
    return pytest.mark.parametrize("cases", [quick, pytest.param(long, marks=pytest.mark.long)])


def each(values: st.SearchStrategy[T], cases: int, test: Callable[[T], Any]) -> None:
    """Try so many values, the same every time; the least one that fails is shown."""
    seen = 0

    @settings(max_examples=cases, derandomize=True, database=None, deadline=None, suppress_health_check=[*HealthCheck])
    @given(values)
    def one(value: T) -> None:
        nonlocal seen
        seen += 1
        test(value)

    one()
    assert seen >= cases, f"only {seen} of {cases} cases were generated"
