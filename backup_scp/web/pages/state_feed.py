"""The state of the backup, asked for once for all who look, and sent to their browsers when it changes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from backup_scp.errors import Unavailable
from backup_scp.machine import clock
from backup_scp.ports import IndexRecords
from backup_scp.web.pages.backup_state import BackupState
from backup_scp.web.pages.intake_calendar import ConsoleDays, IntakeCalendar
from backup_scp.web.pages.work_progress import WorkPace, WorkProgress

LEAST_S = 3.0
"""So many seconds an answer is used again."""

PATIENCE_S = 0.05
"""So long a page waits for the state; with a million studies it takes seconds, and the page gets it afterwards."""

_OLDEST = timedelta(minutes=10)
_SHARE = 20  # asking takes at most one part in so many of one core
_STEP_S = 0.5
_SILENT_S = 20.0  # then a sign of life


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """The state at one moment.

    Attributes
    ----------
    at
        That moment.
    state
        The state.
    days
        What each console sent, day by day.
    work
        How far long work is, by name.
    """

    at: datetime
    state: BackupState
    days: list[ConsoleDays] = field(default_factory=list)
    work: dict[str, WorkProgress] = field(default_factory=dict)


class StateFeed:
    """Asks for the state, at most every few seconds, and only while somebody looks.

    Parameters
    ----------
    ask
        Asks.
    index
        Counts what came in.
    is_ending
        Set when the streams must end.
    """

    def __init__(self, ask: Callable[[], BackupState], index: IndexRecords, is_ending: threading.Event) -> None:
        self._ask = ask
        self._is_ending = is_ending
        self._calendar = IntakeCalendar(index)
        self._pace = WorkPace()
        self._lock = threading.Lock()
        self._last: StateSnapshot | None = None
        self._next_at = 0.0
        self._asked: Future[StateSnapshot] | None = None  # None while nobody asks

    def now(self) -> StateSnapshot:
        """Return the state, at most some seconds old; may take seconds.

        Raises
        ------
        BackupSCPError
            The settings name no archive of this user.
        """
        return self._begun().result()

    def soon(self) -> StateSnapshot | None:
        """Return the state, at most some minutes old, within a moment; None when that is not possible.

        Raises
        ------
        BackupSCPError
        """
        try:
            return self._begun().result(PATIENCE_S)
        except TimeoutError:
            last = self._last
            return last if last is not None and clock.now() - last.at < _OLDEST else None

    def _begun(self) -> Future[StateSnapshot]:
        """Return what becomes the state; however many wait, one thread asks."""
        with self._lock:
            if self._asked is not None:
                return self._asked
            future: Future[StateSnapshot] = Future()
            if self._last is not None and time.monotonic() < self._next_at:
                future.set_result(self._last)
                return future
            future.set_running_or_notify_cancel()  # one who waits and goes away does not cancel it for the others
            self._asked = future
            threading.Thread(target=self._renew, args=[future], name="state", daemon=True).start()
            return future

    def _renew(self, future: Future[StateSnapshot]) -> None:
        try:
            began = time.monotonic()
            last = self._look()
        except Exception as error:  # noqa: BLE001 - those who wait raise it
            with self._lock:
                self._asked = None
            future.set_exception(error)
        else:
            took_s = time.monotonic() - began
            with self._lock:
                self._asked, self._last = None, last
                self._next_at = time.monotonic() + max(LEAST_S, _SHARE * took_s)
            future.set_result(last)

    def _look(self) -> StateSnapshot:
        state, at = self._ask(), clock.now()
        work = self._pace.progress(state, at)
        try:
            return StateSnapshot(at, state, self._calendar.days(at), work)
        except Unavailable:  # the state says so
            return StateSnapshot(at, state, work=work)

    async def changes(self) -> AsyncIterator[StateSnapshot | None]:
        """Yield the state, and again whenever it was asked for; None is a sign of life."""
        before, silent_since = None, time.monotonic()
        while not self._is_ending.is_set():
            snapshot = await asyncio.wrap_future(self._begun())
            if snapshot is not before:
                before, silent_since = snapshot, time.monotonic()
                yield snapshot
            elif time.monotonic() - silent_since > _SILENT_S:
                silent_since = time.monotonic()
                yield None
            await pause(max(self._next_at - time.monotonic(), LEAST_S), self._is_ending)


async def pause(seconds: float, is_ending: threading.Event) -> None:
    """Wait, but not when the process ends."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not is_ending.is_set():  # noqa: ASYNC110 - a thread sets it
        await asyncio.sleep(min(left, _STEP_S))
