"""Prove again by itself that copies come back, while the node runs, at low priority."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from backup_scp.errors import BackupSCPError, DestinationAway
from backup_scp.machine import clock
from backup_scp.machine.priority import lower_priority
from backup_scp.machine.readable import count
from backup_scp.ports import CopyState, DrillResult, Index
from backup_scp.services.throttle import Throttle
from backup_scp.watch.copy_thread import CopySchedule
from backup_scp.watch.unforeseen import place_of

log = logging.getLogger(__name__)

LOOK_EVERY_S = 120.0
"""Interval between two looks whether a drill is due; also the delay after the start."""

_HERE = timedelta(minutes=5)
"""A drive that was seen so recently is here: the node looks for it all the time."""

_TRIED_AGAIN_AFTER_S = 3600.0
_POLITE_S_PER_MB = 0.05
_RECEIVING_S = 1.0


class _NodeStops(Exception):  # noqa: N818 - no error
    """The node is being stopped."""


@dataclass(frozen=True, slots=True)
class DrillSchedule:
    """How often copies are tried.

    Attributes
    ----------
    every_days
        Days after which a copy is tried again.
    sample
        How many images.
    full_every_days
        Days after which all images are tried; 0 for never.
    """

    every_days: float = 30
    sample: int = 50
    full_every_days: float = 365


@dataclass(frozen=True, slots=True)
class DrillTarget:
    """A copy to try.

    Attributes
    ----------
    name
        Its name.
    schedule
        When and how fast it may be read.
    run
        Does the drill with a sample of so many images, or None for all, and with a pace.
    """

    name: str
    schedule: CopySchedule
    run: Callable[[int | None, Callable[[int], None]], DrillResult]


def due_sample(index: Index, name: str, schedule: DrillSchedule, now: datetime) -> tuple[bool, int | None]:
    """Tell whether a copy that can be reached is to be tried now, and with how many images; None for all.

    The first drill follows when everything is there.

    Raises
    ------
    IndexUnavailable
    """
    here = [state for state in index.copies.states(now) if state.name == name and _can_be_tried(state, now)]
    last = {result.medium: result.ended_at for result in index.drills.latest() if result.copy == name}
    for state in here:
        if _has_passed(last.get(state.medium), schedule.every_days, now):
            since = index.drills.not_full_since(name, state.medium)
            is_full = bool(schedule.full_every_days and since and _has_passed(since, schedule.full_every_days, now))
            return True, None if is_full else schedule.sample
    return False, None


def _can_be_tried(state: CopyState, now: datetime) -> bool:
    is_here = state.seen_at is not None and (not state.medium or now - state.seen_at < _HERE)
    return bool(state.held and state.complete_at and is_here and not state.trouble)


def _has_passed(since: datetime | None, days: float, now: datetime) -> bool:
    return since is None or clock.is_future(since) or now - since >= timedelta(days=days)


class DrillThread:
    """One thread for the drills of all copies, one after the other.

    Parameters
    ----------
    targets
        The copies.
    index
        Has what was tried.
    schedule
        How often.
    received_at
        Tells when an image was last being received, as ``time.monotonic``.
    look_every_s
        Interval between two looks.
    """

    def __init__(
        self,
        targets: Sequence[DrillTarget],
        index: Index,
        schedule: DrillSchedule,
        received_at: Callable[[], float],
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._targets = targets
        self._index = index
        self._schedule = schedule
        self._received_at = received_at
        self._look_every_s = look_every_s
        self._not_before: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drill", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the current image; a drill that is not finished is due again."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        lower_priority()
        with contextlib.suppress(_NodeStops):
            while True:
                self._sleep(self._look_every_s)
                for target in self._targets:
                    self._turn(target)

    def _turn(self, target: DrillTarget) -> None:
        if time.monotonic() < self._not_before.get(target.name, 0):
            return
        if not target.schedule.is_open(clock.now().astimezone()):
            return
        try:
            is_due, sample = due_sample(self._index, target.name, self._schedule, clock.now())
            if is_due:
                self._not_before[target.name] = time.monotonic() + _TRIED_AGAIN_AFTER_S  # also when it fails
                _tell(target.run(sample, self._pace(target)))
        except _NodeStops:
            raise
        except DestinationAway:
            pass  # as is usual for a drive
        except BackupSCPError as error:
            log.warning("Drill of copy %s: it could not be done now. %s", target.name, error)
        except Exception as unforeseen:  # noqa: BLE001 - the others have their turn
            where = place_of(unforeseen)
            log.error("Drill of copy %s: %s. This should not have happened; please report it", target.name, where)

    def _pace(self, target: DrillTarget) -> Callable[[int], None]:
        throttle = Throttle(target.schedule.mb_per_s, sleep=self._sleep)

        def pace(size_bytes: int) -> None:
            if self._stop.is_set():
                raise _NodeStops
            throttle.wait(size_bytes)
            if time.monotonic() - self._received_at() < _RECEIVING_S:
                self._sleep(size_bytes / 1e6 * _POLITE_S_PER_MB)

        return pace

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise _NodeStops


def _tell(result: DrillResult) -> None:
    tried = f"{result.came_back or result.compared} of {count(result.tried, 'image')}"
    if result.passed:
        log.info("Drill of copy %s: passed, %s", result.copy, tried)
        return
    first = result.problems[0]
    problems = count(result.problem_count, "problem")
    log.error("Drill of copy %s: FAILED, %s; %s: %s", result.copy, problems, first.kind, first.sentence)
