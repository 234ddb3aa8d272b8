"""Write whole files: each call writes all of its bytes."""

from __future__ import annotations

import io
import os
from pathlib import Path

from backup_scp.archive.os_errors import NO_LINKS
from backup_scp.machine.folders import fsync, fsync_folder
from backup_scp.machine.writeback import WRITEBACK_BYTES

_BINARY = getattr(os, "O_BINARY", 0)


def install(content: bytes, final: Path, through: Path) -> None:
    """Put a file in its place, whatever is there; its bytes are durable, its name after an fsync of the folder.

    Parameters
    ----------
    content
        The whole file.
    final
        Its place.
    through
        A free name on the same volume.

    Raises
    ------
    OSError
    """
    through.unlink(missing_ok=True)  # a crash may have left it
    with created(through) as file:
        write_all(file, content)
        fsync(file.fileno())
    through.replace(final)


def opened(name: str) -> io.FileIO:
    """Open a file that is there, to read and write it."""
    return io.FileIO(os.open(name, os.O_RDWR | _BINARY), "rb+")


def created(path: Path) -> io.FileIO:
    """Create a file; raise ``FileExistsError`` when the name is taken."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
    return io.FileIO(descriptor, "rb+")


def copy(source: Path, target: Path) -> None:
    """Copy a file and fsync the copy."""
    with source.open("rb") as read, created(target) as written:
        while part := read.read(WRITEBACK_BYTES):
            write_all(written, part)
        fsync(written.fileno())


def set_aside(final: Path, aside: Path) -> None:
    """Keep a damaged file under a further name, durably; without hard links it loses its own.

    Parameters
    ----------
    aside
        A free name on the same volume, whose folder is there.

    Raises
    ------
    OSError
    """
    try:
        os.link(final, aside)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        final.rename(aside)
    fsync_folder(aside.parent)


def write_all(file: io.FileIO, data: bytes | bytearray | memoryview) -> None:
    """Write all bytes; one system call may write fewer."""
    write_to(file.fileno(), data)


def write_to(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all bytes to an open file."""
    with memoryview(data) as whole, whole.cast("B") as view:
        done = 0
        while done < len(view):
            done += os.write(descriptor, view[done:])
