"""A disk that logs its writes and flushes in order, and every state in which a power cut may leave it.

`python -m tests.system.power_cut.block_log FOLDER LOG IMAGE...` shows each image below FOLDER, by its name, through
FUSE. Every write and every fsync of one goes into LOG, and so does every line that is written to FOLDER/marks. A loop
device on such a file hands down a FLUSH as an fsync, and a FUA as a write and an fsync.
"""

from __future__ import annotations

import errno
import mmap
import random
import stat
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import mfusepy

MARKS = "marks"
WRITE, FLUSH, MARK = range(3)

_RECORD = struct.Struct("<BBQI")  # kind, image, offset, length; then the bytes
_SECTORS = (512, 4096)


class LoggedImages(mfusepy.Operations):
    """The file system; one thread serves it, so the log has one order."""

    use_ns = True

    def __init__(self, log: BinaryIO, images: Sequence[Path]) -> None:
        self._log = log
        self._numbers = {f"/{image.name}": number for number, image in enumerate(images)}
        self._bytes = []
        for image in images:
            with image.open("r+b") as file:
                self._bytes.append(mmap.mmap(file.fileno(), 0))

    @mfusepy.overrides(mfusepy.Operations)
    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
        size = len(self._bytes[self._number(path)]) if path != f"/{MARKS}" else 0
        return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": size}

    @mfusepy.overrides(mfusepy.Operations)
    def open(self, path: str, flags: int) -> int:
        return 0

    @mfusepy.overrides(mfusepy.Operations)
    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        pass

    @mfusepy.overrides(mfusepy.Operations)
    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return self._bytes[self._number(path)][offset : offset + size]

    @mfusepy.overrides(mfusepy.Operations)
    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        if path == f"/{MARKS}":
            self._append(MARK, 0, 0, data)
        else:
            number = self._number(path)
            self._append(WRITE, number, offset, data)
            self._bytes[number][offset : offset + len(data)] = data
        return len(data)

    @mfusepy.overrides(mfusepy.Operations)
    def fsync(self, path: str, datasync: int, fh: int) -> int:
        if path != f"/{MARKS}":
            self._append(FLUSH, self._number(path), 0, b"")
        return 0

    def _append(self, kind: int, image: int, offset: int, data: bytes) -> None:
        self._log.write(_RECORD.pack(kind, image, offset, len(data)) + data)

    def _number(self, path: str) -> int:
        if path not in self._numbers:
            raise mfusepy.FuseOSError(errno.ENOENT)
        return self._numbers[path]


@dataclass(frozen=True)
class LogRecord:
    """One entry of the log."""

    kind: int
    image: int
    offset: int
    data: bytes


def read_log(log: Path) -> list[LogRecord]:
    """Read all of it; a large write is one record."""
    raw = log.read_bytes()
    return list(_records(raw))


def _records(raw: bytes) -> Iterator[LogRecord]:
    position = 0
    while position < len(raw):
        kind, image, offset, length = _RECORD.unpack_from(raw, position)
        position += _RECORD.size
        yield LogRecord(kind, image, offset, raw[position : position + length])
        position += length


class Replay:
    """What the images hold at one point of the log after another.

    `images` are files with what they held at the log's beginning; they are brought forward.
    """

    def __init__(self, records: Sequence[LogRecord], images: Sequence[Path]) -> None:
        self._records, self._images = records, images
        self._done = 0
        self._since_flush: list[list[LogRecord]] = [[] for _ in images]
        self.marks: set[str] = set()
        self._begun_mark = ""  # the kernel cuts a write where a page ends

    def advance(self, point: int) -> None:
        """Apply the log up to `point`: flushed writes are in the images, the others are uncertain."""
        for record in self._records[self._done : point]:
            if record.kind == MARK:
                *marks, self._begun_mark = (self._begun_mark + record.data.decode()).split("\n")
                self.marks.update(filter(None, marks))
            elif record.kind == WRITE:
                self._since_flush[record.image].append(record)
            else:
                _write(self._images[record.image], self._since_flush[record.image])
                self._since_flush[record.image].clear()
        self._done = point

    def crash(self, copies: Sequence[Path], chance: random.Random) -> str:
        """Write to copies of the images what of the rest came through; say in a word how that was drawn."""
        how = chance.choice(("dropped", "all", "some", "torn", "torn"))
        for copy, doubtful in zip(copies, self._since_flush, strict=True):
            _write(copy, _surviving(doubtful, how, chance))
        return f"{how}, {sum(map(len, self._since_flush))} writes in doubt"


def _surviving(records: Sequence[LogRecord], how: str, chance: random.Random) -> Iterator[LogRecord]:
    if how == "dropped":
        return
    share = 1.0 if how == "all" else chance.random()
    for record in records:
        if chance.random() > share:
            continue
        if how == "torn" and chance.random() < 0.5:
            yield from _torn(record, chance)
        else:
            yield record


def _torn(record: LogRecord, chance: random.Random) -> Iterator[LogRecord]:
    """Keep a beginning of the write, or some of its sectors."""
    sector = chance.choice(_SECTORS)
    starts = range(0, len(record.data), sector)
    kept = (
        starts[: chance.randint(0, len(starts))] if chance.random() < 0.5 else chance.sample(starts, len(starts) // 2)
    )
    for start in kept:
        yield LogRecord(WRITE, record.image, record.offset + start, record.data[start : start + sector])


def _write(image: Path, records: Sequence[LogRecord] | Iterator[LogRecord]) -> None:
    with image.open("r+b") as file:
        for record in records:
            file.seek(record.offset)
            file.write(record.data)


def main() -> None:
    folder, log, *images = map(Path, sys.argv[1:])
    with log.open("xb") as file:
        mfusepy.FUSE(LoggedImages(file, images), str(folder), foreground=True, nothreads=True, fsname="block-log")


if __name__ == "__main__":
    main()
