"""Call a function repeatedly in a second thread, while the first one is busy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Self

_SHORTEST_PAUSE_S = 0.01


class Heartbeat(AbstractContextManager["Heartbeat"]):
    """Calls ``beat`` at once, and then repeatedly in a thread of its own during the ``with`` block.

    Parameters
    ----------
    beat
        Returns the seconds until its next call, None for no further call.
    """

    def __init__(self, beat: Callable[[], float | None]) -> None:
        self._beat = beat
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        pause_s = self._beat()
        if pause_s is not None:
            self._thread = threading.Thread(target=self._run, args=(pause_s,), name="heartbeat", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, pause_s: float | None) -> None:
        while pause_s is not None and not self._over.wait(max(pause_s, _SHORTEST_PAUSE_S)):
            pause_s = self._beat()
