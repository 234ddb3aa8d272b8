"""Flush a whole file system with one call, rename without overwriting, and write files at offsets (Linux)."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from backup_scp.machine.folders import fsync_with

# f_type of statfs(2): ext2 to ext4, XFS, Btrfs.  Elsewhere syncfs may leave bytes in a server or a process.
_FLUSHED_AS_A_WHOLE = frozenset({0xEF53, 0x58465342, 0x9123683E})
_REPORTS_ERRORS = (5, 8)  # Linux from this on tells of writes that failed
_STATFS_BYTES = 256  # more than the system's struct has
_NO_SUCH_RENAME = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})
_RENAME_NOREPLACE, _HERE = 1, -100  # AT_FDCWD
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def can_flush_all(folder: Path) -> bool:
    """Tell whether ``flush_all`` makes everything on the file system of ``folder`` durable, or tells that it cannot."""
    if _libc is None or not hasattr(_libc, "syncfs") or _kernel(platform.release()) < _REPORTS_ERRORS:
        return False
    found = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.statfs(os.fsencode(folder), found):
        return False
    return ctypes.c_ulong.from_buffer(found).value & 0xFFFFFFFF in _FLUSHED_AS_A_WHOLE


def _kernel(release: str) -> tuple[int, int]:
    """Return the first two numbers of a release: ``6.1.0-18-amd64`` is 6.1."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def flush_all(descriptor: int) -> None:
    """Make everything durable that was written to the file system of an open file or folder.

    Linux reports every write that failed since the descriptor was opened.

    Raises
    ------
    FsyncFailed
    """
    fsync_with(_syncfs, descriptor)


def rename_new(old: str, new: str, folder: int = _HERE) -> bool:
    """Rename a file, and replace nothing; False where the system cannot do both at once.

    Parameters
    ----------
    folder
        Open folder that both names are relative to; by default the current one.

    Raises
    ------
    FileExistsError
    OSError
    """
    if _libc is None or not hasattr(_libc, "renameat2"):
        return False
    if not _libc.renameat2(folder, os.fsencode(old), folder, os.fsencode(new), _RENAME_NOREPLACE):
        return True
    number = ctypes.get_errno()
    if number in _NO_SUCH_RENAME:
        return False
    raise OSError(number, os.strerror(number), old, None, new)


def fdatasync(descriptor: int) -> None:
    """Make the bytes written to a descriptor durable, but not its times.

    Raises
    ------
    FsyncFailed
    """
    if sys.platform == "linux":
        fsync_with(os.fdatasync, descriptor)


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Read some bytes of a file."""
    if sys.platform == "linux":
        return os.pread(descriptor, size, offset)
    return b""


def write_at(descriptor: int, parts: Sequence[bytes | bytearray], offset: int) -> None:
    """Write these one after another, and all of them.

    Raises
    ------
    OSError
    """
    if sys.platform == "linux" and os.pwritev(descriptor, parts, offset) != sum(map(len, parts)):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _syncfs(descriptor: int) -> None:
    assert _libc is not None, "see can_flush_all"  # noqa: S101 - for the type checker
    if _libc.syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
