"""SHA-256 of a long Data Set, made by a thread beside the one that receives and writes it.

What was written is read back from the system's cache: nobody has to keep a buffer for it, and memory is flat.  It pays
from some megabytes on, where a core is free; else the digest is made between two writes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import threading
from typing import Protocol

WORTH_BYTES = 2 << 20
"""Length from which a thread is worth its start."""

WRITEBACK_BYTES = 2 << 20
"""How much is written before the system is told to begin with it: the fsync at the end then finds little left."""

_PIECE_BYTES = 256 << 10  # stays in the core's own cache between reading and digesting
_TOLD_EVERY_BYTES = 1 << 20
_free_cores = threading.Semaphore(max((os.cpu_count() or 1) - 1, 0))
_CAN_READ_BACK = hasattr(os, "preadv")


class Digest(Protocol):
    """The part of ``hashlib``'s objects that is used here."""

    def update(self, data: memoryview, /) -> None:
        """Go on with more bytes."""


class DigestBeside:
    """Goes on with the digest of a file while it is written; ``finish`` it before anything else is done with either.

    Parameters
    ----------
    descriptor
        Of the file, open for reading, too; stays the caller's.
    digest
        Of what stands in it before ``position``.
    position
        Where the thread begins to read.
    """

    def __init__(self, descriptor: int, digest: Digest, position: int) -> None:
        self._descriptor = descriptor
        self._digest = digest
        self._done = self._written = self._told = position
        self._ended = False
        self._error: OSError | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="digest", daemon=True)

    @classmethod
    def begin(cls, descriptor: int, digest: Digest, position: int) -> DigestBeside | None:
        """Start one; None where no core or no thread is free for it."""
        if not _CAN_READ_BACK or not _free_cores.acquire(blocking=False):
            return None
        beside = cls(descriptor, digest, position)
        try:
            beside._thread.start()
        except RuntimeError:
            _free_cores.release()
            return None
        return beside

    def written(self, position: int) -> None:
        """Say that the file is written up to here."""
        self._written = position
        if position - self._told >= _TOLD_EVERY_BYTES:
            self._told = position
            with self._changed:
                self._changed.notify()

    def finish(self) -> None:
        """Wait until the digest is of all that was written.

        Raises
        ------
        OSError
            The system did not give back what was written.
        """
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            with memoryview(bytearray(_PIECE_BYTES)) as piece:
                while self._wait():
                    self._go_on(piece)
        except OSError as error:
            self._error = error
        finally:
            _free_cores.release()

    def _wait(self) -> bool:
        """Wait for more to do; False when all is done."""
        with self._changed:
            while self._done == self._written and not self._ended:
                self._changed.wait()
        return self._done != self._written

    def _go_on(self, piece: memoryview) -> None:
        end = self._written
        while self._done < end:
            count = os.preadv(self._descriptor, [piece[: end - self._done]], self._done)
            if not count:
                raise OSError(0, "what was written is not there")
            self._digest.update(piece[:count])
            self._done += count


def begin_writeback(descriptor: int, start: int, length: int) -> None:
    """Let the system begin to bring a part of a file to the medium, where it can be told; promises nothing.

    What fails later is kept for the fsync of the same descriptor.

    Raises
    ------
    OSError
        It fails already.
    """
    if _sync_file_range is None:
        return
    if _sync_file_range(descriptor, ctypes.c_int64(start), ctypes.c_int64(length), _SYNC_FILE_RANGE_WRITE):
        number = ctypes.get_errno()
        if number not in _NOT_KNOWN:
            raise OSError(number, os.strerror(number))


_SYNC_FILE_RANGE_WRITE = 2
_NOT_KNOWN = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM, errno.ESPIPE})
_sync_file_range = (
    getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None) if sys.platform == "linux" else None
)
