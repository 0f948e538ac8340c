"""What any input, however hostile, may cost: seconds, and memory; and how readers may answer.

A reader reads, or refuses with an error of the package's own. Everything else fails the test: another exception, a case
that takes longer than `SECONDS`, or one whose resident memory grows by more than `ROOM`. A reader that hangs where no
Python code runs, in a library, ends the process; `pytest -s` shows where it was.
"""

import faulthandler
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

from microscope_atlas.errors import AtlasError

SECONDS = 5.0  # a case; the slowest takes some 0.1
GRACE_SECONDS = 5.0  # then the process ends
ROOM = 256 << 20  # bytes that the resident memory may grow by in a case
ADDRESSES = 8 << 30  # bytes that the address space may: so that a bomb harms this test alone

T = TypeVar("T")


class TooSlow(BaseException):
    """A case that hangs; no Exception, so that no reader takes it for a fault of its file."""


def reads(read: Callable[[T], object], given: T, about: str) -> bool:
    """Whether `read` reads what it is given, or refuses as it may; `about` names the case where it does neither."""
    try:
        with limited():
            read(given)
    except AtlasError as error:
        assert str(error), f"{about}: refused without a word"
        return False
    except (Exception, TooSlow) as error:
        raise AssertionError(f"{about}: {type(error).__name__}: {str(error)[:500]}") from error
    return True


@contextmanager
def limited(room: int = ROOM) -> Iterator[None]:
    """Within it, little time and memory; AssertionError afterwards where the memory has grown by more than `room`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = _memory("VmRSS")
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + ADDRESSES if before else soft, hard))
    _forget_peak()
    handler = signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    faulthandler.dump_traceback_later(SECONDS + GRACE_SECONDS, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        grown = _memory("VmHWM") - before
        assert grown < room, f"the memory grew by {grown >> 20} MB"


def _stop(signal: int, frame: FrameType | None) -> None:
    raise TooSlow(f"it takes longer than {SECONDS:.0f} s")


def _memory(name: str) -> int:
    """Of this process, in bytes; 0 where there is no Linux to say it."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:")), 0)


def _forget_peak() -> None:
    """Have VmHWM, the most memory so far, begin anew."""
    if (refs := Path("/proc/self/clear_refs")).exists():
        refs.write_text("5")
