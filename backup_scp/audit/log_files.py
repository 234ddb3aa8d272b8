"""The files of the audit log, in the order in which they were written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_NAME = re.compile(r"audit-(\d{15})\.log")
_CHUNK = 1 << 16


def log_name(number: int) -> str:
    """Return the name of the file that begins with a record: names sort as the records, whatever the clock says."""
    return f"audit-{number:015}.log"


def first_number(file: Path) -> int:
    """Return the number of the record that a file begins with, by its name; 0 when it is no file of a log."""
    found = _NAME.fullmatch(file.name)
    return int(found[1]) if found else 0


def log_files(folder: Path) -> list[Path]:
    """Return the files of a log; none when there is no log.

    Raises
    ------
    OSError
        The folder cannot be read.
    """
    try:
        names = os.listdir(folder)  # noqa: PTH208 - asked for with each batch
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(filter(_NAME.fullmatch, names))]


def lines_of(file: Path, start: int = 0) -> Iterator[bytes]:
    """Yield the lines of a file, each with its line feed; the last one may be cut.

    Raises
    ------
    OSError
    """
    with file.open("rb") as stream:
        stream.seek(start)
        yield from stream


def last_line(stream: BinaryIO, size: int) -> bytes:
    """Return what follows the last line feed but one: the last line, whole or cut."""
    tail, start = b"", size
    while start:
        begin = max(0, start - _CHUNK)
        stream.seek(begin)
        tail, start = stream.read(start - begin) + tail, begin
        cut = tail.rfind(b"\n", 0, len(tail) - 1)
        if cut >= 0:
            return tail[cut + 1 :]
    return tail
