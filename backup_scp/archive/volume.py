"""Check the volume of an archive: its free space, and whether an fsync failed on it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from backup_scp.archive.os_errors import failure, reason
from backup_scp.errors import ArchiveFull, ArchiveUnavailable
from backup_scp.machine.disks import existing
from backup_scp.machine.folders import FsyncFailed, fsync, fsync_folder, last_failed_fsync

CHECK_BYTES = 4 << 20
"""How many bytes of a Data Set to write before the free space is checked again."""

_RESERVED_FILES = 100
_TEST_BYTES = bytes(65536)


class Volume:
    """The state of a volume; safe to share between threads.

    Parameters
    ----------
    root
        The archive's folder.
    reserve_bytes
        Space to leave free: for the index, and for the person who repairs things.
    """

    def __init__(self, root: Path, reserve_bytes: int) -> None:
        self._root = root
        self._reserve_bytes = reserve_bytes
        self._mutex = threading.Lock()
        self._testing = threading.Lock()
        self._trouble = ""
        self._sound_since = last_failed_fsync()

    @property
    def trouble(self) -> str:
        """Why nothing is written; empty when the volume is healthy."""
        return self._trouble

    def free_bytes(self) -> int:
        """Return the number of free bytes, including the reserve."""
        return _usage(self._root)[0]

    def require_room(self, more_bytes: int = 0) -> None:
        """Raise when the free space is below the reserve, or would be after ``more_bytes``.

        Raises
        ------
        ArchiveFull
        OSError
        """
        if not self._reserve_bytes:
            return
        free_bytes, free_files = _usage(self._root)
        if free_bytes - more_bytes < self._reserve_bytes:
            raise ArchiveFull(f"Archive full: less than {_megabytes(self._reserve_bytes)} are free")
        if free_files is not None and free_files < _RESERVED_FILES:
            raise ArchiveFull("Archive full: its volume has no room for further files")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Translate the system's errors in the block; a failed fsync marks the volume as faulty.

        Raises
        ------
        ArchiveFull, ArchiveUnavailable
        """
        try:
            yield
        except OSError as error:
            raise self._refusal(error) from error

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Do what ``writing`` does, and raise also when another thread's fsync failed during the block.

        The system reports a lost write to one caller only, and it may concern a folder that this block has synced too.

        Raises
        ------
        ArchiveFull, ArchiveUnavailable
        """
        before = last_failed_fsync()
        try:
            yield
        except OSError as error:
            raise self._refusal(error) from error
        if last_failed_fsync() != before:
            raise ArchiveUnavailable("Archive cannot be written: an fsync failed; send it again")

    def require_healthy(self, folder: Path) -> None:
        """After a failed fsync, refuse writes until a test file in ``folder`` was written and synced.

        Raises
        ------
        ArchiveUnavailable
        """
        if self._is_sound:
            return
        with self._testing:  # one test at a time: a failing disk answers slowly
            if self._is_sound:
                return
            seen = last_failed_fsync()
            try:
                _write_test(folder)
            except OSError as error:
                self._mark(error)
                raise ArchiveUnavailable(self._trouble) from error
            with self._mutex:
                self._trouble, self._sound_since = "", seen

    @property
    def _is_sound(self) -> bool:
        """Whether no fsync has failed since the last successful test, in any process of this node."""
        return not self._trouble and last_failed_fsync() == self._sound_since

    def mark_faulty(self, trouble: str) -> None:
        """Mark the volume as faulty, because another process has found it so."""
        self._trouble = trouble

    def _refusal(self, error: OSError) -> ArchiveUnavailable:
        if isinstance(error, FsyncFailed):
            self._mark(error)
        return failure(error, "written")

    def _mark(self, error: OSError) -> None:
        with self._mutex:
            self._trouble = f"Archive's disk did not keep data: {reason(error)}"


def _usage(folder: Path) -> tuple[int, int | None]:
    """Return free bytes and free inodes; None for a file system that has no limit on files."""
    if sys.platform == "win32":
        import shutil

        return shutil.disk_usage(existing(folder)).free, None
    try:
        found = os.statvfs(folder)
    except FileNotFoundError:
        found = os.statvfs(existing(folder))
    return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None


def _write_test(folder: Path) -> None:
    path = folder / f"test-{threading.get_ident():x}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        try:
            os.write(descriptor, _TEST_BYTES)
            fsync(descriptor)
        finally:
            os.close(descriptor)
        fsync_folder(folder)
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _megabytes(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1_000_000_000 else f"{number / 1e6:.0f} MB"
