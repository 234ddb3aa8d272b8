"""Read any part of stored files, and compare every byte before it is returned (docs/adr/0046).

The first time, a Data Set is read whole and compared with the digest in its file.  Meanwhile the digest of each block
of 64 KiB is noted.  From then on a part is read alone, and its blocks are compared with these digests.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from typing import BinaryIO, NamedTuple, Self, cast

from xxhash import xxh3_128_digest

from backup_scp.errors import Damaged, DigestMismatch, IndexUnavailable
from backup_scp.machine import clock
from backup_scp.machine.digests import digest_like
from backup_scp.machine.recent import Recent
from backup_scp.ports import ArchivedFile, IndexReader, ReadableArchive, StoredVersion, VerificationResult
from backup_scp.services.delivery import RecordVerification, others_of

log = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 16
PART_BYTES = 1 << 20
"""The longest part that is read at once."""

_VIEW_BYTES = 1 << 18  # that ``VerifiedFile.parts`` yields: they are compared and sent while a core's cache has them

_IN_MEMORY_BYTES = 2 << 20  # a shorter Data Set is kept in memory once it was compared, and not read again
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
    """

    def __init__(self, archive: ReadableArchive, index: IndexReader, record: RecordVerification) -> None:
        self._archive = archive
        self._others = others_of(archive, index)
        self._record = record
        self._noted: Recent[_Noted] = Recent(_NOTED_BYTES, lambda noted: len(noted.blocks) + _HEADER_BYTES)

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
            for other in self._others(held):
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
        blocks, content = _compared(file, held)
        self._noted.keep((held.location, held.sha256), _Noted(file, blocks))
        return VerifiedFile(self, held, file, blocks, content)

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


def _compared(file: ArchivedFile, held: StoredVersion) -> tuple[bytes, bytes | None]:
    """Read a whole Data Set and compare it; return the digests of its blocks, and the bytes of a short one.

    Raises
    ------
    DigestMismatch
    """
    expected = file.xxh3_128 if file.xxh3_128 and file.sha256 == held.sha256 else held.sha256
    digest, blocks, kept = digest_like(expected), [], []
    with file.data_set() as stream:
        while part := stream.read(PART_BYTES):
            digest.update(part)
            view = memoryview(part)
            blocks += [xxh3_128_digest(view[at : at + BLOCK_BYTES]) for at in range(0, len(part), BLOCK_BYTES)]
            if file.size_bytes <= _IN_MEMORY_BYTES:
                kept.append(part)
    if digest.hexdigest() != expected or held.size_bytes != file.size_bytes:
        raise DigestMismatch(f"{file.location} is damaged: its Data Set does not match its digest")
    return b"".join(blocks), b"".join(kept) if file.size_bytes <= _IN_MEMORY_BYTES else None


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
        self, files: VerifiedFiles, held: StoredVersion, file: ArchivedFile, blocks: bytes, content: bytes | None = None
    ) -> None:
        self.held = held
        self.size_bytes = file.size_bytes
        self.transfer_syntax_uid = file.heading.transfer_syntax_uid
        self.file = file
        self._files = files
        self._blocks = blocks
        self._content = content
        self._stream: BinaryIO | None = None
        self._window: tuple[int, bytes] = (0, b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def read_at(self, position: int, length: int) -> bytes:
        """Return compared bytes, fewer only at the end of the Data Set.

        Raises
        ------
        Damaged
            They differ from the compared ones, and no copy has them.
        ArchiveUnavailable
        """
        if self._content is not None:
            return self._content[position : position + length]
        end = min(position + length, self.size_bytes)
        if position >= end:
            return b""
        start, window = self._window
        if not start <= position or end > start + len(window):
            start = position // BLOCK_BYTES * BLOCK_BYTES
            read = bytearray(min(_up_to_block(end), self.size_bytes) - start)
            self._fill(start, memoryview(read))
            window = bytes(read)
            self._window = (start, window) if len(window) <= PART_BYTES else (0, b"")
        return window[position - start : end - start]

    def parts(self, position: int = 0, length: int | None = None) -> Iterator[memoryview]:
        """Yield compared bytes in parts of up to 256 KiB; raises as ``read_at`` does.

        Each part is valid only until the next one is requested, which is read into the same memory.
        """
        end = self.size_bytes if length is None else min(self.size_bytes, position + length)
        if self._content is not None:
            if position < end:
                yield memoryview(self._content)[position:end]
            return
        buffer = memoryview(bytearray(min(_VIEW_BYTES, max(0, end - position) + 2 * BLOCK_BYTES)))
        most = len(buffer) // BLOCK_BYTES * BLOCK_BYTES
        while position < end:
            start = position // BLOCK_BYTES * BLOCK_BYTES
            until = min(start + most, end)
            whole = buffer[: min(_up_to_block(until), self.size_bytes) - start]
            self._fill(start, whole)
            yield whole[position - start : until - start]
            position = until

    def stream(self) -> BinaryIO:
        """Return a seekable stream of compared bytes; it is valid until ``close``."""
        if self._content is not None:
            return io.BytesIO(self._content)
        return cast("BinaryIO", io.BufferedReader(_ComparedBytes(self), BLOCK_BYTES))

    def _fill(self, start: int, buffer: memoryview) -> None:
        """Read whole blocks and compare them."""
        if self._is_intact(start, buffer):
            return
        self.close()
        self._files.mend(self.held)
        self.file = self._files.reopen(self.held)
        if not self._is_intact(start, buffer):
            raise DigestMismatch(f"{self.held.location} is damaged: it has changed since it was compared")

    def _is_intact(self, start: int, buffer: memoryview) -> bool:
        """Read whole blocks; tell whether they are the compared ones."""
        try:
            if self._stream is None:
                self._stream = self.file.reopen()
            self._stream.seek(self.file.data_set_offset + start)
            if _read_into(self._stream, buffer) != len(buffer):
                return False
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
