"""The state of the backup, asked for once for all who look, and sent to their browsers when it changes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from starlette.concurrency import run_in_threadpool

from backup_scp.errors import BackupSCPError, Unavailable
from backup_scp.machine import clock
from backup_scp.ports import IndexRecords
from backup_scp.web.pages.backup_state import BackupState
from backup_scp.web.pages.intake_calendar import ConsoleDays, IntakeCalendar

LEAST_S = 3.0
"""So many seconds an answer is used again."""

SLOW_S = 1.0
"""When asking takes longer, as with a million studies, nobody waits while there is an answer of the last minutes."""

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
    """

    at: datetime
    state: BackupState
    days: list[ConsoleDays] = field(default_factory=list)


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
        self._lock = threading.Lock()
        self._last: StateSnapshot | None = None
        self._next_at = 0.0
        self._took_s = 0.0
        self._is_asking = False

    def now(self) -> StateSnapshot:
        """Return the state, at most some seconds old; may take seconds.

        Raises
        ------
        BackupSCPError
            The settings name no archive of this user.
        """
        last = self._last
        if last is not None and time.monotonic() < self._next_at:
            return last
        if not self._lock.acquire(blocking=last is None):
            return last or self.now()  # another thread asks just now
        if last is not None and self._took_s > SLOW_S and clock.now() - last.at < _OLDEST:
            threading.Thread(target=self._renew, name="state", daemon=True).start()  # it releases the lock
            return last
        try:
            return self._last if self._last is not None and last is None else self._asked()
        finally:
            self._lock.release()

    def _asked(self) -> StateSnapshot:
        began = time.monotonic()
        self._last = self._look()
        self._took_s = time.monotonic() - began
        self._next_at = time.monotonic() + max(LEAST_S, _SHARE * self._took_s)
        return self._last

    def _renew(self) -> None:
        """Ask in a thread of its own; after an error the next caller asks, and is told."""
        try:
            self._asked()
        except BackupSCPError:
            self._last = None
        finally:
            self._lock.release()

    def _look(self) -> StateSnapshot:
        state, at = self._ask(), clock.now()
        try:
            return StateSnapshot(at, state, self._calendar.days(at))
        except Unavailable:  # the state says so
            return StateSnapshot(at, state)

    async def _awaited(self) -> StateSnapshot:
        """Return the state; however many wait, one thread asks."""
        if self._last is not None and (self._is_asking or time.monotonic() < self._next_at):
            return self._last
        self._is_asking = True
        try:
            return await run_in_threadpool(self.now)
        finally:
            self._is_asking = False

    async def changes(self) -> AsyncIterator[StateSnapshot | None]:
        """Yield the state, and again whenever it was asked for; None is a sign of life."""
        before, silent_since = None, time.monotonic()
        while not self._is_ending.is_set():
            snapshot = await self._awaited()
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
