"""Start writing to the disk while a Data Set still comes in."""

from __future__ import annotations

import ctypes
import errno
import os
import sys

WRITEBACK_BYTES = 2 << 20
"""How much is written before the system is told to begin with it: the fsync at the end then finds little left."""

_SYNC_FILE_RANGE_WRITE = 2
_NOT_KNOWN = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM, errno.ESPIPE})
_sync_file_range = (
    getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None) if sys.platform == "linux" else None
)


def begin_writeback(descriptor: int, start: int, length: int) -> None:
    """Start writeback of a part of a file, where the system can; this promises nothing.

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
