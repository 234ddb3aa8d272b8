"""Translate errors of the operating system into sentences for a technician, without paths."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backup_scp.errors import ArchiveFull, ArchiveUnavailable
from backup_scp.machine.ownership import chown_words, our_uid, owner_of, user_name

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})
_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESTALE})

UNREADABLE = frozenset({errno.EIO, errno.EBADMSG, errno.EISDIR, getattr(errno, "EUCLEAN", errno.EIO)})
"""Error numbers for bytes that the medium lost: the file is damaged, the archive is not away."""

NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})
"""Error numbers for a file system without hard links."""


def failure(error: OSError, action: str) -> ArchiveUnavailable:
    """Return our error for an error of the system; ``action`` is ``written`` or ``read``."""
    if error.errno in _FULL:
        return ArchiveFull("Archive full: its volume has no room left for this Data Set")
    hint = "; is its drive connected?" if error.errno in _GONE else whose(error)
    return ArchiveUnavailable(f"Archive cannot be {action}: {reason(error)}{hint}")


def whose(error: OSError) -> str:
    """Name the owner of the file when it explains a denied access: another user's command created the file."""
    if error.errno not in _FORBIDDEN:
        return ""
    for name in (error.filename, error.filename2):
        owner = owner_of(Path(os.fsdecode(name))) if isinstance(name, str | bytes) else None
        if owner is not None and owner.uid != (us := our_uid()):
            ours = user_name(us or 0)
            what_to_type = chown_words(ours, "ARCHIVE-FOLDER", options="-R")
            return f"; a part of it belongs to {owner.name}, and this is {ours}: {what_to_type}"
    return ""


def reason(error: OSError) -> str:
    """Return the system's text, without the path that ``str(error)`` contains."""
    return os.strerror(error.errno) if error.errno else "the system gives no reason"


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Raise ``failure`` for errors of the system in the block."""
    try:
        yield
    except OSError as error:
        raise failure(error, action) from error
