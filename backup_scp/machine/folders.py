"""Folders whose entries survive a power cut."""

from __future__ import annotations

import errno
import os
import sys
import time
from contextlib import suppress
from mmap import mmap
from pathlib import Path
from typing import BinaryIO

_NOT_KNOWN = frozenset({errno.EINVAL, errno.ENOTSUP})
_last_failure = memoryview(mmap(-1, 8)).cast("q")  # shared with every process that is forked from this one
_TEST_BYTES = bytes(65536)


class FsyncFailed(OSError):  # noqa: N818 - what happened, as the other names say it
    """fsync failed.  Do not call it again on this descriptor: it would succeed without the data."""


def uncache(stream: BinaryIO) -> None:
    """Drop a file from the page cache, so that the next read comes from the disk, where the system can."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def fsync(descriptor: int, unknown: frozenset[int] = frozenset()) -> None:
    """Make what was written durable.

    Parameters
    ----------
    unknown
        Error numbers that say that this file system has no such call.

    Raises
    ------
    FsyncFailed
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in unknown:
            return
        _last_failure[0] = time.monotonic_ns()  # before anything else: others compare it when their own has returned
        raise FsyncFailed(error.errno, error.strerror) from error


def last_failed_fsync() -> int:
    """Return a number that changes with each failed fsync of this process or of one forked from the same."""
    return _last_failure[0]


def fsync_folder(folder: Path) -> None:
    """Make the entries of a folder durable.

    Windows cannot open a folder; NTFS journals its entries.  Some network and FUSE file systems know no fsync of a
    folder and say so: there is nothing more to ask of them.

    Raises
    ------
    FsyncFailed
    OSError
        It cannot be opened.
    """
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fsync(descriptor, _NOT_KNOWN)
    finally:
        os.close(descriptor)


def make_folders(folder: Path, mode: int = 0o777) -> None:
    """Make a folder and what is missing above it; on return the entries of all that were made are durable.

    What lies in a folder is no safer than the folder's own name.

    Raises
    ------
    OSError
    """
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(mode, exist_ok=True)
    for new in reversed(missing):
        fsync_folder(new.parent)


def fsync_way_to(folder: Path) -> None:
    """Make the entries durable that lead to a folder, up to its volume's own root.

    A folder that is not ours to open was not made by us.

    Raises
    ------
    FsyncFailed
    """
    while not os.path.ismount(folder):
        folder = folder.parent
        if os.access(folder, os.R_OK):
            fsync_folder(folder)


def try_to_write(folder: Path) -> None:
    """Try whether a new file in a folder can be kept; on return nothing is left of it.

    Where the system knows files without a name, there is no moment at which anybody could see it.

    Raises
    ------
    OSError
        Why it cannot.
    """
    descriptor = _nameless_file(folder)
    try:
        os.write(descriptor, _TEST_BYTES)
        fsync(descriptor)
    finally:
        os.close(descriptor)


def _nameless_file(folder: Path) -> int:
    """Open a new file that has no name, or whose name is taken away at once."""
    if sys.platform == "linux":
        try:
            return os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600)
        except OSError as error:
            if error.errno not in _NOT_KNOWN | {errno.EISDIR, errno.ENOENT} or not folder.is_dir():
                raise  # else the file system has no such files
    import tempfile

    descriptor, name = tempfile.mkstemp(prefix=".backup-scp-test-", dir=folder)
    if sys.platform == "win32":
        os.close(descriptor)
        return os.open(name, os.O_WRONLY | os.O_TEMPORARY)  # the system removes it when it is closed
    Path(name).unlink()
    return descriptor
