"""The digests of a long Data Set, made by a thread beside the one that receives and writes it.

They are of the bytes that were received, never of what was read back: a disk that keeps others is found out.
It pays from some megabytes on, where a core is free; else they are made between two writes.
"""

from __future__ import annotations

import errno
import os
import threading
from queue import SimpleQueue

from backup_scp.digests import Digests

WORTH_BYTES = 2 << 20
"""Length from which a thread is worth its start."""

_WORTH_PIECE_BYTES = 64 << 10
_free_cores = threading.Semaphore(max((os.cpu_count() or 1) - 1, 0))


class DigestBeside:
    """Goes on with digests while its caller writes the same bytes; ``finish`` it before they are asked for.

    Parameters
    ----------
    digests
        Of what has come so far.
    """

    def __init__(self, digests: Digests) -> None:
        self._digests = digests
        self._given: SimpleQueue[memoryview | None] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="digest", daemon=True)
        self._is_busy = False
        self._error: Exception | None = None

    @classmethod
    def begin(cls, digests: Digests) -> DigestBeside | None:
        """Start one; None where no core or no thread is free for it."""
        if not _free_cores.acquire(blocking=False):
            return None
        beside = cls(digests)
        try:
            beside._thread.start()
        except RuntimeError:
            _free_cores.release()
            return None
        return beside

    def update(self, data: memoryview) -> None:
        """Begin with more bytes; they may change after ``wait``."""
        if len(data) < _WORTH_PIECE_BYTES:
            self._digests.update(data)
        else:
            self._is_busy = True
            self._given.put(data)

    def wait(self) -> None:
        """Wait until the digests are of all that was given.

        Raises
        ------
        OSError
            It could not be made.
        """
        if self._is_busy:
            self._done.get()
            self._is_busy = False
        if self._error is not None:  # there was no memory, say: what it is of is unknown
            raise OSError(errno.EIO, "its digest could not be made") from self._error

    def finish(self) -> None:
        """Let the thread end.

        Raises
        ------
        OSError
            The digest could not be made.
        """
        try:
            self.wait()
        finally:
            self._given.put(None)
            self._thread.join()

    def _run(self) -> None:
        try:
            while (data := self._given.get()) is not None:
                try:
                    self._digests.update(data)
                except Exception as error:  # noqa: BLE001 - raised by ``wait``
                    self._error = error
                del data  # or the caller's buffer could not be released
                self._done.put(None)
        finally:
            _free_cores.release()
