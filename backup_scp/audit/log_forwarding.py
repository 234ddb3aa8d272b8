"""Send the entries of the audit log to a syslog server: in order, each at least once, also after an outage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from backup_scp.audit.log_files import first_number, lines_of, log_files
from backup_scp.audit.log_record import LogRecord, RecordKind
from backup_scp.audit.syslog_message import syslog_message
from backup_scp.audit.syslog_server import SyslogFailed, SyslogServer
from backup_scp.machine import clock, whole_file

STATE_FILE = "syslog.json"
_MOST = 200
_MOST_BYTES = 1_000_000


class ForwardState(msgspec.Struct, frozen=True):
    """How far the server has the log.

    Attributes
    ----------
    server
        Its address; another server gets the whole log.
    number
        Of the last record that it has.
    at
        When it took something last.
    trouble, fix
        Why it takes nothing, and what to do; empty while it does.
    since
        Since when.
    """

    server: str = ""
    number: int = 0
    at: datetime | None = None
    trouble: str = ""
    fix: str = ""
    since: datetime | None = None

    @classmethod
    def load(cls, folder: Path) -> ForwardState:
        """Read what a node has noted; an empty one without such a note."""
        try:
            return msgspec.json.decode((folder / STATE_FILE).read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError):
            return cls()


class _ReadTo(NamedTuple):
    """Where a file of the log is read next."""

    file: Path
    offset: int


class LogForwarding:
    """Sends a log to one server; one thread uses it.

    Parameters
    ----------
    folder
        Of the log.
    server
        Gets it.
    """

    def __init__(self, folder: Path, server: SyslogServer) -> None:
        self._folder = folder
        self._server = server
        found = ForwardState.load(folder)
        is_of_this_log = found.server == server.name and found.number <= _last_number(folder)
        self.state = found if is_of_this_log else ForwardState(server.name)
        self._place: _ReadTo | None = None

    def send_some(self) -> bool:
        """Send what the server does not have, some hundred entries at most; tell whether there may be more.

        Raises
        ------
        SyslogFailed
            It is noted, and all of it is sent again.
        OSError
            The log cannot be read.
        """
        messages, last, place = self._next()
        if last == self.state.number:
            return False
        try:
            if messages:
                self._server.send(messages)
        except SyslogFailed as error:
            self._note_trouble(str(error), error.fix)
            raise
        self._place = place
        self.state = ForwardState(self._server.name, last, clock.now())
        self._save()
        return True

    def _note_trouble(self, trouble: str, fix: str) -> None:
        before = self.state
        if (before.trouble, before.fix) != (trouble, fix):
            since = before.since if before.trouble else clock.now()
            self.state = msgspec.structs.replace(before, trouble=trouble, fix=fix, since=since)
            self._save()

    def _save(self) -> None:
        whole_file.put(self._folder / STATE_FILE, msgspec.json.encode(self.state))

    def _next(self) -> tuple[list[bytes], int, _ReadTo | None]:
        """Read the next entries; return their messages, the number of the last record read, and where it ends."""
        messages: list[bytes] = []
        last, place, size = self.state.number, self._place, 0
        for file, start in self._files():
            offset = start
            for line in lines_of(file, start):
                if not line.endswith(b"\n"):
                    break  # it is being written, or a crash has cut it: the log sets it apart
                offset += len(line)
                record = LogRecord.read(line)
                if record is None or record.number <= last:
                    continue  # somebody has changed it: ``check_log`` says so, and the others go on
                if record.kind is RecordKind.ENTRY:
                    messages.append(syslog_message(record, os.getpid()))
                    size += len(messages[-1])
                last, place = record.number, _ReadTo(file, offset)
                if len(messages) >= _MOST or size >= _MOST_BYTES:
                    return messages, last, place
        return messages, last, place

    def _files(self) -> Iterator[tuple[Path, int]]:
        """Yield the files that may have further records, and where to begin in each."""
        files, known = log_files(self._folder), self._place
        if known is not None and known.file in files and known.offset <= known.file.stat().st_size:
            yield known
            files = [file for file in files if first_number(file) > first_number(known.file)]
        else:
            before = [file for file in files if first_number(file) <= self.state.number + 1]
            files = files[max(0, len(before) - 1) :]
        yield from ((file, 0) for file in files)


def _last_number(folder: Path) -> int:
    """Return the number of the last record; a power cut may have taken records that the server has already."""
    for file in reversed(log_files(folder)):
        records = filter(None, map(LogRecord.read, lines_of(file)))  # the last line may be cut
        if number := max((record.number for record in records), default=0):
            return number
    return 0
