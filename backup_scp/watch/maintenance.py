"""What the running node does by itself, behind everything else: rebuild a lost index, read all files again, watch."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from backup_scp.errors import BackupSCPError, IndexDamaged, IndexUnavailable, Unavailable
from backup_scp.machine import clock
from backup_scp.ports import Archive, Index, MassChange, Progress, Task
from backup_scp.services import rebuild, verify
from backup_scp.services.throttle import Throttle

log = logging.getLogger(__name__)

LOOK_EVERY_S = 60.0
"""How often it looks whether a pass is due, or a storm; for the first time so long after the start."""

_NOTICE_EVERY_S = 1.0
"""How often it looks whether somebody has met damage in the index."""

_NICENESS = 10
_SHARE = 0.8
"""Of the days that a full pass may take: so much is its pace made for."""

_LEAST_MB_PER_S = 0.2
_FOR_EACH_FILE = 20_000
"""Bytes that opening a file costs, beside its own."""


_LIKELY = timedelta(days=1)
_WAIT_FOR_CLOCK_S = 3600.0

_LONGEST_PAUSE_S = 3600.0
"""Between two tries of a work that ends with an error that nobody has foreseen."""


class _Stopping(Exception):  # noqa: N818 - no error
    """The node is being stopped."""


@dataclass(frozen=True, slots=True)
class Work:
    """One of the works, and how it went last.

    Attributes
    ----------
    ended_at
        When it ended last, well or not; None while it never has.
    error
        Why it did not end well; empty when it did.
    failures
        How often it has not, in a row.
    """

    name: str
    ended_at: datetime | None = None
    error: str = ""
    failures: int = 0


class MaintenanceThread:
    """One thread of low priority.

    Each work stands for itself: whatever error ends one, the others go on, and it is tried again later.

    Parameters
    ----------
    archive, index
        The ports.
    full_pass_days
        In so many days every file is read; 0 is never.
    renew
        Sets a damaged index aside and makes an empty one, for a reason.  Without a reason it takes the one that is
        there, which somebody else has made or put there.
    storms
        Lists the senders that changed more than is usual.

    Attributes
    ----------
    active_at
        When it last got on with its work, or waited for some; None before the first time.
    """

    def __init__(
        self,
        archive: Archive,
        index: Index,
        full_pass_days: float,
        renew: Callable[[str], None],
        storms: Callable[[], list[MassChange]],
    ) -> None:
        self._archive = archive
        self._index = index
        self._full_pass_days = full_pass_days
        self._renew = renew
        self._list_storms = storms
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self.active_at: datetime | None = None
        self._works: dict[str, tuple[Callable[[], None], Work]] = {
            name: (work, Work(name))
            for name, work in (
                ("a new index", self._renew_if_damaged),
                ("rebuild", self._rebuild),
                ("alarm", self._watch),
                ("verify", self._verify),
            )
        }
        self._due_at = dict.fromkeys(self._works, 0.0)
        self._began = time.monotonic()
        self._storms: set[tuple[str, str]] = set()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End within the reading of one file; what was done stays recorded, and is gone on with at the next start."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    @property
    def trouble(self) -> str:
        """Which works failed when they were last tried, and why; empty when none did."""
        return "; ".join(f"{work.name}: {work.error}" for work in self.state() if work.error)

    def state(self) -> list[Work]:
        """Tell how each work went last."""
        return [work for _, work in self._works.values()]

    def _run(self) -> None:
        _lower_priority()
        with contextlib.suppress(_Stopping):
            self._do("rebuild")
            while True:
                self._wait_for_damage(LOOK_EVERY_S)
                for name in self._works:
                    self._do(name)
                    if self._index.damage():  # the others could do nothing
                        break

    def _wait_for_damage(self, seconds: float) -> None:
        """Wait, unless somebody meets that the index is damaged: until it is made anew nothing can be stored."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not (self._index.damage() or self._index.is_replaced):
            self._pause(min(left, _NOTICE_EVERY_S))
        if left > 0 and any(work.error for work in self.state()):  # it was tried a moment ago, in vain
            self._pause(_NOTICE_EVERY_S)

    def _do(self, name: str) -> None:
        """Do one of the works, if it is due; it ends with no error but that the node stops."""
        if time.monotonic() < self._due_at[name]:
            return
        do, before = self._works[name]
        error = ""
        try:
            do()
        except _Stopping:
            raise
        except BackupSCPError as known:  # tried again each time: the drive may be back
            error = str(known)
            if error != before.error:  # once, not every minute
                log.error("Upkeep waits (%s): %s", name, error)
        except Exception as unforeseen:  # noqa: BLE001 - the other works go on
            error = f"{_place_of(unforeseen)}. This should not have happened; please report it"
            pause_s = min(LOOK_EVERY_S * 2**before.failures, _LONGEST_PAUSE_S)
            self._due_at[name] = time.monotonic() + pause_s
            log.error("Upkeep (%s): %s. It is tried again in %s", name, error, timedelta(seconds=pause_s))
        after = Work(name, clock.now(), error, before.failures + 1 if error else 0)
        self._works[name] = (do, after)

    def _renew_if_damaged(self) -> None:
        damage = self._index.damage()
        if damage or self._index.is_replaced:
            self._renew(damage)
            self._index.accept()

    def _rebuild(self) -> None:
        task = self._index.tasks().get(rebuild.NAME)
        if task is None:
            return
        log.warning("The index is being made from the files. %s", task.note)
        done = rebuild.rebuild(self._archive, self._index, self._go_on)
        for left_out in done.left_out:
            log.error("%s; it is left out of the index", left_out.reason)
        if done.left_out:
            log.error("The index is made of %d versions; what could not be read is not in it", done.entered)
        else:
            log.warning("The index is whole again: %d versions from the files", done.entered)

    def _verify(self) -> None:
        if not self._is_due(self._index.tasks()):
            return
        self._require_likely_clock()
        size_bytes = self._index.holdings().size_bytes
        pace = max(_LEAST_MB_PER_S, size_bytes / (self._full_pass_days * 86400 * _SHARE) / 1e6)
        throttle = Throttle(pace, sleep=self._pause)
        log.info("Every file is read and compared with its digest, at %.1f MB/s", pace)
        found = verify.verify(
            self._archive,
            self._index,
            self._go_on,
            repair=True,
            resume=True,
            wait=lambda read_bytes: throttle.wait(read_bytes + _FOR_EACH_FILE),
        )
        (log.error if found.needs_a_person else log.info)("Every file was read: %s", found.summary)

    def _is_due(self, tasks: dict[str, Task]) -> bool:
        if not self._full_pass_days:
            return False
        last = tasks.get(verify.DONE)
        every = timedelta(days=self._full_pass_days)
        if verify.NAME in tasks or last is None or clock.is_future(last.began_at):
            return True
        return last.began_at + every <= clock.now()

    def _require_likely_clock(self) -> None:
        """Wait with a pass while the clock seems to be behind: a computer may have begun without the time.

        Not for long.  The clock may have been ahead before and be right by now, and then nothing changes any more; a
        pass that ran by a wrong clock is only one too many.
        """
        doubt = self._index.clock_doubt()
        if doubt.behind_by > _LIKELY and not doubt.is_over and time.monotonic() - self._began < _WAIT_FOR_CLOCK_S:
            raise Unavailable(f"No pass is begun for an hour. {doubt.sentence}")

    def _watch(self) -> None:
        storms = self._list_storms()
        for storm in storms:
            if storm.sender not in self._storms:
                log.error("%s", storm.sentence)
        self._storms = {storm.sender for storm in storms}

    def _go_on(self, _: Progress) -> None:
        self.active_at = clock.now()
        if self._stop.is_set():
            raise _Stopping
        if damage := self._index.damage():
            raise IndexDamaged(damage)
        if self._index.is_replaced:
            raise IndexUnavailable("The index's file was replaced meanwhile")

    def _pause(self, seconds: float) -> None:
        self.active_at = clock.now()
        if self._stop.wait(seconds):
            raise _Stopping


def _place_of(error: Exception) -> str:
    """Say what an error is and where it was raised; not its text, which may hold a patient's data."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return type(error).__name__
    return f"{type(error).__name__} in {Path(place.tb_frame.f_code.co_filename).name}, line {place.tb_lineno}"


def _lower_priority() -> None:
    """Let whoever receives and answers go first; on Linux a thread has a niceness, and its disk requests follow it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
