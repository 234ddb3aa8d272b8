"""A pool of threads for Associations; each thread serves one connection after another."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

_MOST_SPARE = 8
_AT_WORK, _SPARE = "association", "spare"  # names of threads, for debuggers and ``top``


class ThreadPool:
    """Gives each connection a thread; keeps a few spare ones, since starting one takes as long as a C-ECHO.

    Parameters
    ----------
    work
        Serves one connection, and raises nothing.
    most
        Maximum number of threads.
    """

    def __init__(self, work: Callable[[socket.socket], None], most: int) -> None:
        self._work = work
        self._most = most
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._spare = 0
        self._due: SimpleQueue[socket.socket | None] = SimpleQueue()
        self._is_stopped = False

    def submit(self, connection: socket.socket) -> None:
        """Give a connection to a spare thread, or to a new one.

        Raises
        ------
        RuntimeError, MemoryError
            The system cannot start a thread, or there are too many.
        """
        with self._lock:
            if self._spare:
                self._spare -= 1
                self._due.put(connection)
                return
            if len(self._threads) >= self._most:
                raise RuntimeError("too many threads")
            thread = threading.Thread(target=self._run, args=(connection,), name=_AT_WORK, daemon=True)
            thread.start()
            self._threads.add(thread)

    def stop(self) -> None:
        """End the spare threads; the others end after their current connection."""
        with self._lock:
            self._is_stopped = True
            for _ in range(self._spare):
                self._due.put(None)
            self._spare = 0

    def join(self, deadline: float) -> None:
        """Wait until all threads have ended, but not after ``deadline`` on the monotonic clock."""
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))

    def _run(self, connection: socket.socket) -> None:
        thread = threading.current_thread()
        due: socket.socket | None = connection
        while due is not None:
            thread.name = _AT_WORK
            self._work(due)
            thread.name = _SPARE
            due = self._next()
        with self._lock:
            self._threads.discard(thread)

    def _next(self) -> socket.socket | None:
        """Wait for the next connection; None when this thread is no longer needed."""
        with self._lock:
            if self._is_stopped or self._spare >= _MOST_SPARE:
                return None
            self._spare += 1
        return self._due.get()
