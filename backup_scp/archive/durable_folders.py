"""Create folders whose entries survive a power cut."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from backup_scp.machine.folders import fsync_folder, fsync_way_to

_REMEMBERED = 4096  # folders
_PREFETCHED_BYTES = 32 << 20
_HINT_BYTES = 128 << 10  # Linux reads no more than the device's largest request for one hint


def prefetch(path: Path) -> None:
    """Start reading the beginning of a file into the page cache, where the system can.

    It raises nothing: an error shows when the file is read.
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
    """Creates a root folder and folders below it; safe to share between threads.

    Another process may have created a folder without an fsync of its parent so far.  So the first use of each folder
    in this process syncs the parent, also when the folder is there already.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: set[Path] = set()

    def knows(self, folder: Path) -> bool:
        """Tell whether ``make`` has made this folder durable.  It may have been removed since."""
        return folder in self._known

    def make(self, folder: Path) -> None:
        """Create a folder below the root, and its missing parents; on return all their entries are durable."""
        self._make_root()
        within = folder.relative_to(self._root)
        ways = (self._root / child for child in (*reversed(within.parents[:-1]), within))
        new = [way for way in ways if self._is_new(way)]
        for way in new:  # after all are created, so that the file system flushes its journal once for all
            fsync_folder(way.parent)
        if len(self._known) + len(new) > _REMEMBERED:
            self._known.clear()
        self._known.update(new)

    def name(self, folder: Path) -> None:
        """Create a folder below the root, and its missing parents; their entries are durable after ``make``."""
        within = folder.relative_to(self._root)
        for way in (self._root / child for child in (*reversed(within.parents), within)):
            with suppress(FileExistsError):
                way.mkdir(0o700)
                self._known.discard(way)  # somebody had removed it

    def _is_new(self, folder: Path) -> bool:
        """Create a folder; False when it is there and its entry is durable."""
        try:
            folder.mkdir(0o700)
        except FileExistsError:
            return folder not in self._known
        return True

    def _make_root(self) -> None:
        """Create the root; on first use fsync all folders above it, which a process that died may have created."""
        if self._root in self._known and self._root.exists():
            return
        self._root.mkdir(0o700, parents=True, exist_ok=True)
        fsync_way_to(self._root)
        self._known.add(self._root)
