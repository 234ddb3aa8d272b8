"""Hash a long Data Set in a second thread while the first one receives and writes it.

It hashes the received bytes, never bytes read back: otherwise a disk that changes bytes would not be noticed.
It pays only for long Data Sets and with a free core; otherwise the receiving thread hashes between two writes.
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
"""The shortest Data Set, in bytes, for which it pays to wake a thread."""

_WORTH_PIECE_BYTES = 64 << 10
_free_cores = threading.Semaphore(max((os.cpu_count() or 1) - 1, 0))
_idle: deque[BackgroundDigest] = deque()


class BackgroundDigest:
    """Hashes bytes in a thread while the caller writes them; call ``finish`` before you read the digests.

    Its thread then waits for the next Data Set: starting a thread takes as long as hashing 100 KB.
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
        """Take a thread that continues these digests; None when no core or no thread is free."""
        if not _free_cores.acquire(blocking=False):
            return None
        try:
            beside = _idle_one() or cls()
        except RuntimeError:
            _free_cores.release()
            return None
        return beside.go_on(digests)

    def go_on(self, digests: Digests) -> Self:
        """Continue these digests; the previous Data Set is finished."""
        self._digests, self._error = digests, None
        return self

    def update(self, data: memoryview) -> None:
        """Wait for the bytes before, then start hashing ``data``; do not change it before the next call or ``finish``.

        Raises
        ------
        OSError
            The bytes before could not be hashed.
        """
        self._wait()
        if len(data) < _WORTH_PIECE_BYTES:
            self._digests.update(data)
        else:
            self._is_busy = True
            self._given.put(data)

    def finish(self) -> None:
        """Wait until all bytes are hashed, and release the thread.

        Raises
        ------
        OSError
            The bytes could not be hashed.
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
        if self._error is not None:  # e.g. no memory: nobody knows which bytes were hashed
            raise OSError(errno.EIO, "its digest could not be made") from self._error

    def _run(self) -> None:
        while True:
            data = self._given.get()
            try:
                self._digests.update(data)
            except Exception as error:  # noqa: BLE001 - raised by ``_wait``
                self._error = error
            del data  # otherwise the caller could not release its buffer
            self._done.put(None)


def _idle_one() -> BackgroundDigest | None:
    with suppress(IndexError):
        return _idle.pop()
    return None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # a forked process has no such threads
