"""Folders and folder entries that survive a power cut."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from backup_scp.machine.folders import fsync_folder, fsync_way_to

_REMEMBERED = 4096  # folders
_PREFETCHED_BYTES = 32 << 20
_HINT_BYTES = 128 << 10  # of a longer one Linux takes no more than its device's largest request


def prefetch(path: Path) -> None:
    """Start reading a file into the page cache, where the system can; errors show later.

    Of a long one it is told the beginning.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                for offset in range(0, min(os.fstat(descriptor).st_size, _PREFETCHED_BYTES), _HINT_BYTES):
                    os.posix_fadvise(descriptor, offset, _HINT_BYTES, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(descriptor)


class DurableFolders:
    """Makes folders below a root, and the root; safe to share between threads.

    Another process may have made a folder and not yet called fsync on its parent: so the first use of each folder in
    this process calls it, whoever made it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: set[Path] = set()

    def knows(self, folder: Path) -> bool:
        """Tell whether ``make`` has made this folder durable; somebody may have removed it since."""
        return folder in self._known

    def make(self, folder: Path) -> None:
        """Make a folder below the root, and what is missing above it; on return all their entries are durable."""
        self._make_root()
        within = folder.relative_to(self._root)
        ways = (self._root / child for child in (*reversed(within.parents[:-1]), within))
        new = [way for way in ways if self._is_new(way)]
        for way in new:  # after all are made: then one flush of a journal has them all
            fsync_folder(way.parent)
        if len(self._known) + len(new) > _REMEMBERED:
            self._known.clear()
        self._known.update(new)

    def _is_new(self, folder: Path) -> bool:
        """Make a folder; False where it was there, and its name durable."""
        try:
            folder.mkdir(0o700)
        except FileExistsError:
            return folder not in self._known
        return True

    def _make_root(self) -> None:
        """Make the root; on first use, fsync the folders above it, which a process that died may have made."""
        if self._root in self._known and self._root.exists():
            return
        self._root.mkdir(0o700, parents=True, exist_ok=True)
        fsync_way_to(self._root)
        self._known.add(self._root)
