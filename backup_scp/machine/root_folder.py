"""Reach files by the descriptor of their root folder, so that nothing is written where a pulled drive was mounted."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from backup_scp.machine.file_system import can_flush_all, flush_all, rename_new
from backup_scp.machine.folders import fsync

BINARY = getattr(os, "O_BINARY", 0)
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY
READ = os.O_RDONLY | BINARY

_NO_FOLDER_FSYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})
_MOST_FOLDERS = 8192
_DEVICES = "/sys/dev/block"


class RootFolder:
    """An open folder; all names are relative to it, with ``/``.

    On POSIX systems each call works below the folder that was opened, wherever its path leads by then.  Windows has no
    such calls: there the path is used.

    Parameters
    ----------
    path
        The folder.

    Raises
    ------
    OSError
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        if sys.platform != "win32":
            self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._opened = self._status()
        self._device = _device_of(self._opened)
        self._folders: set[str] = set()
        self._changed: set[str] = set()
        self.flushes_all = can_flush_all(path)

    def _status(self) -> os.stat_result:
        return self.path.stat() if self._descriptor is None else os.fstat(self._descriptor)

    def close(self) -> None:
        """Close it; harmless when called twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def is_here(self) -> bool:
        """Tell whether the path still leads to the folder that was opened, and its device is still connected."""
        with suppress(OSError):
            is_same = os.path.samestat(self.path.stat(), self._opened)
            return is_same and (self._device is None or os.path.exists(self._device))  # noqa: PTH110 - for each image
        return False

    def open(self, name: str, flags: int, mode: int = 0o644) -> int:
        """Open a file; return its descriptor."""
        return os.open(self._at(name), flags, mode, dir_fd=self._descriptor)

    def size(self, name: str) -> int | None:
        """Return the length of a file in bytes; None when it is not there."""
        try:
            found = os.stat(self._at(name), dir_fd=self._descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def changed_at(self, name: str) -> datetime | None:
        """Return when a file was last written to, as the drive says; None when it is not there."""
        try:
            return datetime.fromtimestamp(os.stat(self._at(name), dir_fd=self._descriptor).st_mtime, UTC)
        except (FileNotFoundError, NotADirectoryError, ValueError, OverflowError):
            return None

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, with ``""`` in the root; none when it is not there."""
        try:
            if self._descriptor is None:
                return os.listdir(self._at(folder))  # noqa: PTH208 - as below
            descriptor = self.open(folder or ".", os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            return os.listdir(descriptor)  # noqa: PTH208 - a descriptor
        finally:
            os.close(descriptor)

    def read(self, name: str, most_bytes: int) -> bytes | None:
        """Return the beginning of a small file; None when it is not there."""
        try:
            descriptor = self.open(name, READ)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        with os.fdopen(descriptor, "rb") as stream:
            return stream.read(most_bytes)

    def make_folders(self, folder: str) -> None:
        """Create a folder and its missing parents below the root."""
        if folder in self._folders or not folder:
            return
        parent = folder.rpartition("/")[0]
        self.make_folders(parent)
        self._changed.add(parent)  # also of one that is there: who made it may have died before its flush
        with suppress(FileExistsError):
            os.mkdir(self._at(folder), 0o755, dir_fd=self._descriptor)
        if len(self._folders) > _MOST_FOLDERS:
            self._folders.clear()
        self._folders.add(folder)

    def keep(self, name: str) -> None:
        """Make a file durable that somebody else has written, with the next ``flush``; its folders too."""
        if self.flushes_all or self._descriptor is None:
            return
        descriptor = self.open(name, READ)
        try:
            fsync(descriptor)
        finally:
            os.close(descriptor)
        while name:
            name = name.rpartition("/")[0]
            self._changed.add(name)

    def rename_new(self, old: str, new: str) -> None:
        """Rename a file, and replace nothing.

        Where the system cannot do both at once it looks first: nobody else writes these names.

        Raises
        ------
        FileExistsError
        OSError
        """
        self._changed.add(new.rpartition("/")[0])
        if self._descriptor is not None and rename_new(old, new, self._descriptor):
            return
        with suppress(FileNotFoundError):
            os.stat(self._at(new), dir_fd=self._descriptor, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        self._rename(os.rename, old, new)

    def replace(self, old: str, new: str) -> None:
        """Rename a file over another."""
        self._changed.add(new.rpartition("/")[0])
        self._rename(os.replace, old, new)

    def _rename(self, rename: Callable[..., None], old: str, new: str) -> None:
        at = self._descriptor
        rename(self._at(old), self._at(new), src_dir_fd=at, dst_dir_fd=at)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(self._at(name), dir_fd=self._descriptor)

    def remove_folder(self, name: str) -> None:
        """Remove a folder, if it is there and empty."""
        with suppress(OSError):
            os.rmdir(self._at(name), dir_fd=self._descriptor)
        self._folders.discard(name)

    def forget_folders(self) -> None:
        """Look again which folders are there: somebody may have removed one."""
        self._folders.clear()

    def flush(self) -> None:
        """Make all that was written and renamed durable.

        Where a flush of the whole file system is no promise, the caller has flushed each file; here the folders follow.

        Raises
        ------
        FsyncFailed
        OSError
        """
        changed, self._changed = self._changed, set()
        if self.flushes_all and self._descriptor is not None:
            flush_all(self._descriptor)
            return
        if self._descriptor is None:
            return  # Windows journals the entries of folders
        for folder in sorted(changed):
            descriptor = self.open(folder or ".", os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
            try:
                fsync(descriptor, _NO_FOLDER_FSYNC)
            finally:
                os.close(descriptor)

    def uncache_device(self) -> None:
        """Drop the block device from the page cache, where we may open it.

        A file system in user space (exFAT, NTFS) reads its device through that cache.
        """
        if sys.platform != "linux" or self.flushes_all:
            return
        number = f"{os.major(self._opened.st_dev)}:{os.minor(self._opened.st_dev)}"
        with suppress(OSError, StopIteration):
            facts = Path("/sys/dev/block", number, "uevent").read_text().splitlines()
            name = next(fact for fact in facts if fact.startswith("DEVNAME=")).partition("=")[2]
            descriptor = os.open(f"/dev/{name}", os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)

    def free_bytes(self) -> tuple[int, int]:
        """Return the free bytes that we may use, and all bytes."""
        if sys.platform == "win32":
            import shutil

            usage = shutil.disk_usage(self.path)
            return usage.free, usage.total
        found = os.fstatvfs(self._descriptor if self._descriptor is not None else -1)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def path_of(self, name: str) -> Path:
        """Return the path of a file, for a library that opens files by path; check ``is_here`` before."""
        return self.path / name

    def _at(self, name: str) -> str:
        return name if self._descriptor is not None else str(self.path / name)


def _device_of(opened: os.stat_result) -> str | None:
    """Return the name by which the system knows a folder's block device; None where it has no such names."""
    if sys.platform != "linux" or not os.major(opened.st_dev) or not Path(_DEVICES).is_dir():
        return None
    return f"{_DEVICES}/{os.major(opened.st_dev)}:{os.minor(opened.st_dev)}"
