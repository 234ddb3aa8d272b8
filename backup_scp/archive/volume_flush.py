"""Make many files of an archive durable together."""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Iterable
from pathlib import Path

from backup_scp.machine.file_system import can_flush_all, flush_all
from backup_scp.machine.folders import FsyncFailed, fsync


class VolumeFlush:
    """Flushes what was written since it was made; where the system can, the whole volume with one call.

    The system tells only a descriptor that was open by then of every write that has failed.  After a failure it cannot
    be used again: another flush would succeed without the bytes.

    Parameters
    ----------
    root
        The archive's folder.

    Attributes
    ----------
    is_of_all
        Whether one call flushes all files and all names.

    Raises
    ------
    OSError
    """

    def __init__(self, root: Path) -> None:
        self.is_of_all = can_flush_all(root)
        self._descriptor = os.open(root, os.O_RDONLY) if self.is_of_all else None
        if self._descriptor is not None:
            weakref.finalize(self, os.close, self._descriptor)
        self._has_failed = False

    def __call__(self, paths: Iterable[str] = ()) -> None:
        """Make these files durable, and every other one where that takes no more.

        Raises
        ------
        FsyncFailed
        OSError
        """
        if self._has_failed:
            raise FsyncFailed(errno.EIO, os.strerror(errno.EIO))
        try:
            if self._descriptor is not None:
                flush_all(self._descriptor)
                return
            for path in paths:
                with open(path, "rb+") as file:  # noqa: PTH123 - a name, not a path
                    fsync(file.fileno())
        except FsyncFailed:
            self._has_failed = True
            raise
