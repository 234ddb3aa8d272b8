"""Bring the archive back from a further copy while the node runs; after a restart it goes on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from backup_scp.errors import BackupSCPError, Unavailable
from backup_scp.machine import clock
from backup_scp.machine.readable import count, duration, size
from backup_scp.ports import Index, Progress, Task
from backup_scp.services.recovery import Recovered, Recovery
from backup_scp.services.throttle import Throttle
from backup_scp.watch.unforeseen import place_of

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 60.0
_RECORD_EVERY_S = 1.0
_STAND_BACK_S = 0.05
_ESTIMATE_AFTER_S = 2.0


class _RecoveryStops(Exception):  # noqa: N818 - no error
    """The node is being stopped."""


Make = Callable[[Callable[[int], None], Callable[[Progress], None]], Recovery]
"""Makes the recovery with a pace and a place for its progress."""


class RecoveryThread:
    """One thread for one recovery.

    Parameters
    ----------
    make
        Makes the recovery.
    index
        Records its progress.
    task
        As it was recorded.
    mb_per_s
        The highest rate, in million bytes a second; 0 for none.
    is_asked
        Tells whether somebody waits for an image: that goes first.
    conclude
        Called with what came back, after the last image.
    at_end
        Called when the end is recorded.
    """

    def __init__(
        self,
        make: Make,
        index: Index,
        task: Task,
        *,
        mb_per_s: float,
        is_asked: Callable[[], bool],
        conclude: Callable[[Recovered], None],
        at_end: Callable[[], None],
    ) -> None:
        self._make = make
        self._index = index
        self._task = task
        self._is_asked = is_asked
        self._conclude = conclude
        self._at_end = at_end
        self._stop = threading.Event()
        self._throttle = Throttle(mb_per_s, sleep=self._sleep)
        self._thread = threading.Thread(target=self._run, name="recovery", daemon=True)
        self._recorded_at = 0.0
        self._began: tuple[float, int] | None = None  # this run's first batch: when, and bytes by then
        self._trouble = ""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the current image; the next start continues."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        with suppress(_RecoveryStops):
            while not self._try():
                self._sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _try(self) -> bool:
        """Go through everything; False when it must be tried again."""
        self._began = None
        try:
            done = self._make(self._pace, self._show).run()
            self._end(done)
        except _RecoveryStops:
            raise
        except BackupSCPError as error:
            self._wait_because(str(error))
        except Exception as unforeseen:  # noqa: BLE001 - it goes on when the cause is gone
            self._wait_because(f"{place_of(unforeseen)}. This should not have happened; please report it")
        else:
            return True
        return False

    def _end(self, done: Recovered) -> None:
        sentence = sentence_of(done)
        missing = str(done.missing_count + done.unlisted)
        self._conclude(done)  # before the record: a command that waits for the end finds all of it
        ended = replace(self._task, done=done.here, ended_at=clock.now(), position=missing, note=sentence)
        self._index.record_task(ended)
        (log.warning if done.is_complete else log.error)("%s", sentence)
        self._at_end()

    def _wait_because(self, trouble: str) -> None:
        """Tell once why it does not go on."""
        if trouble != self._trouble:
            log.error("The recovery waits: %s", trouble)
        self._trouble = trouble
        with suppress(Unavailable):
            self._record(replace(self._task, note=f"It waits: {trouble}"))

    def _pace(self, size_bytes: int) -> None:
        if self._stop.is_set():
            raise _RecoveryStops
        while self._is_asked():
            self._sleep(_STAND_BACK_S)
        self._throttle.wait(size_bytes)

    def _show(self, at: Progress) -> None:
        self._trouble = ""
        if time.monotonic() - self._recorded_at < _RECORD_EVERY_S:
            return
        self._recorded_at = time.monotonic()
        note = f"{at.done} of {count(at.total, 'image')}, {size(at.done_bytes)} of {size(at.total_bytes)}"
        if left := self._time_left(at):
            note += f", about {left} left"
        self._record(replace(self._task, done=at.done, note=note))

    def _record(self, task: Task) -> None:
        self._task = task
        self._index.record_task(task)

    def _time_left(self, at: Progress) -> str:
        """Estimate by the rate of this run, since its second batch: what is here already takes no time."""
        now = time.monotonic()
        if self._began is None:
            self._began = now, at.done_bytes
            return ""
        since, before = self._began
        done = at.done_bytes - before
        if now - since < _ESTIMATE_AFTER_S or not done:
            return ""
        return duration((at.total_bytes - at.done_bytes) * (now - since) / done)

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise _RecoveryStops


def sentence_of(done: Recovered) -> str:
    """Return in one sentence what came back."""
    lists = f" ({done.from_lists} of them by the copy's lists)" if done.from_lists else ""
    if done.is_complete:
        return f"The archive is whole again: {count(done.here, 'image')}, each compared with its digest{lists}"
    missing = count(done.missing_count + done.unlisted, "image")
    return f"{count(done.here, 'image')} came back{lists}; {missing} MISSING: backup-scp status lists them"
