"""Whose turn it is: what a visitor is told at the click, who has others before.

Gradio's queue says how many wait; how long each takes is measured here, as its own measure ends at the first frame.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import mean
from time import monotonic
from typing import Any

RECENT = 8  # of the last ones the mean is taken


class Turns:
    """Of one queue of Gradio's, where one is served at a time."""

    def __init__(self, concurrency_id: str):
        self._concurrency_id = concurrency_id
        self._seconds: deque[float] = deque(maxlen=RECENT)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Measure somebody's turn, however it ends."""
        started = monotonic()
        try:
            yield
        finally:
            self._seconds.append(monotonic() - started)

    def words(self, before: int) -> str:
        """`Waiting: 1 before you, about 40 s.`; empty where nobody is before."""
        if not before:
            return ""
        about = f", about {max(1, round(before * mean(self._seconds)))} s" if self._seconds else ""
        return f"Waiting: {before} before you{about}."

    def before(self, queue: Any, session: str | None) -> int:
        """How many others a Gradio queue serves, or has waiting, before this visitor, who may have come already."""
        serving = [event for job in queue.active_jobs if job for event in job]
        known = queue.event_queue_per_concurrency_id.get(self._concurrency_id)
        waiting = list(known.queue) if known else []
        sessions = [
            event.session_hash for event in (*serving, *waiting) if event.concurrency_id == self._concurrency_id
        ]
        return sessions.index(session) if session in sessions else len(sessions)
