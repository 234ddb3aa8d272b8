"""Make files and folder entries durable, so that they survive a power cut."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from mmap import mmap
from pathlib import Path
from typing import BinaryIO

_NOT_KNOWN = frozenset({errno.EINVAL, errno.ENOTSUP})
_last_failure = memoryview(mmap(-1, 8)).cast("q")  # shared with all processes forked from this one
_TEST_BYTES = bytes(65536)


class FsyncFailed(OSError):  # noqa: N818 - named after what happened, like the others
    """An fsync failed.  Do not repeat it on this descriptor: it would succeed without the data."""


def uncache(stream: BinaryIO) -> None:
    """Drop a file from the page cache, where the system can, so that the next read comes from the disk."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def fsync(descriptor: int, unknown: frozenset[int] = frozenset()) -> None:
    """Make the bytes written to a descriptor durable.

    Parameters
    ----------
    unknown
        Error numbers by which a file system says that it does not support this fsync; they are ignored.

    Raises
    ------
    FsyncFailed
    """
    fsync_with(os.fsync, descriptor, unknown)


def fsync_with(flush: Callable[[int], object], descriptor: int, unknown: frozenset[int] = frozenset()) -> None:
    """Do what ``fsync`` does with another call of the system: ``os.fdatasync``, for instance.

    Raises
    ------
    FsyncFailed
    """
    try:
        flush(descriptor)
    except OSError as error:
        if error.errno in unknown:
            return
        _last_failure[0] = time.monotonic_ns()  # first of all: other threads compare it after their own fsync
        raise FsyncFailed(error.errno, error.strerror) from error


def last_failed_fsync() -> int:
    """Return a number that changes with each failed fsync in this process and those forked with it."""
    return _last_failure[0]


def fsync_folder(folder: Path) -> None:
    """Make the entries of a folder durable.

    Windows cannot open a folder; NTFS journals its entries.  Some network and FUSE file systems refuse fsync of a
    folder as unsupported; that is ignored, since nothing more can be done.

    Raises
    ------
    FsyncFailed
    OSError
        The folder cannot be opened.
    """
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fsync(descriptor, _NOT_KNOWN)
    finally:
        os.close(descriptor)


def make_folders(folder: Path, mode: int = 0o777) -> None:
    """Create a folder and its missing parents; on return the entries of all new ones are durable.

    A file is lost with its folder, when the entry of the folder itself is not durable.

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
    """Make all entries on the path to a folder durable, up to the root of its volume.

    It skips a folder that this user may not open: that one was not created here.

    Raises
    ------
    FsyncFailed
    """
    while not os.path.ismount(folder):
        folder = folder.parent
        if os.access(folder, os.R_OK):
            fsync_folder(folder)


def try_to_write(folder: Path) -> None:
    """Write and sync a test file in a folder, and remove it.

    Where the system supports files without a name, nobody ever sees the file.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    descriptor = _nameless_file(folder)
    try:
        os.write(descriptor, _TEST_BYTES)
        fsync(descriptor)
    finally:
        os.close(descriptor)


def _nameless_file(folder: Path) -> int:
    """Open a new file that has no name, or whose name is removed at once."""
    if sys.platform == "linux":
        try:
            return os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600)
        except OSError as error:
            if error.errno not in _NOT_KNOWN | {errno.EISDIR, errno.ENOENT} or not folder.is_dir():
                raise  # otherwise the file system does not support such files
    import tempfile

    descriptor, name = tempfile.mkstemp(prefix=".backup-scp-test-", dir=folder)
    if sys.platform == "win32":
        os.close(descriptor)
        return os.open(name, os.O_WRONLY | os.O_TEMPORARY)  # Windows removes it when it is closed
    Path(name).unlink()
    return descriptor
