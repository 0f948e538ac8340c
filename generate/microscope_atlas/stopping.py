"""Ctrl-C and SIGTERM, which clusters send: the program stops where it is, and puts away what it holds."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
REPEAT_SECONDS = 5.0  # that further signals wait for, so that a key pressed twice does not disturb the putting away


class Stopped(KeyboardInterrupt):
    """A signal has stopped the program."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number  # as shells have it


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise Stopped in here when a signal comes; the program is to end then, so after one they are ignored."""
    if threading.current_thread() is not threading.main_thread():  # to which alone signals come
        yield
        return
    last = 0.0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if last and now - last < REPEAT_SECONDS:
            return
        last = now
        raise Stopped(number)

    after = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    except Stopped:
        after = dict.fromkeys(SIGNALS, signal.SIG_IGN)
        raise
    finally:
        for number, handler in after.items():
            signal.signal(number, handler)
