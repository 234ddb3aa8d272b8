"""Keep the memory that many threads use in few heaps."""

from __future__ import annotations

import ctypes
import sys

_M_ARENA_MAX = -8  # mallopt(3)
_HEAPS = 2


def share_heaps() -> None:
    """Let the C library give all threads their memory from two heaps.

    glibc makes up to eight for each core, and each keeps what its threads have freed.  Python's lock lets one thread
    run at a time, so that they hardly wait for a heap.  Call it before there are threads.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:  # musl has one heap
            mallopt(_M_ARENA_MAX, _HEAPS)
