"""A unit's texts on its page, where the network knows any."""

from pathlib import Path

import pytest

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.reader import Atlas
from microscope_space import routes
from microscope_space.html import text
from tests import seeing_texts


def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: str, unit: int, *lines: str) -> str:
    seeing_texts.install(tmp_path, monkeypatch)
    given = seeing_texts.recipes(seeing_texts.photos(tmp_path), seeing_texts.listed(tmp_path, *lines))
    seeing_texts.rendered(tmp_path / "a", {"colours": range(4), "embedding": range(3)}, given)
    return routes.show(Atlas(Folder(tmp_path / "a")), {"model": "seeing_colours", "layer": layer, "unit": str(unit)})


def test_texts_are_listed_with_scores_and_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = shown(tmp_path, monkeypatch, "colours", 0)
    assert "<li>r <small>1</small></li><li>bbb <small>\u22120.5</small></li>" in page
    assert text.TEXTS_WARNING in page
    assert "Word list: letters, revision " in page


def test_of_the_embedding_the_page_says_that_scores_are_coordinates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = shown(tmp_path, monkeypatch, "embedding", 1)
    assert "<li>gg <small>0.816</small></li>" in page
    assert text.TEXTS_EXACT in page
    assert text.TEXTS_WARNING not in page


def test_unit_without_texts_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = shown(tmp_path, monkeypatch, "colours", 3)
    assert '<section aria-labelledby="texts">' in page
    assert "<b>dead</b>" in page.partition('aria-labelledby="texts"')[2]


def test_text_is_shown_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = shown(tmp_path, monkeypatch, "embedding", 0, "<b", "gg")
    assert "<li>&lt;b <small>" in page
