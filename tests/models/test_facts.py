"""What readers know of the organisms without PyTorch is what the catalog says."""

import json

import pytest

from microscope_atlas.atlas.organisms import FILE, organisms
from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.models.facts import facts, text


@pytest.mark.parametrize("name", CATALOG)
def test_file_says_what_the_catalog_says(name: str) -> None:
    assert json.loads(FILE.read_text())[name] == facts(CATALOG[name])


def test_file_is_as_it_is_written() -> None:
    assert FILE.read_text() == text(), "run python -m microscope_atlas.models.facts"


@pytest.mark.parametrize("name", CATALOG)
def test_read_back_they_are_the_catalogs(name: str) -> None:
    known, organism = organisms()[name], CATALOG[name]
    assert dict(known.layers) == organism.layers
    assert dict(known.legacy_parts) == dict(organism.legacy_parts)
    assert (known.edges, known.classes) == (organism.edges, organism.classes)
