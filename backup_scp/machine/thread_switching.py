"""Let no thread that computes keep the others waiting."""

from __future__ import annotations

import sys

_INTERVAL_S = 0.0005


def switch_threads_often() -> None:
    """Let a thread that computes give Python's lock to another after half a millisecond.

    A C-ECHO takes the lock about twenty times.  With Python's 5 ms, it waits a second and a half beside sixteen
    callers of one stranger who keep their threads busy; with this, a quarter of one.
    """
    sys.setswitchinterval(_INTERVAL_S)
