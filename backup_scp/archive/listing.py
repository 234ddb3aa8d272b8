"""List the files of an archive, folder by folder, and continue after folders that cannot be read."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from backup_scp.archive import layout
from backup_scp.archive.os_errors import UNREADABLE, reason
from backup_scp.errors import DigestMismatch

_DEPTH = 3  # levels of folders between the archive and a file
_PASSED_OVER = UNREADABLE | {errno.EACCES, errno.EPERM, errno.ESTALE}


class Listing:
    """Lists files once; it skips a folder that cannot be read, and ``require_all`` then raises an error for it.

    Parameters
    ----------
    root
        The archive's folder.
    is_hidden
        Tells which names in the archive's folder to leave out.
    """

    def __init__(self, root: Path, is_hidden: Callable[[str], bool]) -> None:
        self._root = root
        self._is_hidden = is_hidden
        self._unreadable: list[str] = []

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder, in order."""
        return sorted(entry.name for entry in self._entries(folder) if self._is_folder(entry, folder))

    def files(self, folder: str = "") -> Iterator[str]:
        """Yield every file below a folder; a folder deeper than any location is yielded instead of its content."""
        depth = folder.count("/") + bool(folder)
        prefix = f"{folder}/" if folder else ""
        for entry in self._entries(folder):
            name = prefix + entry.name
            if depth == 0 and self._is_hidden(name):
                continue
            if depth < _DEPTH and self._is_folder(entry, folder):
                yield from self.files(name)
            else:
                yield name

    @property
    def is_incomplete(self) -> bool:
        """Whether a folder was skipped."""
        return bool(self._unreadable)

    def require_all(self) -> None:
        """Raise an error that names a skipped folder, when there is one.

        Raises
        ------
        DigestMismatch
        """
        if self._unreadable:
            others = f" (and {len(self._unreadable) - 1} others)" if len(self._unreadable) > 1 else ""
            raise DigestMismatch(f"Folder {self._unreadable[0]}{others}")

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self._root / folder) as entries:
                yield from entries
        except FileNotFoundError:
            return  # the folder was removed since it was listed
        except OSError as error:
            self._pass_over(folder, error)

    def _is_folder(self, entry: os.DirEntry[str], folder: str) -> bool:
        try:
            return entry.is_dir()
        except OSError as error:
            self._pass_over(folder, error)
            return False

    def _pass_over(self, folder: str, error: OSError) -> None:
        """Record a folder that cannot be read; raise for the archive's own folder, ignore a foreign one."""
        if not folder or error.errno not in _PASSED_OVER:
            raise error
        if layout.is_spread(folder.partition("/")[0]):
            self._unreadable.append(f"{folder} cannot be read: {reason(error)}")
