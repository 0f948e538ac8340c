"""The audit of dependencies fails where there is something, and never passes for having looked where it could not."""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def audit() -> Any:
    spec = spec_from_loader("audit", SourceFileLoader("audit", str(ROOT / ".ci" / "audit")))
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FINE = {"name": "torch", "version": "2.13.0", "vulns": []}
UNKNOWN = {"name": "timm", "skip_reason": "Dependency not found on PyPI"}
FLAWED = {"name": "pillow", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}


@pytest.mark.parametrize(
    ("dependencies", "status", "words"),
    [
        ([FINE], 0, "no known vulnerabilities in 1 packages"),
        ([FINE, UNKNOWN], 0, "in 1 packages; SKIPPED, the index does not know them: timm"),
        ([UNKNOWN], 0, "audit SKIPPED"),
        ([FINE, UNKNOWN, FLAWED], 1, "pillow 1.0: PYSEC-1, mended in 1.1"),
    ],
)
def test_verdict(audit: Any, dependencies: list[dict[str, Any]], status: int, words: str) -> None:
    found = audit.verdict({"dependencies": dependencies})
    assert found[0] == status and words in found[1]


def test_without_network_it_says_that_it_was_skipped(audit: Any) -> None:
    assert audit.asked("", "requests.exceptions.ConnectionError: Max retries exceeded", 1)[0] == 0
    assert "audit SKIPPED" in audit.asked("", "requests.exceptions.ConnectionError: Max retries exceeded", 1)[1]


def test_another_failure_is_one(audit: Any) -> None:
    assert audit.asked("", "unrecognized arguments: -x", 2) == (
        2,
        "audit: pip-audit failed: unrecognized arguments: -x",
    )


def test_it_is_part_of_continuous_integration() -> None:
    assert ".ci/audit" in (ROOT / ".ci" / "run").read_text()
