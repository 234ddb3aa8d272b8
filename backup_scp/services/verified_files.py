"""Read any part of stored files, and compare every byte before it is returned (docs/adr/0046).

The first time, a Data Set is read whole and compared with the digest in its file.  Meanwhile the digest of each block
of 64 KiB is noted.  From then on a part is read alone, and its blocks are compared with these digests.
"""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from typing import BinaryIO, NamedTuple, Self, cast

from xxhash import xxh3_128_digest

from backup_scp.errors import Damaged, DigestMismatch, IndexUnavailable
from backup_scp.machine import clock
from backup_scp.machine.buffers import Buffers, Memory, Room
from backup_scp.machine.digests import digest_like
from backup_scp.machine.recent import Recent
from backup_scp.ports import ArchivedFile, ReadableArchive, StoredVersion, StudyReader, VerificationResult
from backup_scp.services.delivery import RecordVerification, others_of

log = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 16
PART_BYTES = 1 << 20
"""The longest part that is read at once: each step costs, and threads wait for one another at each."""

_KEPT_BYTES = 1 << 20  # the longest piece that is kept in case that the next bytes are asked for
_VIEW_BYTES = 1 << 18  # that are read at once where many callers have the long buffers, and at first

_IN_MEMORY_BYTES = 8 << 20  # a shorter Data Set is kept in memory once it was compared, and not read again
_ALL_IN_MEMORY_BYTES = 32 << 20  # of all that are kept so at a time
_FIRST_BLOCKS = 2  # of a first part: it is sent soon, and joined with what stands before it
_LONG_BUFFERS = 8  # of a part each: callers that read slowly take little memory, however many they are
_NOTED_BYTES = 16 << 20  # of the digests of blocks, and of headers
_DIGEST_BYTES = 16
_HEADER_BYTES = 2048  # of what else is noted of a file


class _Noted(NamedTuple):
    """A file that was compared, and the digests of its blocks."""

    file: ArchivedFile
    blocks: bytes


class VerifiedFiles:
    """Opens stored versions; threads share it.

    What is damaged or missing comes from a copy, if the archive reads through copies; otherwise another version with
    the same content stands for it.  Damage is recorded.

    Parameters
    ----------
    archive, index
        Hold the images.
    record
        ``Index.record_verification``.

    Attributes
    ----------
    others
        Finds the versions that may stand for another one.
    """

    def __init__(self, archive: ReadableArchive, index: StudyReader, record: RecordVerification) -> None:
        self._archive = archive
        self.others = others_of(archive, index)
        self._record = record
        self._memory = Memory(_ALL_IN_MEMORY_BYTES, _IN_MEMORY_BYTES)
        self.buffers = Buffers(PART_BYTES, _LONG_BUFFERS, _VIEW_BYTES)
        self._noted: Recent[_Noted] = Recent(_NOTED_BYTES, lambda noted: len(noted.blocks) + _HEADER_BYTES)

    def seen_by(self, index: StudyReader) -> Self:
        """Return the same, with the same memory, where only versions that this index knows stand for another one."""
        seen = copy.copy(self)
        seen.others = others_of(self._archive, index)
        return seen

    def open(self, held: StoredVersion) -> VerifiedFile:
        """Open a version; the caller closes it.

        Raises
        ------
        Damaged
            It is damaged or missing, and nothing stands for it.
        ArchiveUnavailable
        """
        began_at = clock.now()
        try:
            return self._open(held)
        except Damaged as error:
            log.warning("SOP Instance %s cannot be read: %s", held.sop_instance_uid, error)
            with suppress(IndexUnavailable):
                self._record([VerificationResult(held.location, str(error), began_at)])
            for other in self.others(held):
                with suppress(Damaged):
                    opened = self._open(other)
                    log.info(
                        "SOP Instance %s is read from its stored version in another encoding", held.sop_instance_uid
                    )
                    return opened
            raise

    def _open(self, held: StoredVersion) -> VerifiedFile:
        try:
            return self._opened(held)
        except Damaged:
            self.mend(held)
        return self._opened(held)

    def _opened(self, held: StoredVersion) -> VerifiedFile:
        if (noted := self._noted.get((held.location, held.sha256))) is not None:
            return VerifiedFile(self, held, noted.file, noted.blocks)
        file = self._archive.read(held.location)
        room = self._memory.take(file.size_bytes)
        try:
            blocks = _compared(file, held, room.content)
        except BaseException:
            room.give_back()
            raise
        self._noted.keep((held.location, held.sha256), _Noted(file, blocks))
        return VerifiedFile(self, held, file, blocks, room)

    def announce(self, held: StoredVersion) -> None:
        """Start reading a version that will be opened soon (readahead)."""
        self._archive.announce(held.location)

    def mend(self, held: StoredVersion) -> None:
        """Read a file again from the disk itself; when it is damaged, bring it back from a copy.

        Raises
        ------
        Damaged
            There is no intact file.
        """
        self._archive.load(held.location, held.sha256, lambda _: None)

    def reopen(self, held: StoredVersion) -> ArchivedFile:
        """Return a file again after ``mend``."""
        return self._archive.read(held.location)


def _compared(file: ArchivedFile, held: StoredVersion, content: bytearray | None) -> bytes:
    """Read a whole Data Set and compare it; return the digests of its blocks, and fill its memory, if any.

    Raises
    ------
    DigestMismatch
    """
    expected = file.xxh3_128 if file.xxh3_128 and file.sha256 == held.sha256 else held.sha256
    digest, blocks = digest_like(expected), []
    memory = memoryview(content if content is not None else bytearray(_VIEW_BYTES))
    done = 0
    with file.data_set() as stream:
        while done < file.size_bytes:
            at = 0 if content is None else done
            part = memory[at : at + min(_VIEW_BYTES, file.size_bytes - done)]
            if _read_into(stream, part) != len(part):
                break
            digest.update(part)
            blocks += [xxh3_128_digest(part[at : at + BLOCK_BYTES]) for at in range(0, len(part), BLOCK_BYTES)]
            done += len(part)
        is_end = not stream.read(1)
    if digest.hexdigest() != expected or held.size_bytes != file.size_bytes or not is_end:
        raise DigestMismatch(f"{file.location} is damaged: its Data Set does not match its digest")
    return b"".join(blocks)


class VerifiedFile(AbstractContextManager["VerifiedFile"]):
    """One stored Data Set; for one thread at a time.

    Attributes
    ----------
    held
        The version.
    size_bytes
        Its length.
    transfer_syntax_uid
        Its encoding.
    """

    def __init__(
        self,
        files: VerifiedFiles,
        held: StoredVersion,
        file: ArchivedFile,
        blocks: bytes,
        room: Room | None = None,
    ) -> None:
        self.held = held
        self.size_bytes = file.size_bytes
        self.transfer_syntax_uid = file.heading.transfer_syntax_uid
        self.file = file
        self._files = files
        self._blocks = blocks
        self._room = room
        self._stream: BinaryIO | None = None
        self._stream_at = -1
        self._window: tuple[int, bytes] = (0, b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, and free its memory."""
        room, self._room = self._room, None
        if room is not None:
            room.give_back()
        self._close_stream()

    def _close_stream(self) -> None:
        stream, self._stream, self._stream_at = self._stream, None, -1
        if stream is not None:
            stream.close()

    @property
    def _content(self) -> bytearray | None:
        return None if self._room is None else self._room.content

    def read_at(self, position: int, length: int) -> bytes:
        """Return compared bytes, fewer only at the end of the Data Set.

        Raises
        ------
        Damaged
            They differ from the compared ones, and no copy has them.
        ArchiveUnavailable
        """
        end = min(position + length, self.size_bytes)
        start, window = self._window
        if not start <= position or end > start + len(window):
            view = self.view_at(position, length)
            if self._content is not None or len(view) > _KEPT_BYTES:
                return bytes(view)
            start, window = self._window
        return window[position - start : end - start]

    def view_at(self, position: int, length: int) -> memoryview:
        """Return the same as memory that is not used again; raises as ``read_at`` does."""
        end = min(position + length, self.size_bytes)
        if position >= end:
            return memoryview(b"")
        if (content := self._content) is not None:
            return memoryview(content)[position:end]
        start = position // BLOCK_BYTES * BLOCK_BYTES
        read = memoryview(bytearray(min(_up_to_block(end), self.size_bytes) - start))
        self._fill(start, read)
        if len(read) <= _KEPT_BYTES + 2 * BLOCK_BYTES:
            self._window = (start, bytes(read))
        return read[position - start : end - start]

    def parts(self, position: int = 0, length: int | None = None) -> Iterator[memoryview]:
        """Yield compared bytes in parts of up to 1 MiB, the first one short; raises as ``read_at`` does.

        Each part is valid only until the next one is requested, which is read into the same memory, or the end.
        """
        end = self.size_bytes if length is None else min(self.size_bytes, position + length)
        if (content := self._content) is not None:
            for start in range(position, end, PART_BYTES):
                yield memoryview(content)[start : min(end, start + PART_BYTES)]
            return
        with self._files.buffers.lent(max(0, end - position) + 2 * BLOCK_BYTES) as buffer:
            most = _FIRST_BLOCKS * BLOCK_BYTES
            while position < end:
                start = position // BLOCK_BYTES * BLOCK_BYTES
                until = min(start + most, end)
                whole = buffer[: min(_up_to_block(until), self.size_bytes) - start]
                self._fill(start, whole)
                yield whole[position - start : until - start]
                position = until
                most = len(buffer) // BLOCK_BYTES * BLOCK_BYTES

    def stream(self) -> BinaryIO:
        """Return a seekable stream of compared bytes; it is valid until ``close``."""
        return cast("BinaryIO", io.BufferedReader(_ComparedBytes(self), BLOCK_BYTES))

    def _fill(self, start: int, buffer: memoryview) -> None:
        """Read whole blocks and compare them."""
        if self._is_intact(start, buffer):
            return
        self._close_stream()
        self._files.mend(self.held)
        self.file = self._files.reopen(self.held)
        if not self._is_intact(start, buffer):
            raise DigestMismatch(f"{self.held.location} is damaged: it has changed since it was compared")

    def _is_intact(self, start: int, buffer: memoryview) -> bool:
        """Read whole blocks; tell whether they are the compared ones."""
        try:
            if self._stream is None:
                self._stream = self.file.reopen()
            if self._stream_at != start:
                self._stream.seek(self.file.data_set_offset + start)
            self._stream_at = -1
            if _read_into(self._stream, buffer) != len(buffer):
                return False
            self._stream_at = start + len(buffer)
        except Damaged:
            return False
        for number, at in enumerate(range(0, len(buffer), BLOCK_BYTES), start // BLOCK_BYTES):
            known = self._blocks[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES]
            if xxh3_128_digest(buffer[at : at + BLOCK_BYTES]) != known:
                return False
        return True


def _up_to_block(position: int) -> int:
    return -(-position // BLOCK_BYTES) * BLOCK_BYTES


def _read_into(stream: BinaryIO, buffer: memoryview) -> int:
    done = 0
    while done < len(buffer) and (read := cast("io.BufferedReader", stream).readinto(buffer[done:])):
        done += read
    return done


class _ComparedBytes(io.RawIOBase):
    """Reads a verified file as a stream."""

    def __init__(self, file: VerifiedFile) -> None:
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        origin = (0, self._at, self._file.size_bytes)[whence]
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: object, /) -> int:
        memory = memoryview(cast("bytearray", buffer)).cast("B")
        data = self._file.read_at(self._at, min(len(memory), PART_BYTES))
        memory[: len(data)] = data
        self._at += len(data)
        return len(data)
