"""Start writeback to the disk while a Data Set is still received; start reading what is needed soon."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from contextlib import suppress

WRITEBACK_BYTES = 2 << 20
"""How many bytes to write before writeback starts, so that the fsync at the end has little left to do."""

_SYNC_FILE_RANGE_WRITE = 2
_NOT_KNOWN = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM, errno.ESPIPE})
_sync_file_range = (
    getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None) if sys.platform == "linux" else None
)


def begin_writeback(descriptor: int, start: int, length: int) -> None:
    """Start writeback of a part of a file, where the system can; the bytes are not durable until fsync.

    The fsync of the same descriptor reports later errors.

    Raises
    ------
    OSError
        An error that the system reports at once.
    """
    if _sync_file_range is None:
        return
    if _sync_file_range(descriptor, ctypes.c_int64(start), ctypes.c_int64(length), _SYNC_FILE_RANGE_WRITE):
        number = ctypes.get_errno()
        if number not in _NOT_KNOWN:
            raise OSError(number, os.strerror(number))


def begin_reading(descriptor: int, length: int) -> None:
    """Let the system read the beginning of a file into the page cache, where it can; nobody waits for it here."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.posix_fadvise(descriptor, 0, length, os.POSIX_FADV_WILLNEED)
