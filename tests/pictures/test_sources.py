from pathlib import Path

import pytest

from microscope_atlas.errors import AtlasDamaged, UnknownName
from microscope_atlas.pictures import sources
from microscope_atlas.pictures.sources import LICENSES, SOURCES, Picture, source

FOLDER = Path(sources.__file__).parent / "photos"


def test_every_file_is_in_the_table_and_every_entry_has_its_file() -> None:
    assert {path.stem for path in FOLDER.glob("*.jpg")} == set(SOURCES)


def test_pictures_are_the_files_of_the_table_and_small() -> None:
    for name in SOURCES:
        picture = source(name)
        assert picture.mode == "RGB"
        assert 224 <= min(picture.size) <= max(picture.size) <= 640, name
    assert sum(path.stat().st_size for path in FOLDER.glob("*.jpg")) < 6e6


def test_there_are_many_and_none_twice() -> None:
    assert len(SOURCES) >= 80
    for of in (lambda known: known.sha256, lambda known: known.title):
        assert len(set(map(of, SOURCES.values()))) == len(SOURCES)


def test_every_picture_says_whom_it_is_owed_to() -> None:
    for known in SOURCES.values():
        assert known.title and known.author
        assert known.license in LICENSES
        assert not any(word in known.license for word in ("GPL", "GFDL", "NC", "ND"))
        assert known.url.startswith("http")


def test_unknown_picture_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="nearest: raccoon"):
        source("racoon")


def test_file_that_is_not_the_one_of_the_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "cat", Picture("Cat", "nobody", "CC0 1.0", "https://", "0" * 64))
    with pytest.raises(AtlasDamaged, match=r"cat\.jpg has sha256 e12257.*expected 000"):
        source("cat")
