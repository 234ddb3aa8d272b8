"""Extend a lease while work goes on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

from backup_scp.errors import Unavailable


@contextlib.contextmanager
def kept(renew: Callable[[], bool], lease: timedelta) -> Iterator[None]:
    """Renew a lease three times in its duration, in a thread, while the block runs."""
    done = threading.Event()

    def keep() -> None:
        while not done.wait(lease.total_seconds() / 3):
            with contextlib.suppress(Unavailable):
                renew()

    thread = threading.Thread(target=keep, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
