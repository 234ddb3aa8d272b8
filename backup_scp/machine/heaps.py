"""Keep the memory that many threads use in few heaps."""

from __future__ import annotations

import ctypes
import sys

_M_ARENA_MAX = -8  # mallopt(3)
_HEAPS = 2
_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1 << 19


def share_heaps() -> None:
    """Let the C library give all threads their memory from two heaps.

    glibc makes up to eight for each core, and each keeps what its threads have freed.  Python's lock lets one thread
    run at a time, so that they hardly wait for a heap.  Call it before there are threads.
    """
    _set(_M_ARENA_MAX, _HEAPS)


def give_large_pieces_back() -> None:
    """Let the C library return each large piece to the system when it is freed.

    glibc keeps them for the next one, once it has seen some: so the memory of a few large requests stays.
    """
    _set(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def _set(option: int, value: int) -> None:
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:  # musl has one heap
            mallopt(option, value)
