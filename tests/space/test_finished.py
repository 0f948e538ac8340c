"""Pages that are finished are given again, for a while, and as long as they are few enough."""

import pytest

from microscope_space import finished
from microscope_space.answers import Content
from microscope_space.finished import Finished


def page(words: str) -> Content:
    return Content(words.encode(), "text/html")


def test_what_is_kept_is_found_until_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(finished.time, "monotonic", lambda: now[0])
    kept = Finished(seconds=60)
    assert kept.find("a") is None
    kept.keep("a", one := page("one"))
    now[0] += 59
    assert kept.find("a") is one
    now[0] += 1
    assert kept.find("a") is None
    kept.keep("a", other := page("another one"))
    assert kept.find("a") is other
    assert kept.num_bytes == len(other.held)


def test_the_oldest_are_forgotten_where_there_are_too_many() -> None:
    kept = Finished(most=20)
    for name in "abc":
        kept.keep(name, page("x" * 10))
    assert [kept.find(name) is None for name in "abc"] == [True, False, False]
    assert kept.num_bytes == 20


@pytest.mark.parametrize("words", ["short", "long" * 1000])
def test_content_is_the_same_with_and_without_compression(words: str) -> None:
    content = page(words)
    assert content.plain == words.encode()
    assert content.is_compressed == (len(words) > 1000) == (len(content.held) < len(words))
