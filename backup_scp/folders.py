"""Folders whose entries survive a power cut."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

_NOT_KNOWN = frozenset({errno.EINVAL, errno.ENOTSUP})


def fsync_folder(folder: Path) -> None:
    """Make the entries of a folder durable.

    Windows cannot open a folder; NTFS journals its entries.  Some network and FUSE file systems know no fsync of a
    folder and say so: there is nothing more to ask of them.

    Raises
    ------
    OSError
    """
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_KNOWN:
            raise
    finally:
        os.close(descriptor)


def make_folders(folder: Path, mode: int = 0o777) -> None:
    """Make a folder and what is missing above it; on return the entries of all that were made are durable.

    What lies in a folder is no safer than the folder's own name.

    Raises
    ------
    OSError
    """
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(mode, exist_ok=True)
    for new in reversed(missing):
        fsync_folder(new.parent)
