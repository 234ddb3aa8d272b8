"""Record which node runs on a data folder: a lock held by its process, and a file with details.

The lock tells whether a node runs; the system releases it when the process dies.  The file has the rest.  Each data
folder has its own lock and file, also when nodes share a database.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from backup_scp.errors import InvalidSettings
from backup_scp.machine import addresses, clock
from backup_scp.machine.process_lock import Lock, is_locked

log = logging.getLogger(__name__)

SIGN_OF_LIFE_EVERY = timedelta(minutes=10)
"""Interval between two writes of an unchanged record: long, since the disk may be in standby."""

_LOCK = "node.lock"
_RECORD = "node.json"
_ENDED = "node-ended.json"  # the record of the last run that ended as it should
_KEPT = timedelta(weeks=12)  # outages
_LEAST_OUTAGE = timedelta(minutes=15)
_PATIENCE_S = 2.0  # ``status`` holds the lock for a moment when it tests it
_LONG_PATIENCE_S = 40.0  # processes of a node whose parent was killed end after their Associations
_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Maintenance:
    """State of the thread that rebuilds a lost index, verifies all files and watches the disk.

    Attributes
    ----------
    alive
        Whether the thread runs.
    active_at
        When it last made progress or waited for work; null before the first time.
    trouble
        Why its last attempt failed; empty when it succeeded.
    """

    alive: bool = True
    active_at: datetime | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class AuditLogState:
    """Whether the node can write its audit log.

    Attributes
    ----------
    failing_since
        Since when it cannot; null while it can.
    waiting
        How many entries waited in memory when the record was written.
    lost
        How many found no room there.
    """

    failing_since: datetime | None = None
    waiting: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which no node ran on the data folder.

    Attributes
    ----------
    began_at
        When the node before was last known to run, which may be some minutes early after a crash.
    ended_at
        When the next one started.
    """

    began_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of the node.

    Attributes
    ----------
    version
        Of backup-scp.
    process
        Process ID; with several workers, that of the supervisor.
    user
        Numeric ID of the user that the node runs as; null on Windows.
    since
        When it started.
    ae_title
        AE title.
    host
        Address that it listens on, as in the settings.
    port
        TCP port without TLS; null when there is none.
    tls_port
        TCP port with TLS; null when there is none.
    workers
        Number of processes that serve.
    alive_at
        When the record was last written: every ten minutes, and when a field below changes.
    listening
        Whether it accepts connections.
    maintenance
        State of its maintenance thread.
    web_address
        URL of its DICOMweb service; empty when there is none.
    web_trouble
        Why DICOMweb does not answer; empty when it does, or is not enabled.
    outages
        Times of the last twelve weeks in which no node ran, of 15 minutes or more, the oldest first.
    audit_log
        Whether it can write its audit log.
    """

    version: str
    process: int
    user: int | None
    since: datetime
    ae_title: str
    host: str
    port: int | None
    tls_port: int | None
    workers: int
    alive_at: datetime
    listening: bool = True
    maintenance: Maintenance = field(default_factory=Maintenance)
    web_address: str = ""
    web_trouble: str = ""
    outages: tuple[Outage, ...] = ()
    audit_log: AuditLogState = field(default_factory=AuditLogState)

    @property
    def where(self) -> str:
        """Return what a technician enters at a console."""
        return where(self.ae_title, self.host, self.port, self.tls_port)

    def is_silent(self, now: datetime) -> bool:
        """Tell whether the record was not written in time: the node hangs, or cannot write to its data folder.

        A time in the future does not count: the clock was set back, and the record was not written since.
        """
        return abs(now - self.alive_at) > 2 * SIGN_OF_LIFE_EVERY + timedelta(minutes=5)


def where(ae_title: str, host: str, port: int | None, tls_port: int | None) -> str:
    """Return what a technician enters at a console to reach a node."""
    plain, secured = f"port {port}" if port else "", f"with TLS: port {tls_port}" if tls_port else ""
    ports = f"{plain} ({secured})" if plain and secured else plain or secured
    reachable = addresses.console_addresses(host)
    if not reachable:
        nobody_else = "only programs on this computer can reach it; [node] host is the setting"
        return f"AE title {ae_title}, {host} {ports}: {nobody_else}"
    contained = addresses.is_container()
    inside = ". This is a container: enter the address of the computer that it runs on" if contained else ""
    return f"AE title {ae_title}, {' or '.join(reachable)} {ports}{inside}"


@dataclass(frozen=True, slots=True)
class NodeState:
    """Whether the node runs.

    Attributes
    ----------
    running
        Whether a node runs on this data folder now.
    record
        What the node recorded about itself; after a crash, its last record; else null.
    """

    running: bool
    record: RunRecord | None


def look(home: Path) -> NodeState:
    """Tell whether a node runs on a data folder, without changing anything."""
    try:
        running = is_locked(home / _LOCK)
    except OSError:  # another user's folder: the code that opens archive and index reports it
        running = False
    return NodeState(running, _read(home / _RECORD))


class Run:
    """The run of this node; holds the lock until ``close``, or until the process ends.

    Parameters
    ----------
    home
        The data folder.  When it cannot be written, there is no record, and a lock only if its file exists already.

    Raises
    ------
    InvalidSettings
        A node runs there already.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._process = os.getpid()
        self._written: RunRecord | None = None
        self._said = False
        self.since = clock.now()
        self._lock = self._take()
        self.outages = _outages(_read(home / _RECORD) or _read(home / _ENDED), self.since)

    def write(self, record: RunRecord) -> None:
        """Write the record, when it has changed or was last written long ago."""
        before = self._written
        if before is not None and not _is_news(before, record):
            return
        try:
            self._put(record, _RECORD)
            self._written = record
        except OSError as error:
            if not self._said:
                log.warning("The record of this run cannot be written to the data folder: %s", error.strerror)
            self._said = True

    def close(self) -> None:
        """Release the lock and put the record aside; in a process forked from the holder, do neither."""
        if os.getpid() != self._process:
            return
        with contextlib.suppress(OSError):
            if (record := _read(self._home / _RECORD)) is not None:
                self._put(replace(record, alive_at=clock.now()), _ENDED)
            (self._home / _RECORD).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()

    def _put(self, record: RunRecord, name: str) -> None:
        path = self._home / f"{name}.{secrets.token_hex(4)}"
        try:
            path.write_bytes(msgspec.json.encode(record))
            path.replace(self._home / name)
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            raise

    def _take(self) -> Lock | None:
        until = time.monotonic() + (_LONG_PATIENCE_S if _is_orphaned(_read(self._home / _RECORD)) else _PATIENCE_S)
        pause = threading.Event()
        while True:
            try:
                return Lock(self._home / _LOCK)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise InvalidSettings(_taken(self._home)) from None
                pause.wait(_PAUSE_S)
            except OSError as error:
                log.warning("The data folder cannot be locked: %s", error.strerror)
                return None


def _outages(before: RunRecord | None, since: datetime) -> tuple[Outage, ...]:
    """Return the outages that are worth keeping, with the one that this start ends."""
    if before is None:
        return ()
    found = [*before.outages, Outage(before.alive_at, since)]
    return tuple(one for one in found if one.ended_at - one.began_at >= _LEAST_OUTAGE and since - one.ended_at < _KEPT)


def _is_news(before: RunRecord, now: RunRecord) -> bool:
    if now.alive_at - before.alive_at >= SIGN_OF_LIFE_EVERY or now.alive_at < before.alive_at:
        return True
    return _lasting(before) != _lasting(now)


def _lasting(record: RunRecord) -> tuple[object, ...]:
    """Return the fields that rarely change."""
    kept_up = record.maintenance
    ports = (record.port, record.tls_port)
    web = (record.web_address, record.web_trouble)
    audit = (record.audit_log.failing_since, record.audit_log.lost > 0)
    maintenance = (kept_up.alive, kept_up.active_at is None, kept_up.trouble)
    return (record.process, ports, record.listening, maintenance, web, audit)


def _is_orphaned(record: RunRecord | None) -> bool:
    """Tell whether a node with several processes has lost the one that looks after them."""
    if record is None or record.workers == 1 or sys.platform == "win32":
        return False
    try:
        os.kill(record.process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _taken(home: Path) -> str:
    record = _read(home / _RECORD)
    which = f" (process {record.process}, port {record.port or record.tls_port})" if record else ""
    return (
        f"A node runs already{which} with the data folder {home}: stop it first, "
        "or give this one a data folder of its own (BACKUP_SCP_HOME)"
    )


def _read(path: Path) -> RunRecord | None:
    with contextlib.suppress(OSError, msgspec.DecodeError):  # a power cut may have left an empty file
        return msgspec.json.decode(path.read_bytes(), type=RunRecord)
    return None
