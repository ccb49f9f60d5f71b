"""Keeps a daemon's memory near what it holds: a full set of services passes through several times its size.

What is not in use goes back to the kernel only from a heap's end, or where it was mapped by itself. So large
blocks are to be mapped, threads are to share heaps, and after a full set there is a clearing up.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Final

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
#: glibc's first values. To set them keeps it from raising them, each time a larger block is freed.
_THRESHOLD_BYTES: Final = 128 << 10
_HEAPS: Final = 2
#: New objects until the youngest are looked through for garbage, and how often before older ones are. A full
#: set is hundreds of thousands that stay: with Python's own numbers a tenth of its time goes into looking.
_COLLECT_AFTER: Final = (10_000, 20, 20)
#: After a full set was applied: acknowledging it comes first.
CLEAR_UP_SECONDS: Final = 1.0


def begin() -> None:
    """Before any threads are there. Another C library than glibc manages by itself."""
    gc.set_threshold(*_COLLECT_AFTER)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, value in (
            (_M_ARENA_MAX, _HEAPS),
            (_M_MMAP_THRESHOLD, _THRESHOLD_BYTES),
            (_M_TRIM_THRESHOLD, _THRESHOLD_BYTES),
        ):
            mallopt(name, value)


def clear_up() -> None:
    """After a full set: it stays for long, so that the garbage collector need not go through it again and
    again. Takes about 0.1 s for 10,000 services."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
