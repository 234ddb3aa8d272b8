"""Make small images durable with one flush for all that wait at the moment (group commit).

A process writes each of them as a whole into a journal, and flushes that.  The file in the archive needs no flush of
its own then: ``FilesystemArchive.settle`` flushes many at once, a moment later.  After a crash ``sweep`` of the archive
takes from the journal what is missing or torn.

A journal is two tar files (POSIX.1-1988 ustar) in the staging folder of the process; each member is a whole file of
the archive.  While one is settled, the other takes images; then the first begins again.  Both were written once when
they were made, so that a flush has no other work for the file system.
"""

from __future__ import annotations

import errno
import os
import tarfile
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backup_scp.machine.file_system import can_flush_all, fdatasync, flush_all, read_at, write_at
from backup_scp.machine.folders import FsyncFailed, fsync, fsync_folder

SEGMENT_BYTES = 8 << 20
"""Length of each of the two files."""

SMALL_BYTES = 64 << 10
"""Every file up to this length goes into the journal."""

_NAMES = ("journal-1.tar", "journal-2.tar")
JOURNAL_BYTES = len(_NAMES) * SEGMENT_BYTES
"""Room that both take on the volume; four times as much on a disk that is slow to flush."""

_LARGEST_BYTES = 1 << 20
_LONG_SEGMENT_BYTES = 4 * SEGMENT_BYTES
_SLOW_DISK_BYTES_PER_S = 100_000_000  # what a disk with platters writes
_END = bytes(2 * tarfile.BLOCKSIZE)
_BLANK = bytes(1 << 20)


class _Descriptor:
    """A descriptor that is closed at the latest with its last holder: its number must not be used again before."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.close = weakref.finalize(self, os.close, number)


class _Segment:
    """One of the two files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held = _Descriptor(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
        self.length = self.end = self.open_records = 0

    def blank(self, length: int) -> None:
        """Write all of it once, so that later writes change nothing but its bytes."""
        for offset in range(self.length, length, len(_BLANK)):
            write_at(self.descriptor, (_BLANK,), offset)
        fsync(self.descriptor)
        self.length = length

    @property
    def descriptor(self) -> int:
        """Its descriptor, open as long as this object."""
        return self._held.number

    def remove(self) -> None:
        """Close and remove it."""
        self._held.close()
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Record:
    """Where the journal holds an image."""

    segment: _Segment
    offset: int
    size_bytes: int
    number: int

    def content(self) -> bytes:
        """Read it back."""
        return read_at(self.segment.descriptor, self.size_bytes, self.offset)


class IntakeJournal:
    """The journal of one process; safe to share between threads.

    Until ``prepare`` it takes nothing, so that no image waits for its making.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._flushing = threading.Lock()
        self._preparing = threading.Lock()
        self._segments: list[_Segment] = []
        self._unflushed: set[_Segment] = set()
        self._written = self._flushed = self._doubtful = 0  # numbers of records
        self._volume: _Descriptor | None = None  # older than the first record
        self._is_wanted, self._is_broken = True, False
        self.largest_bytes = SMALL_BYTES
        """A longer file is flushed for itself: to write it twice would cost more than the flush that it saves."""

    @property
    def must_be_prepared(self) -> bool:
        """Whether there is none yet, or the one that there was has failed."""
        return self._is_wanted

    def prepare(self, folder: Path, *, may_be_long: bool = False) -> None:
        """Make its files if they are wanted, where one call can flush the whole file system; else it stays without.

        Parameters
        ----------
        folder
            The staging folder of this process.
        may_be_long
            Whether a slow disk may have longer ones, for longer images.

        Raises
        ------
        OSError
        """
        with self._preparing:
            if not self._is_wanted or any(segment.open_records for segment in self._segments):
                return  # of one that failed some records are needed still
            if not self.remove():
                return
            self._is_wanted = False
            if can_flush_all(folder):
                try:
                    self._prepare(folder, may_be_long=may_be_long)
                except BaseException:
                    self._is_wanted = True
                    raise

    def _prepare(self, folder: Path, *, may_be_long: bool) -> None:
        segments: list[_Segment] = []
        try:
            for name in _NAMES:
                segments.append(_Segment(folder / name))
                segments[-1].blank(SEGMENT_BYTES)
            largest_bytes = worth_journalling(_flush_s(segments[0].descriptor)) if may_be_long else SMALL_BYTES
            if largest_bytes > SMALL_BYTES:
                for segment in segments:
                    segment.blank(_LONG_SEGMENT_BYTES)
            fsync_folder(folder)
            volume = _Descriptor(os.open(folder, os.O_RDONLY))
        except BaseException:
            for segment in segments:
                segment.remove()
            raise
        with self._mutex:
            self._segments, self._volume, self.largest_bytes = segments, volume, largest_bytes
            self._is_broken = False

    def append(self, *parts: bytes | bytearray) -> Record | None:
        """Write the bytes of a file, and return when they are durable; None when there is no room for them.

        Raises
        ------
        FsyncFailed, OSError
            Nobody knows whether they are durable.  The journal takes nothing more until it was made again.
        """
        with self._mutex:
            record = self._write(parts)
        if record is not None:
            try:
                self._flush(record.number)
            except OSError:
                self.release(record)
                raise
        return record

    def release(self, record: Record) -> None:
        """Let the room of a record be used again: its file is durable without it, or was given up."""
        with self._mutex:
            segment = record.segment
            segment.open_records -= 1
            if not segment.open_records:
                segment.end = 0

    def flush_files(self) -> None:
        """Make the files durable whose bytes the journal holds, and their names.

        Raises
        ------
        FsyncFailed
            The bytes of all of them are in doubt: see ``is_doubtful``.
        """
        volume = self._volume
        try:
            flush_all(volume.number if volume else -1)
        except FsyncFailed:
            self._doubtful = self._written
            raise

    def is_doubtful(self, record: Record) -> bool:
        """Tell whether a flush failed since: a second one would succeed without the file's bytes."""
        return record.number <= self._doubtful

    def remove(self) -> bool:
        """Remove its files when it holds nothing that is needed; tell whether it did."""
        with self._mutex:
            if any(segment.open_records for segment in self._segments):
                return False
            for segment in self._segments:
                segment.remove()
            if self._volume is not None:
                self._volume.close()
            self._segments, self._volume = [], None
            return True

    def close(self) -> None:
        """Leave its files to ``sweep``; each is closed with the last record of it."""
        with self._mutex:
            self._segments, self._volume = [], None

    def _write(self, parts: Sequence[bytes | bytearray]) -> Record | None:
        """Append a member and the end of the archive; records are written in their order, so that a flush has all."""
        size = sum(map(len, parts))
        padding = -size % tarfile.BLOCKSIZE
        length = tarfile.BLOCKSIZE + size + padding
        segment = self._segment_with(length + len(_END))
        if segment is None:
            return None
        member = (_member(self._written + 1, size), *parts, bytes(padding), _END)
        try:
            write_at(segment.descriptor, member, segment.end)
        except OSError:
            self._is_broken = self._is_wanted = True
            raise
        self._written += 1
        record = Record(segment, segment.end + tarfile.BLOCKSIZE, size, self._written)
        segment.end += length
        segment.open_records += 1
        self._unflushed.add(segment)
        return record

    def _segment_with(self, length: int) -> _Segment | None:
        """Return the file that is in use, or the other one when that is full."""
        for segment in () if self._is_broken else self._segments:
            if segment.end + length <= segment.length:
                if segment is not self._segments[0]:
                    self._segments.reverse()
                return segment
        return None

    def _flush(self, number: int) -> None:
        with self._flushing:
            if self._flushed >= number:  # by another thread, while this one waited
                return
            with self._mutex:
                newest, segments, self._unflushed = self._written, self._unflushed, set()
                if self._is_broken:
                    raise FsyncFailed(errno.EIO, os.strerror(errno.EIO))
            try:
                for segment in segments:
                    fdatasync(segment.descriptor)
            except FsyncFailed:
                self._is_broken = self._is_wanted = True
                raise
            self._flushed = newest


def is_journal(path: Path) -> bool:
    """Tell by its name whether a file in staging is one of a journal."""
    return path.name in _NAMES


def read_journal(path: Path) -> Iterator[bytes]:
    """Yield the files that a journal holds; the caller compares them with their digests.

    Raises
    ------
    OSError
    """
    with path.open("rb") as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as journal:
                for member in journal:
                    if (content := journal.extractfile(member)) is not None:
                        yield content.read()
        except tarfile.TarError:  # a torn end
            return


def _template() -> bytes:
    member = tarfile.TarInfo("00000000.dcm")
    member.mode = 0o600
    return member.tobuf(tarfile.USTAR_FORMAT)


_TEMPLATE = _template()
_SIZE, _CHECKSUM = slice(124, 135), slice(148, 156)


def _member(number: int, size: int) -> bytes:
    """Encode the header of a member: the library needs 40 us for what differs in three fields."""
    header = bytearray(_TEMPLATE)
    header[:8] = b"%08d" % (number % 10**8)
    header[_SIZE] = b"%011o" % size
    header[_CHECKSUM] = b" " * 8
    header[_CHECKSUM] = b"%06o\0 " % sum(header)
    return bytes(header)


def _flush_s(descriptor: int) -> float:
    """Measure how long the disk takes to flush a few bytes, in seconds: the least of three."""
    took = []
    for _ in range(3):
        begun = time.monotonic()
        write_at(descriptor, (_END,), 0)
        fdatasync(descriptor)
        took.append(time.monotonic() - begun)
    return min(took)


def worth_journalling(flush_s: float) -> int:
    """Return the length up to which it is quicker to write a file twice than to wait for one more flush, in bytes.

    A file's own fsync waits for the log of the file system too: about one more flush of the disk.
    """
    return min(max(int(flush_s * _SLOW_DISK_BYTES_PER_S), SMALL_BYTES), _LARGEST_BYTES)
