"""Keep one further copy up to date while the node runs, at low priority."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from backup_scp.errors import AllowanceUsed, BackupSCPError, DestinationAway, DestinationUnavailable, Unavailable
from backup_scp.machine import clock
from backup_scp.machine.hours import Hours
from backup_scp.machine.priority import lower_priority
from backup_scp.ports import CopyPlace, CopyTrouble, Index
from backup_scp.services.copying import Copying
from backup_scp.services.throttle import Throttle
from backup_scp.watch.alarm import CopyAlarm
from backup_scp.watch.unforeseen import place_of

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
"""Interval between two looks for new images, or for a drive that was plugged in."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 300.0
_REACHED_EVERY_S = 600.0
"""A copy that has everything is reached so often, so that one that is gone is noticed."""

_NOTED_EVERY_S = 60.0
_COMPARING_SHARE = 8
_LEAST_COMPARING_MB_PER_S = 1.0
_POLITE_S_PER_MB = 0.3
"""The pause for each million bytes while images are being received."""

_RECEIVING_S = 1.0
"""So long after an image another one may follow."""


class _Ended(Exception):  # noqa: N818 - no error
    """The node is being stopped."""


class _Closed(Exception):  # noqa: N818 - no error
    """Its time of day is over."""


class _Alarmed(Exception):  # noqa: N818 - no error of the copy
    """A virus may be at work."""


@dataclass(frozen=True, slots=True)
class CopySchedule:
    """When and how fast a copy is written to.

    Attributes
    ----------
    mb_per_s
        The highest rate, in million bytes a second; 0 for none.
    hours
        The time of day; None for always.
    compare_days
        Days in which everything is read back again; 0 for never.
    """

    mb_per_s: float = 0
    hours: Hours | None = None
    compare_days: float = 90

    def is_open(self, now: datetime) -> bool:
        """Tell whether a copy may be written to at this local time."""
        return self.hours is None or self.hours.include(now)


class CopyThread:
    """One thread for one copy.

    Parameters
    ----------
    place
        The copy.
    make
        Makes its ``Copying`` with the given pace.
    index
        Has what is due.
    schedule
        When and how fast.
    alarm
        Stops it.
    received_at
        Tells when an image was last being received, as ``time.monotonic``.
    """

    def __init__(
        self,
        place: CopyPlace,
        make: Callable[[Callable[[int], None]], Copying],
        index: Index,
        schedule: CopySchedule,
        alarm: CopyAlarm,
        received_at: Callable[[], float],
    ) -> None:
        self._place = place
        self._copying = make(self._pace)
        self._records = index.copies
        self._schedule = schedule
        self._alarm = alarm
        self._received_at = received_at
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"copy {place.name}", daemon=True)
        self._throttle = Throttle(schedule.mb_per_s, sleep=self._sleep)
        self._copy: int | None = None  # as it was last reached
        self._reached_at = self._registered_at = 0.0
        self._medium = ""
        self._trouble, self._trouble_since = "", clock.now()
        self._noted = ""  # the trouble that the records have

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End within a moment; what is unfinished is due again at the next start."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        lower_priority()
        pause_s = _FIRST_PAUSE_S
        with contextlib.suppress(_Ended):
            while True:
                trouble = self._turn()
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S) if trouble else _FIRST_PAUSE_S
                self._sleep(pause_s if trouble else LOOK_EVERY_S)

    def _turn(self) -> bool:
        """Do what is due; tell whether trouble asks for a longer pause."""
        if not self._is_open:
            return False
        try:
            self._require_calm()
            if self._is_worth_reaching():
                self._work()
            self._tell("")
        except _Ended:
            raise
        except _Closed:
            pass
        except _Alarmed as why:
            self._tell(str(why), CopyTrouble.ALARM)
        except DestinationAway as error:
            self._copy = None
            self._tell(str(error), CopyTrouble.AWAY)
            return isinstance(error, AllowanceUsed)
        except DestinationUnavailable as error:
            self._tell(str(error))
            return True
        except BackupSCPError as error:
            self._tell(str(error))
            return True
        except Exception as unforeseen:  # noqa: BLE001 - the copy goes on when the cause is gone
            self._tell(f"{place_of(unforeseen)}. This should not have happened; please report it")
            return True
        return False

    def _is_worth_reaching(self) -> bool:
        """Tell whether to connect: always for a drive, which says by this whether it is here."""
        if self._copy is None or self._trouble or self._place.is_removable:
            return True
        if time.monotonic() - self._reached_at > _REACHED_EVERY_S:
            return True
        return self._records.is_anything_due(self._copy, clock.now()) or self._must_compare(self._copy)

    def _work(self) -> None:
        with self._place:
            before, copy = self._copy, self._registered()
            self._reached_at = time.monotonic()
            # At first, and after trouble, also without anything due: what concludes a copy may have been left out.
            if before != copy or self._trouble or self._records.is_anything_due(copy, clock.now()):
                self._fill(copy)
            self._copying.heal(copy)
            if self._must_compare(copy):
                self._compare(copy)

    def _registered(self) -> int:
        """Note that the place can be reached: once a minute, since a drive is looked at every two seconds."""
        is_noted = self._medium == self._place.medium and not self._noted
        if self._copy is None or not is_noted or time.monotonic() - self._registered_at > _NOTED_EVERY_S:
            self._copy = self._copying.register()
            self._medium, self._noted, self._registered_at = self._place.medium, "", time.monotonic()
        return self._copy

    def _fill(self, copy: int) -> None:
        before = self._copying.done.copied
        self._copying.fill(copy)
        if copied := self._copying.done.copied - before:
            log.info("Copy %s: %d images written, read back and compared", self._place.name, copied)

    def _must_compare(self, copy: int) -> bool:
        """Tell whether a comparison runs or is due; the first one counts from the first time that all was there."""
        if not self._schedule.compare_days:
            return False
        position, ended_at = self._records.comparison(copy)
        if position or ended_at is None or clock.is_future(ended_at):
            return position > 0
        return ended_at + timedelta(days=self._schedule.compare_days) <= clock.now()

    def _compare(self, copy: int) -> None:
        """Compare some, slowly, until something else is due."""
        size_mb = self._copying.size_bytes() / 1e6
        pace = size_mb / (self._schedule.compare_days * 86400 / _COMPARING_SHARE)
        slow, usual = Throttle(max(pace, _LEAST_COMPARING_MB_PER_S), sleep=self._sleep), self._throttle
        self._throttle = slow
        try:
            while not self._copying.compare(copy, all_of_it=False):
                if self._records.is_anything_due(copy, clock.now()):
                    return
        finally:
            self._throttle = usual

    def _pace(self, size_bytes: int) -> None:
        if self._stop.is_set():
            raise _Ended
        if not self._is_open:
            raise _Closed
        self._require_calm()
        self._throttle.wait(size_bytes)
        if time.monotonic() - self._received_at() < _RECEIVING_S:
            self._sleep(size_bytes / 1e6 * _POLITE_S_PER_MB)

    @property
    def _is_open(self) -> bool:
        return self._schedule.is_open(clock.now().astimezone())

    def _require_calm(self) -> None:
        if alarm := self._alarm.sentence:
            raise _Alarmed(f"Stopped by an alarm: {alarm}")

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise _Ended

    def _tell(self, trouble: str, kind: CopyTrouble = CopyTrouble.FAULT) -> None:
        """Log why the copy cannot be used, once; record it as often as reaching the copy has cleared it."""
        if trouble != self._trouble:
            self._log(trouble, is_usual=kind is CopyTrouble.AWAY)
            self._trouble, self._trouble_since = trouble, clock.now()
        if trouble != self._noted:
            with contextlib.suppress(Unavailable):
                self._records.note_trouble(self._place.name, trouble, self._trouble_since, kind)
                self._noted = trouble

    def _log(self, trouble: str, *, is_usual: bool) -> None:
        if not trouble:
            log.warning("Copy %s can be used again", self._place.name)
        elif not is_usual:
            log.error("Copy %s: %s", self._place.name, trouble)
