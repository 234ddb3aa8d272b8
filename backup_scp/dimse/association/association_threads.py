"""A pool of threads for Associations; each thread serves one connection after another."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

_MOST_SPARE = 8
_AT_WORK, _SPARE = "association", "spare"  # names of threads, for debuggers and ``top``

_Due = SimpleQueue[socket.socket | None]


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
        self._spare: list[_Due] = []  # of each spare thread, the last one to become spare at the end
        self._is_stopped = False

    def allow(self, most: int) -> None:
        """Set the maximum number of threads; those there are stay."""
        with self._lock:
            self._most = most

    def submit(self, connection: socket.socket) -> None:
        """Give a connection to the thread that became spare last (its memory is in the cache), or to a new one.

        Raises
        ------
        RuntimeError, MemoryError
            The system cannot start a thread, or there are too many.
        """
        with self._lock:
            if self._spare:
                self._spare.pop().put(connection)
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
            while self._spare:
                self._spare.pop().put(None)

    def join(self, deadline: float) -> None:
        """Wait until all threads have ended, but not after ``deadline`` on the monotonic clock."""
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))

    def _run(self, connection: socket.socket) -> None:
        thread, due = threading.current_thread(), _Due()
        due.put(connection)
        while (given := due.get()) is not None:
            thread.name = _AT_WORK
            self._work(given)
            thread.name = _SPARE
            self._note_spare(due)
        with self._lock:
            self._threads.discard(thread)

    def _note_spare(self, due: _Due) -> None:
        """Let ``due`` get the next connection, or None when this thread is no longer needed."""
        with self._lock:
            if self._is_stopped or len(self._spare) >= _MOST_SPARE:
                due.put(None)
            else:
                self._spare.append(due)
