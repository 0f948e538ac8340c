"""Pages that are finished: whoever asks for one soon after is given it again."""

import time
from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock

from microscope_space.answers import Content

MOST = 32 << 20  # bytes, compressed: some 1,800 pages of units
SECONDS = 60.0  # that one is given again, as what could not be read when it was made may be there by then


class Finished:
    """The last ones, by what they are asked by."""

    def __init__(self, most: int = MOST, seconds: float = SECONDS):
        """`most` bytes are kept, for some seconds."""
        self._most, self._seconds, self._lock = most, seconds, Lock()
        self._kept: OrderedDict[Hashable, tuple[float, Content]] = OrderedDict()  # the oldest first
        self.num_bytes = 0

    def find(self, key: Hashable) -> Content | None:
        """A page that was finished not long ago."""
        with self._lock:
            since, content = self._kept.get(key, (-self._seconds, None))
        return content if time.monotonic() - since < self._seconds else None

    def keep(self, key: Hashable, content: Content) -> None:
        """Give it to others."""
        with self._lock:
            if (old := self._kept.pop(key, None)) is not None:
                self.num_bytes -= len(old[1].held)
            self._kept[key] = time.monotonic(), content
            self.num_bytes += len(content.held)
            while self.num_bytes > self._most:
                _, (_, oldest) = self._kept.popitem(last=False)
                self.num_bytes -= len(oldest.held)
