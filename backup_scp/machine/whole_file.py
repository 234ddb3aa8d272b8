"""Write small files so that they are there with all of their bytes, or not at all, also after a power cut."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from backup_scp.machine.folders import fsync, fsync_folder, make_folders

_PART = ".part"


def write_new(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file that is not there yet, and its missing folders; on return it is durable.

    Raises
    ------
    FileExistsError
        It is there, and stays as it is.
    OSError
    """
    make_folders(path.parent, 0o700)
    part = _written(path, content, mode)
    try:
        _take_free_name(part, path)
    finally:
        part.unlink(missing_ok=True)
    fsync_folder(path.parent)


def replace(path: Path, content: bytes, backup: Path | None) -> None:
    """Replace a file by another with its owner, group, mode and extended attributes; the old one becomes ``backup``.

    Parameters
    ----------
    backup
        In the same folder; not there yet.  None keeps no old one.

    Raises
    ------
    OSError
        Nothing has changed, but that the backup may be there already.
    """
    found = path.stat()
    part = _written(path, content, 0o600)
    try:
        if sys.platform != "win32":
            ours = part.stat()
            if (ours.st_uid, ours.st_gid) != (found.st_uid, found.st_gid):
                os.chown(part, found.st_uid, found.st_gid)
        shutil.copystat(path, part)
        os.utime(part)
        if backup is not None:
            _link(path, backup)
        os.replace(part, path)  # noqa: PTH105 - as os.link and os.chown
    except OSError:
        part.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def put(path: Path, content: bytes) -> None:
    """Write a file in place of the one that may be there; its folder is there.

    Raises
    ------
    OSError
        Nothing has changed.
    """
    try:
        replace(path, content, None)
    except FileNotFoundError:
        write_new(path, content)


def _written(path: Path, content: bytes, mode: int) -> Path:
    part = path.with_name(f"{path.name}{_PART}")
    part.unlink(missing_ok=True)
    part.touch(mode, exist_ok=False)
    try:
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            fsync(stream.fileno())
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return part


def _take_free_name(part: Path, path: Path) -> None:
    """Give a file its name, if that is free."""
    with suppress(OSError):
        os.link(part, path)
        return
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    part.rename(path)  # a file system without second names


def _link(path: Path, backup: Path) -> None:
    """Give a file a second name; on file systems without such names, copy it."""
    with suppress(OSError):
        os.link(path, backup)
        return
    with backup.open("xb") as stream:
        stream.write(path.read_bytes())
        stream.flush()
        fsync(stream.fileno())
    shutil.copystat(path, backup)
