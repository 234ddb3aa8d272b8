"""A lock between processes, which the operating system releases when its holder dies."""

from __future__ import annotations

import errno
import os
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int, *, wait: bool) -> None:
        while True:
            try:
                msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
                return
            except OSError as error:
                if not wait:  # otherwise LK_LOCK gave up after ten seconds
                    raise BlockingIOError(errno.EAGAIN, "Another process holds the lock") from error

    def _share(descriptor: int) -> None:
        _take(descriptor, wait=False)  # msvcrt has no other way

else:
    import fcntl

    def _take(descriptor: int, *, wait: bool) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _share(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


_CANNOT_BE_WRITTEN = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT})


class Lock:
    """A lock file, held until ``close``, or until the last reference is gone.

    Parameters
    ----------
    path
        The lock file; created when missing.
    wait
        Wait for the holder, instead of raising.

    Raises
    ------
    BlockingIOError
        Another process or thread holds the lock.
    FileNotFoundError
        The folder is gone, or the last holder removed the file.
    OSError
    """

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        self._path = path
        self._descriptor = _open(path)
        self._closed = weakref.finalize(self, os.close, self._descriptor)
        try:
            _take(self._descriptor, wait=wait)
        except OSError:
            self.close()
            raise
        if not self.is_held():
            self.close()
            raise FileNotFoundError(errno.ENOENT, "The lock file was removed by its last holder")

    def is_held(self) -> bool:
        """Tell whether the file at the path is still the locked one; the drive may have been replaced."""
        try:
            return self._closed.alive and os.path.samestat(os.fstat(self._descriptor), os.stat(self._path))  # noqa: PTH116 - asked for each image
        except OSError:  # the drive may have been pulled
            return False

    def close(self) -> None:
        """Release the lock; harmless when called twice."""
        self._closed()

    def remove(self) -> None:
        """Remove the file, then release, so that nobody locks it in between; Windows allows only the other order."""
        if sys.platform == "win32":
            self.close()
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
        else:
            self._path.unlink(missing_ok=True)
            self.close()


def _open(path: Path) -> int:
    """Open a lock file, or create it; an existing one opens also in a read-only folder."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        if error.errno not in _CANNOT_BE_WRITTEN or not path.exists():
            raise
        return os.open(path, os.O_RDONLY)


def is_locked(path: Path) -> bool:
    """Tell whether a process holds a lock file, without creating one.

    The test holds the lock for a moment, so a caller of ``Lock`` should try more than once.

    Raises
    ------
    OSError
        The file cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        _share(descriptor)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Run the block while no other process or thread runs one with the same lock file."""
    lock = Lock(path, wait=True)
    try:
        yield
    finally:
        lock.close()
