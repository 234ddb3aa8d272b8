"""The digests of a long Data Set, made by a thread beside the one that receives and writes it.

They are of the bytes that were received, never of what was read back: a disk that keeps others is found out.
It pays where a core is free, but not for short ones; else they are made between two writes.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from contextlib import suppress
from queue import SimpleQueue
from typing import Self

from backup_scp.machine.digests import Digests

WORTH_BYTES = 1 << 20
"""Length from which it is worth to wake a thread."""

_WORTH_PIECE_BYTES = 64 << 10
_free_cores = threading.Semaphore(max((os.cpu_count() or 1) - 1, 0))
_idle: deque[BackgroundDigest] = deque()


class BackgroundDigest:
    """Hashes bytes in a thread while the caller writes them; call ``finish`` before you read the digests.

    Its thread waits for the next Data Set then: to start one takes as long as to digest 100 KB.
    """

    def __init__(self) -> None:
        self._digests = Digests()
        self._given: SimpleQueue[memoryview] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()
        self._is_busy = False
        self._error: Exception | None = None
        threading.Thread(target=self._run, name="digest", daemon=True).start()

    @classmethod
    def begin(cls, digests: Digests) -> BackgroundDigest | None:
        """Start the thread with digests so far; None when no core or no thread is free."""
        if not _free_cores.acquire(blocking=False):
            return None
        try:
            beside = _idle_one() or cls()
        except RuntimeError:
            _free_cores.release()
            return None
        return beside.go_on(digests)

    def go_on(self, digests: Digests) -> Self:
        """Take these over; those before are finished."""
        self._digests, self._error = digests, None
        return self

    def update(self, data: memoryview) -> None:
        """Start hashing more bytes when those before are done; do not change them before the next call or ``finish``.

        Raises
        ------
        OSError
            The digests of those before could not be made.
        """
        self._wait()
        if len(data) < _WORTH_PIECE_BYTES:
            self._digests.update(data)
        else:
            self._is_busy = True
            self._given.put(data)

    def finish(self) -> None:
        """Wait for the thread, and return the digests of all bytes.

        Raises
        ------
        OSError
            They could not be made.
        """
        try:
            self._wait()
        finally:
            self._digests = Digests()
            _idle.append(self)
            _free_cores.release()

    def _wait(self) -> None:
        if self._is_busy:
            self._done.get()
            self._is_busy = False
        if self._error is not None:  # there was no memory, say: what they are of is unknown
            raise OSError(errno.EIO, "its digest could not be made") from self._error

    def _run(self) -> None:
        while True:
            data = self._given.get()
            try:
                self._digests.update(data)
            except Exception as error:  # noqa: BLE001 - raised by ``_wait``
                self._error = error
            del data  # or the caller's buffer could not be released
            self._done.put(None)


def _idle_one() -> BackgroundDigest | None:
    with suppress(IndexError):
        return _idle.pop()
    return None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # their threads are not there
