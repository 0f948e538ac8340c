"""What is kept of what takes long to load."""

from threading import Event, Thread

import pytest

from microscope_atlas.atlas.kept import Kept


def test_as_many_bytes_are_kept_as_are_allowed() -> None:
    kept = Kept(lambda name, size: (name, size), lambda value: value[1], 100)
    for key in (("a", 40), ("b", 40), ("a", 40), ("c", 40)):  # b is asked for longest ago
        kept(*key)
    assert (kept.loads, kept.num_bytes) == (3, 80)
    kept("a", 40), kept("c", 40)
    assert kept.loads == 3
    kept("huge", 1000)  # what is asked for is there, however large
    assert (kept("huge", 1000), kept.loads, kept.num_bytes) == (("huge", 1000), 4, 1000)


def test_nobody_waits_for_what_another_loads() -> None:
    begun, done, loaded = Event(), Event(), []

    def load(name: str) -> str:
        if name == "slow":
            begun.set()
            assert done.wait(10)
        loaded.append(name)
        return name

    kept = Kept(load, len, 100)
    threads = [Thread(target=kept, args=("slow",)) for _ in range(2)]
    threads[0].start()
    assert begun.wait(10)
    threads[1].start()
    assert kept("quick") == "quick"  # while the other is being loaded
    done.set()
    for thread in threads:
        thread.join(10)
    assert loaded == ["quick", "slow"]  # once each


def test_what_cannot_be_loaded_is_tried_again() -> None:
    answers = iter((ValueError("gone"), "there"))

    def load() -> str:
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    kept = Kept(load, len, 100)
    with pytest.raises(ValueError, match="gone"):
        kept()
    assert kept() == "there"
