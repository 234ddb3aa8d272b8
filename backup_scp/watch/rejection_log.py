"""Count rejected callers in memory, and write the counts to the index in a thread of its own.

A rejection itself uses neither disk nor database: a caller that calls a hundred times a second must not delay others
that send images (docs/adr/0025).
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

from backup_scp.errors import BackupSCPError
from backup_scp.machine import clock
from backup_scp.ports import IndexRecords, Rejection, ServiceKind

log = logging.getLogger(__name__)

_WRITE_EVERY_S = 5.0
_LEAST_PAUSE_S = 1.0
"""Between two writes, also where each is of a new kind."""

_MOST = 1000
_MOST_OF_ONE_ADDRESS = 100
_MOST_SUCCESSES = 4096
_READ_AT_MOST = 1000

_Key = tuple[str, str, str, str, str]
_Caller = tuple[str, str, str, str]


class RejectionLog:
    """Implements ``ports.RejectionRecorder``; one object serves all threads of a process.

    When the index cannot be written, it keeps the counts, within limits, and writes them when the index is back.

    Parameters
    ----------
    index
        Stores the counts.
    clock
        The time, UTC.
    """

    def __init__(self, index: IndexRecords, clock: Callable[[], datetime] = clock.now) -> None:
        self._index = index
        self._clock = clock
        self._changed = threading.Condition()
        self._unwritten: dict[_Key, Rejection] = {}  # the newest at the end
        self._written: set[_Key] = set()  # the kinds that the index had at the last read
        self._succeeded: dict[_Caller, datetime] = {}
        self._has_new = False
        self._stopping = False
        self._said = ""
        self._thread = threading.Thread(target=self._run, name="rejections", daemon=True)

    # -- told by those who serve -----------------------------------------------------------------------------------

    def rejected(self, service: ServiceKind, calling: str, called: str, address: str, reason: str, fix: str) -> bool:
        one = Rejection(service, calling, called, address, reason, fix, 1, self._clock())
        key = _key(one)
        with self._changed:
            is_first = key not in self._unwritten
            self._add(one)
            self._bound()
            if is_first and key not in self._written:
                self._has_new = True
                self._changed.notify_all()
        return is_first

    def succeeded(self, service: ServiceKind, ae_title: str, address: str, about: str = "") -> None:
        self._succeeded[service, ae_title, address, about] = self._clock()
        if len(self._succeeded) > _MOST_SUCCESSES:
            with self._changed:
                for caller in list(self._succeeded)[: _MOST_SUCCESSES // 4]:
                    self._succeeded.pop(caller, None)

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the writing thread."""
        self._thread.start()

    def stop(self, grace_s: float = 5.0) -> None:
        """Write the remaining counts and end the thread; wait ``grace_s`` at most, since the index may hang."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(grace_s)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._has_new, _WRITE_EVERY_S)
                is_last, self._has_new = self._stopping, False
            self._try_to_write()
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, _LEAST_PAUSE_S)

    # -- writing ---------------------------------------------------------------------------------------------------

    def _try_to_write(self) -> None:
        with self._changed:
            unwritten, self._unwritten = self._unwritten, {}
        try:
            self._write(unwritten.values())
        except Exception as error:  # noqa: BLE001 - this thread must run as long as the node
            self._keep(unwritten.values())
            said = str(error) if isinstance(error, BackupSCPError) else type(error).__name__
            if said != self._said:  # once, not every few seconds
                log.warning("Rejections cannot be written to the index yet: %s", said)
            self._said = said
        else:
            self._said = ""

    def _write(self, unwritten: Iterable[Rejection]) -> None:
        now = self._clock()
        listed = self._index.rejections(_READ_AT_MOST)
        settled = [one for one in listed if self._is_settled(one, now)]
        found = [one for one in unwritten if not self._is_settled(one, now)]
        if found or settled:
            self._index.record_rejections(found, settled)
        self._written = {_key(one) for one in (*listed, *found)} - {_key(one) for one in settled}

    def _keep(self, unwritten: Iterable[Rejection]) -> None:
        """Put back counts that could not be written, before those that came meanwhile."""
        with self._changed:
            since, self._unwritten = self._unwritten, {}
            for one in (*unwritten, *since.values()):
                self._add(one)
            self._bound()

    # -- in memory -------------------------------------------------------------------------------------------------

    def _add(self, one: Rejection) -> None:
        """Add to the count of its kind, or start a new count when the caller has succeeded since."""
        before = self._unwritten.pop(_key(one), None)
        if before is not None and not self._is_settled(before, one.last_at):
            one = replace(one, count=one.count + before.count)
        self._unwritten[_key(one)] = one

    def _is_settled(self, one: Rejection, now: datetime) -> bool:
        """Tell whether its caller has succeeded since; a rejection dated in the future has a wrong clock's time."""
        at = self._succeeded.get(one.settled_by)
        return at is not None and (one.last_at <= at or one.last_at > now)

    def _bound(self) -> None:
        """Drop the oldest of a caller with too many, or with most, so that no caller displaces the others."""
        while len(self._unwritten) > _MOST_OF_ONE_ADDRESS:
            address, number = Counter(key[3] for key in self._unwritten).most_common(1)[0]
            if number <= _MOST_OF_ONE_ADDRESS and len(self._unwritten) <= _MOST:
                return
            del self._unwritten[next(key for key in self._unwritten if key[3] == address)]


def _key(one: Rejection) -> _Key:
    return (one.service, one.calling_ae_title, one.called_ae_title, one.address, one.cause)
