"""Let a thread stand back behind those that serve peers."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

_NICENESS = 10


def lower_priority() -> None:
    """Lower this thread's priority (Linux: its niceness, which disk requests follow)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
