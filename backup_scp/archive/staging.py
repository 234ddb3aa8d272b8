"""Write staged files and make them visible.

A staged file is written, finalized (header filled in, bytes durable) and published: a hard link makes it visible at its
location.  The staged name stays as a note until visible name and index row are durable.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from backup_scp.archive.background_digest import WORTH_BYTES, BackgroundDigest
from backup_scp.archive.file_format import blank_header, private_information
from backup_scp.archive.file_writing import copy, created, install, opened, write_all
from backup_scp.archive.intake_journal import SMALL_BYTES, IntakeJournal, Record
from backup_scp.archive.os_errors import NO_LINKS, failure, translated
from backup_scp.archive.staged_reader import StagedReader
from backup_scp.archive.volume import CHECK_BYTES, Volume
from backup_scp.errors import ArchiveFull, ArchiveUnavailable
from backup_scp.machine.digests import Digests
from backup_scp.machine.folders import FsyncFailed, fsync, fsync_folder, last_failed_fsync
from backup_scp.machine.process_lock import Lock, exclusive_lock
from backup_scp.machine.writeback import WRITEBACK_BYTES, begin_writeback
from backup_scp.ports import Arrival, Heading

LOCK = "lock"
"""Name of the lock file in each folder."""

_GIVEN_UP = "Archive cannot be written: this Data Set was given up; send it again"
_BEGINNING_BYTES = SMALL_BYTES  # of a Data Set, kept in memory: most are parsed from there, and small ones written


class StagedNames(Protocol):
    """The names in a staging folder."""

    def make_durable(self, name: Path) -> None:
        """Make a name durable."""

    def keep_note(self, note: Path) -> None:
        """Keep a note for the next ``sweep``."""


class FileInStaging:
    """A ``StagedFile`` in a folder.

    Parameters
    ----------
    name
        Its staged name, the whole path of an empty file.
    heading
        Written into File Meta.
    lock
        Keeps ``sweep`` of other processes away; held as long as this object lives.
    volume
        The volume that it is written to.
    journal
        Takes a small Data Set, so that its file needs no flush of its own.
    names
        Makes its staged name durable, and keeps the note of a file that is discarded after it was made visible.
    """

    def __init__(
        self,
        name: str,
        heading: Heading,
        lock: Lock,
        volume: Volume,
        journal: IntakeJournal,
        names: StagedNames,
    ) -> None:
        self.heading = heading
        self._names = names
        self._name = name  # text, as ``_final``: a small image would spend a tenth of its time on making paths
        self.lock = lock
        self._volume = volume
        self._journal = journal
        self._record: Record | None = None
        self._final: str | None = None
        self._unchecked_bytes = 0
        self._header = blank_header(heading)
        self._beginning = bytearray()
        self._digests = Digests()
        self._beside: BackgroundDigest | None = None
        self._is_digested = True
        self._size_bytes = 0
        self._begun_bytes = 0  # bytes whose writeback has begun
        self._has_note = self._replaced = False
        self._sound_since = last_failed_fsync()
        self._file = opened(name)

    @property
    def path(self) -> Path:
        """The staged file."""
        return Path(self._name)

    @property
    def has_moved(self) -> bool:
        """Whether its staged name became its final one, for want of hard links."""
        return self._has_note

    @property
    def has_replaced(self) -> bool:
        """Whether it took the place of a damaged file."""
        return self._replaced

    @property
    def final(self) -> Path | None:
        """The visible file; None until ``publish`` or ``replace``."""
        return None if self._final is None else Path(self._final)

    @property
    def journal(self) -> IntakeJournal | None:
        """The journal that holds its bytes, which are durable nowhere else yet; None for a file that was flushed."""
        return self._journal if self._record else None

    @property
    def journal_share(self) -> float:
        return self._record.size_bytes / self._record.segment.length if self._record else 0

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    @property
    def sha256(self) -> str:
        self._finish_digest()
        if not self._is_digested:
            raise ArchiveUnavailable(_GIVEN_UP)
        return self._digests.sha256

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._require_open()
        length = memoryview(data).nbytes
        try:
            self._require_room(length)
            self._write(data, length)
        except OSError as error:
            self._close()
            raise failure(error, "written") from error
        except ArchiveFull:
            self._close()
            raise

    def _write(self, data: bytes | bytearray | memoryview, length: int) -> None:
        """Buffer a short Data Set until ``finalize``; of a longer one keep the beginning for ``data_set``."""
        size = self._size_bytes + length
        if size <= _BEGINNING_BYTES:
            self._beginning += data
            self._digests.update(data)
            self._size_bytes = size
            return
        if self._size_bytes <= _BEGINNING_BYTES:
            write_all(self._file, self._header + self._beginning)
        if self._beside is None and size - length < WORTH_BYTES <= size:
            self._beside = BackgroundDigest.begin(self._digests)
        view = memoryview(data).cast("B")
        if self._beside is None:
            self._digests.update(view)
        else:
            self._beside.update(view)
        write_all(self._file, view)
        self._beginning += view[: max(_BEGINNING_BYTES - len(self._beginning), 0)]
        self._size_bytes = size
        if size - self._begun_bytes >= WRITEBACK_BYTES:
            self._begin_writeback()

    def _begin_writeback(self) -> None:
        end = len(self._header) + self._size_bytes
        begin_writeback(self._file.fileno(), self._begun_bytes, end - self._begun_bytes)
        self._begun_bytes = end

    def _require_room(self, length: int) -> None:
        """Check the free space at intervals, since the length of the Data Set is not known in advance."""
        self._unchecked_bytes += length
        if self._unchecked_bytes >= CHECK_BYTES:
            self._volume.require_room(length)
            self._unchecked_bytes %= CHECK_BYTES

    def data_set(self) -> BinaryIO:
        if self._size_bytes == len(self._beginning):
            return io.BytesIO(self._beginning)
        if not self._file.closed:
            with translated("written"):
                self._begin_writeback()  # so that the disk writes while the Data Set is parsed
        return cast("BinaryIO", StagedReader(self._beginning, self._size_bytes, self._open_again))

    def _open_again(self) -> BinaryIO:
        with translated("read"):
            stream = self.path.open("rb")
            stream.seek(len(self._header))
            return stream

    def discard(self) -> None:
        self._close()
        if self._final is None:
            self.forget()
            return
        with suppress(OSError):  # the record stays where it is, and is read again after a crash
            self._flush_for_itself()
        self._names.keep_note(self._note if self._has_note else self.path)

    def forget(self) -> None:
        """Remove the staged name, which is the note; the visible file stays."""
        self._close()
        self._final = None
        self._release_record()
        with suppress(OSError):  # the next ``sweep`` removes it
            if self._has_note:
                self._note.unlink(missing_ok=True)
            os.unlink(self._name)  # noqa: PTH108 - see ``_name``

    def finalize(self, arrival: Arrival, location: str) -> None:
        """Fill in the header, and make the bytes durable; no write is possible afterwards.

        Raises
        ------
        ArchiveUnavailable
            A write or fsync failed before, so the content on the disk is unknown.
        OSError
        """
        self._require_open()
        self._finish_digest()
        digests = self._digests
        information = private_information(
            self._header, arrival, location, digests.sha256, self._size_bytes, digests.xxh3_128
        )
        self._header = self._header[: -len(information)] + information
        # Close the file also when fsync fails: a second fsync of this descriptor would succeed without the data.
        with self._file:
            if self._size_bytes <= _BEGINNING_BYTES:
                write_all(self._file, self._header + self._beginning)
                self._record = self._journal.append(self._header, self._beginning)
            else:
                self._file.seek(len(self._header) - len(information))
                write_all(self._file, information)
                # After a failed flush nobody knows whether the bytes that were written before it come to the disk.
                if self._size_bytes <= self._journal.largest_bytes and last_failed_fsync() == self._sound_since:
                    self._file.seek(0)
                    self._record = self._journal.append(self._file.readall())
            if self._record is None:
                fsync(self._file.fileno())
                self._names.make_durable(self.path)

    def write_again(self) -> None:
        """Replace the visible file by what the journal holds, if the system may have lost its bytes.

        Raises
        ------
        OSError
        """
        if self._record is not None and self._final is not None and self._journal.is_doubtful(self._record):
            content = self._record.content()
            if hashlib.sha256(content[len(self._header) :]).hexdigest() != self._digests.sha256:
                raise OSError(errno.EIO, os.strerror(errno.EIO))  # not what was received
            install(content, Path(self._final), self.path.with_suffix(".new"))
            self._release_record()

    def _flush_for_itself(self) -> None:
        """Make the bytes durable that only the journal holds."""
        if self._record is not None:
            with self.path.open("rb") as file:
                fsync(file.fileno())
            self._release_record()

    def _release_record(self) -> None:
        record, self._record = self._record, None
        if record is not None:
            self._journal.release(record)

    def publish(self, final: str) -> None:
        """Make the file visible as ``final``; never overwrite a file that is there.

        Raises
        ------
        FileExistsError
        OSError
        """
        try:
            os.link(self._name, final)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            self._show_without_link(final)
        self._is_shown_at(final)

    def replace(self, final: Path, aside: Path) -> None:
        """Replace the damaged ``final``, which is kept as ``aside``; ``final`` exists at every instant.

        Exception: without hard links, and when ``final`` cannot be copied, it is renamed to ``aside`` first.
        """
        try:
            os.link(final, aside)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            self._replace_without_link(final, aside)
        else:
            fsync_folder(aside.parent)
            fresh = self.path.with_suffix(".new")
            os.link(self.path, fresh)
            fresh.replace(final)
        self._is_shown_at(str(final))
        self._replaced = True

    def _is_shown_at(self, final: str) -> None:
        """Note where it is, and free memory."""
        self._final = final
        self.free_memory()

    def free_memory(self) -> None:
        """Drop the beginning of the Data Set: the object lives until ``forget``."""
        self._beginning = bytearray()

    def _show_without_link(self, final: str) -> None:
        """Rename it to ``final`` under a lock of the whole archive, since a rename overwrites (not on Windows)."""
        self._leave_note()
        with exclusive_lock(self.path.parent.parent / LOCK):
            if os.path.lexists(final):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            self.path.rename(final)

    def _replace_without_link(self, final: Path, aside: Path) -> None:
        self._leave_note()
        try:
            copy(final, aside)
        except FsyncFailed:
            raise
        except OSError:  # the disk lost its bytes, or it is a folder
            aside.unlink(missing_ok=True)
            final.rename(aside)
        fsync_folder(aside.parent)
        self.path.replace(final)

    def _leave_note(self) -> None:
        """Write a durable copy of the header as the note, since the rename removes the staged name."""
        if self._has_note:
            return
        self._has_note = True
        with created(self._note) as note:
            write_all(note, self._header)
            fsync(note.fileno())
        fsync_folder(self._note.parent)

    @property
    def _note(self) -> Path:
        return self.path.with_suffix(".note")

    def _require_open(self) -> None:
        if self._file.closed:
            raise ArchiveUnavailable(_GIVEN_UP)

    def _finish_digest(self) -> None:
        beside, self._beside = self._beside, None
        if beside is not None:
            self._is_digested = False
            with translated("written"):
                beside.finish()
            self._is_digested = True

    def _close(self) -> None:
        with suppress(ArchiveUnavailable):
            self._finish_digest()
        with suppress(OSError):
            self._file.close()
