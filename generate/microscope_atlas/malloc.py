"""How the C library's malloc keeps what is freed."""

import ctypes
from contextlib import suppress

# of glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8


def mallopt(*settings: tuple[int, int]) -> None:
    """Set parameters of glibc's malloc in this process; nothing where the C library is another one.

    https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    with suppress(OSError, AttributeError):  # another one, which has no such settings
        known = ctypes.CDLL(None).mallopt
        for parameter, value in settings:
            known(parameter, value)
