"""What takes long to load, kept for the next who asks: up to so many bytes, and nobody waits for another's."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

V = TypeVar("V")


class Kept(Generic[V]):
    """Calls `load` once a key at a time, a lock each, and forgets what was longest not asked for."""

    def __init__(self, load: Callable[..., V], num_bytes: Callable[[V], int], most: int):
        """`most` bytes are kept, and always what was asked for last."""
        self._load, self._num_bytes, self._most = load, num_bytes, most
        self.clear()

    def __call__(self, *key: Hashable) -> V:
        """The value of a key, `load(*key)`; whatever that raises."""
        with self._lock:
            loading = self._loading.setdefault(key, Lock())
        with loading:  # or two would load the same
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key][0]
            value = self._load(*key)
            with self._lock:
                self.loads += 1
                self._values[key] = value, (size := self._num_bytes(value))
                self.num_bytes += size
                while len(self._values) > 1 and self.num_bytes > self._most:
                    _, (_, size) = self._values.popitem(last=False)
                    self.num_bytes -= size
                self._loading.pop(key, None)
            return value

    def __contains__(self, key: tuple[Hashable, ...]) -> bool:
        return key in self._values

    def clear(self) -> None:
        """Forget all."""
        self.loads = 0  # so far
        self.num_bytes = 0  # of what is kept
        self._values: OrderedDict[tuple[Hashable, ...], tuple[V, int]] = OrderedDict()
        self.unlock()

    def unlock(self) -> None:
        """In a fork, where whoever held a lock is not there."""
        self._lock = Lock()
        self._loading: dict[tuple[Hashable, ...], Lock] = {}
