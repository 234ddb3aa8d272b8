"""Folders and folder entries that survive a power cut."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_REMEMBERED = 4096  # folders


def fsync_folder(folder: Path) -> None:
    """Make the entries of a folder durable.

    Windows cannot open a folder; NTFS journals its entries.  A file system that knows no fsync of a folder answers
    EINVAL: there is nothing more to ask of it.
    """
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def uncache(stream: BinaryIO) -> None:
    """Let what is read next come from the medium, not from memory, where the system can be told."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class DurableFolders:
    """Makes folders below a root, and the root; safe to share between threads.

    Another process may have made a folder and not yet called fsync on its parent: so the first use of each folder in
    this process calls it, whoever made it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: set[Path] = set()

    def make(self, folder: Path) -> None:
        """Make a folder below the root, and what is missing above it; on return all their entries are durable."""
        self._make_root()
        for child in (*reversed(folder.relative_to(self._root).parents[:-1]), folder.relative_to(self._root)):
            self._make(self._root / child)

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(0o700)
        except FileExistsError:
            if folder in self._known:
                return
        fsync_folder(folder.parent)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known.add(folder)

    def _make_root(self) -> None:
        missing = []
        folder = self._root
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for new in reversed(missing):
            new.mkdir(0o700, exist_ok=True)
            fsync_folder(new.parent)
