"""Run the node's maintenance at low priority: rebuild a lost index, read all files again, look for mass changes."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from backup_scp.errors import BackupSCPError, IndexDamaged, IndexUnavailable, Unavailable
from backup_scp.machine import clock
from backup_scp.machine.priority import lower_priority
from backup_scp.ports import RECOVERY, Archive, Index, MassChange, Progress, Task
from backup_scp.services import rebuild, verify
from backup_scp.services.throttle import Throttle
from backup_scp.watch.unforeseen import place_of

log = logging.getLogger(__name__)

LOOK_EVERY_S = 60.0
"""Interval between two checks whether a pass is due or a mass change happened; also the delay after the start."""

_NOTICE_EVERY_S = 1.0
"""Interval between two checks whether a thread has found the index damaged."""

_SHARE = 0.8
"""The pace is chosen so that a full pass takes this share of the days it may take."""

_LEAST_MB_PER_S = 0.2
_FOR_EACH_FILE = 20_000
"""What opening a file costs, expressed in bytes read."""


_LIKELY = timedelta(days=1)
_WAIT_FOR_CLOCK_S = 3600.0

_LONGEST_PAUSE_S = 3600.0
"""Interval between two tries of a task that ended with an unexpected error."""


class _Stopping(Exception):  # noqa: N818 - no error
    """The node is being stopped."""


@dataclass(frozen=True, slots=True)
class Work:
    """One maintenance task, and its last result.

    Attributes
    ----------
    ended_at
        When it last ended, with or without success; None when it never has.
    error
        Why it failed; empty when it succeeded.
    failures
        How often it failed in a row.
    """

    name: str
    ended_at: datetime | None = None
    error: str = ""
    failures: int = 0


class MaintenanceThread:
    """Runs all maintenance tasks in one thread of low priority.

    The tasks are independent: when an error ends one, the others continue, and this one is tried again later.

    Parameters
    ----------
    archive, index
        The ports.
    full_pass_days
        Number of days in which every file is read once; 0 never reads them.
    renew
        Renames a damaged index and makes an empty one, for the given reason.  Without a reason it opens the index
        that is there, which another process or a person has put there.
    storms
        Lists the senders that changed more images than usual.

    Attributes
    ----------
    active_at
        When it last made progress, or had no work; None before the first time.
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
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)
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
        """End after the current file at the latest; the next start continues from the recorded progress."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    @property
    def trouble(self) -> str:
        """Which tasks failed at their last try, and why; empty when none did."""
        return "; ".join(f"{work.name}: {work.error}" for work in self.state() if work.error)

    def state(self) -> list[Work]:
        """Return the last result of each task."""
        return [work for _, work in self._works.values()]

    def _run(self) -> None:
        lower_priority()
        with contextlib.suppress(_Stopping):
            self._do("rebuild")
            while True:
                self._wait_for_damage(LOOK_EVERY_S)
                for name in self._works:
                    self._do(name)
                    if self._index.damage():  # the other tasks need the index
                        break

    def _wait_for_damage(self, seconds: float) -> None:
        """Wait, but end early when the index is found damaged: until it is made again nothing can be stored."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not (self._index.damage() or self._index.is_replaced):
            self._pause(min(left, _NOTICE_EVERY_S))
        if left > 0 and any(work.error for work in self.state()):  # the renewal failed a moment ago
            self._pause(_NOTICE_EVERY_S)

    def _do(self, name: str) -> None:
        """Run one task, if it is due; catch every error, but not the end of the node."""
        if time.monotonic() < self._due_at[name]:
            return
        do, before = self._works[name]
        error = ""
        try:
            do()
        except _Stopping:
            raise
        except BackupSCPError as known:  # tried again at each interval: the drive may be back
            error = str(known)
            if error != before.error:  # once, not every minute
                log.error("Maintenance waits (%s): %s", name, error)
        except Exception as unforeseen:  # noqa: BLE001 - the other tasks continue
            error = f"{place_of(unforeseen)}. This should not have happened; please report it"
            pause_s = min(LOOK_EVERY_S * 2**before.failures, _LONGEST_PAUSE_S)
            self._due_at[name] = time.monotonic() + pause_s
            log.error("Maintenance (%s): %s. It is tried again in %s", name, error, timedelta(seconds=pause_s))
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
        log.warning("The index is being rebuilt from the files. %s", task.note)
        done = rebuild.rebuild(self._archive, self._index, self._go_on)
        for left_out in done.left_out:
            log.error("%s; it is left out of the index", left_out.reason)
        if done.left_out:
            log.error("The index has %d versions from the files; unreadable files are missing in it", done.entered)
        else:
            log.warning("The index is complete again: %d versions from the files", done.entered)

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
        if not self._full_pass_days or RECOVERY in tasks:
            return False
        last = tasks.get(verify.DONE)
        every = timedelta(days=self._full_pass_days)
        if verify.NAME in tasks or last is None or clock.is_future(last.began_at):
            return True
        return last.began_at + every <= clock.now()

    def _require_likely_clock(self) -> None:
        """Delay a pass while the clock seems to be behind: a computer may start before it knows the time.

        The delay is short.  Perhaps the clock was ahead before and is right now, and then waiting changes nothing.  A
        pass that runs by a wrong clock only reads the files once more than needed.
        """
        doubt = self._index.clock_doubt()
        if doubt.behind_by > _LIKELY and not doubt.is_over and time.monotonic() - self._began < _WAIT_FOR_CLOCK_S:
            raise Unavailable(f"The check of all files is delayed for an hour. {doubt.sentence}")

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
