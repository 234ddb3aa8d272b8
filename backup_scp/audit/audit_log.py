"""Append entries to the audit log: a chain of digests, which signatures close from time to time."""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from backup_scp.audit.log_files import first_number, last_line, log_files, log_name
from backup_scp.audit.log_record import FIRST_BEFORE, LogRecord, RecordKind, digest, in_one_line
from backup_scp.audit.signing_key import SigningKey
from backup_scp.machine import clock
from backup_scp.machine.folders import make_folders
from backup_scp.machine.process_lock import Lock

_LOCK = "lock"
_LONGEST_FILE = 16_000_000  # bytes
_SIGN_AFTER = 100  # records
_SIGN_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class _End:
    """Where the log ends."""

    file: Path
    size: int
    number: int
    digest: str


class AuditLog:
    """The log in a folder; several processes may append to it at a time.

    Nothing here is quick: it waits for other processes and for the disk.  ``watch.AuditThread`` calls it.

    Parameters
    ----------
    folder
        Its folder; made with the first entry.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._end: _End | None = None
        self._unsigned = 0
        self._signed_at = float("-inf")  # the first signature closes also what a killed process has left unsigned
        self._unflushed: set[Path] = set()

    def append(self, message: bytes) -> None:
        """Append an entry; it is durable after ``settle``.

        Raises
        ------
        OSError
            It cannot be written; the log is as it was, or ends with a line that the next call sets apart.
        """
        with self._locked():
            self._write(RecordKind.ENTRY, in_one_line(message))
            self._unsigned += 1
            if self._unsigned >= _SIGN_AFTER:  # not only in ``settle``: thousands may have waited
                self._sign()

    def settle(self, *, is_end: bool = False) -> None:
        """Flush what was written; sign it after a minute or a hundred entries, and at the end.

        Raises
        ------
        OSError
        """
        is_due = time.monotonic() - self._signed_at > _SIGN_AFTER_S
        if self._unsigned and (is_end or is_due):
            with self._locked():
                self._sign()
        for file in tuple(self._unflushed):
            with file.open("r+b") as written:  # Windows flushes only what may be written
                os.fsync(written.fileno())
            self._unflushed.discard(file)

    def _locked(self) -> closing[Lock]:
        try:
            return closing(Lock(self._folder / _LOCK, wait=True))
        except FileNotFoundError:
            make_folders(self._folder, 0o700)
            return closing(Lock(self._folder / _LOCK, wait=True))

    def _sign(self) -> None:
        end = self._found_end()
        try:
            key = SigningKey.load(self._folder)
        except FileNotFoundError:
            key = SigningKey.make(self._folder, end.number)
        record = LogRecord(end.number + 1, _now(), end.digest, RecordKind.SIGNED, key.fingerprint.encode())
        text = record.line.rstrip(b"\n")
        self._append(end, text + b" " + key.signed(text) + b"\n")
        self._unsigned, self._signed_at = 0, time.monotonic()

    def _write(self, kind: RecordKind, content: bytes) -> None:
        end = self._found_end()
        self._append(end, LogRecord(end.number + 1, _now(), end.digest, kind, content).line)

    def _append(self, end: _End, line: bytes) -> None:
        file, size = end.file, end.size
        if size > _LONGEST_FILE:
            file, size = self._folder / log_name(end.number + 1), 0
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o600)
        try:
            self._end = None  # until it is written
            if os.write(descriptor, line) != len(line):
                raise OSError("the disk took a part of a line")
        finally:
            os.close(descriptor)
        self._unflushed.add(file)
        self._end = _End(file, size + len(line), end.number + 1, digest(line))

    def _found_end(self) -> _End:
        """Return where the log ends, after looking whether another process has written."""
        files = log_files(self._folder)
        if not files:
            return _End(self._folder / log_name(1), 0, 0, FIRST_BEFORE)
        known, size = self._end, files[-1].stat().st_size
        if known is not None and (known.file, known.size) == (files[-1], size):
            return known
        with files[-1].open("rb") as stream:
            line = last_line(stream, size)
        if not line:
            return _End(files[-1], 0, first_number(files[-1]) - 1, self._digest_before(files))
        if (record := LogRecord.read(line)) is None:
            return self._without_the_cut_line(files[-1], size, line)
        return _End(files[-1], size, record.number, digest(line))

    def _without_the_cut_line(self, file: Path, size: int, cut: bytes) -> _End:
        """Set a last line apart that a crash has cut or that is no record, and note that in the log."""
        apart = self._folder / f"cut-{file.stem}-{size}.txt"
        apart.write_bytes(cut)
        os.truncate(file, size - len(cut))
        end = self._found_end()
        note = f"A crash has cut the line that stood here: {len(cut)} bytes are in {apart.name}"
        self._append(end, LogRecord(end.number + 1, _now(), end.digest, RecordKind.NOTE, note.encode()).line)
        assert self._end is not None, "just written"  # noqa: S101 - for the type checker
        return self._end

    def _digest_before(self, files: list[Path]) -> str:
        """Return the digest before an empty file."""
        if len(files) == 1:
            return FIRST_BEFORE
        with files[-2].open("rb") as stream:
            return digest(last_line(stream, files[-2].stat().st_size))


def _now() -> str:
    return clock.now().isoformat(timespec="microseconds")
