"""What the operating system says, in a sentence that a technician understands and that names no path."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from backup_scp.errors import ArchiveFull, ArchiveUnavailable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESTALE})

UNREADABLE = frozenset({errno.EIO, errno.EBADMSG, errno.EISDIR, getattr(errno, "EUCLEAN", errno.EIO)})
"""The medium lost these bytes; the file is damaged, not the archive out of reach."""


def failure(error: OSError, action: str) -> ArchiveUnavailable:
    """Choose the error for ``error``; ``action`` is ``written`` or ``read``."""
    if error.errno in _FULL:
        return ArchiveFull("Archive full: its volume has no room left for this Data Set")
    hint = "; is its drive connected?" if error.errno in _GONE else ""
    return ArchiveUnavailable(f"Archive cannot be {action}: {reason(error)}{hint}")


def reason(error: OSError) -> str:
    """Say what the system says, without the path that ``str(error)`` has."""
    return os.strerror(error.errno) if error.errno else "the system gives no reason"


@contextmanager
def explained(action: str) -> Iterator[None]:
    """Raise ``failure`` for what the system refuses in the block."""
    try:
        yield
    except OSError as error:
        raise failure(error, action) from error
