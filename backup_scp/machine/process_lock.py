"""A lock between processes that the operating system lets go when its holder dies."""

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
                if not wait:  # else LK_LOCK gave up after its ten seconds
                    raise BlockingIOError(errno.EAGAIN, "Another process holds the lock") from error

    def _share(descriptor: int) -> None:
        _take(descriptor, wait=False)  # msvcrt knows nothing else

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
        The lock file; it is made when missing.
    wait
        Wait for another holder, instead of giving up.

    Raises
    ------
    BlockingIOError
        Another holds it.
    FileNotFoundError
        Its folder is gone, or its last holder removed it.
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
        """Tell whether the file at its path is still the one that is locked (the drive may have been changed)."""
        with suppress(FileNotFoundError, NotADirectoryError):
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        return False

    def close(self) -> None:
        """Let go; harmless when called twice."""
        self._closed()

    def remove(self) -> None:
        """Remove the file, then let go, so that nobody can lock it in between; Windows only knows the other order."""
        if sys.platform == "win32":
            self.close()
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
        else:
            self._path.unlink(missing_ok=True)
            self.close()


def _open(path: Path) -> int:
    """Open a lock file; one that is there already can also be locked where nothing can be written."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        if error.errno not in _CANNOT_BE_WRITTEN or not path.exists():
            raise
        return os.open(path, os.O_RDONLY)


def is_locked(path: Path) -> bool:
    """Tell whether somebody holds a lock file; nothing is made.

    For the moment of the look nobody else can take it, so that who takes it should try more than once.

    Raises
    ------
    OSError
        It cannot be opened.
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
    """Run the block while no other process or thread does so with the same lock file."""
    lock = Lock(path, wait=True)
    try:
        yield
    finally:
        lock.close()
