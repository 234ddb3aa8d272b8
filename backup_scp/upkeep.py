"""What the running node does by itself, behind everything else: rebuild a lost index, read all files again, watch."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from backup_scp import rebuild, verify
from backup_scp.errors import BackupSCPError, IndexDamaged
from backup_scp.ports import Archive, Index, Progress, Storm, Task
from backup_scp.restore import Throttle

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


class _Stopped(Exception):  # noqa: N818 - no error
    """The node is being stopped."""


class Upkeep:
    """One thread of low priority.

    Parameters
    ----------
    archive, index
        The ports.
    full_pass_days
        In so many days every file is read; 0 is never.
    renew
        Sets a damaged index aside and makes an empty one, for a reason.
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
        storms: Callable[[], list[Storm]],
    ) -> None:
        self._archive = archive
        self._index = index
        self._full_pass_days = full_pass_days
        self._renew = renew
        self._list_storms = storms
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self._said = ""
        self.active_at: datetime | None = None
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
        """Why the last look failed; empty when it did not."""
        return self._said

    def _run(self) -> None:
        _lower_priority()
        with contextlib.suppress(_Stopped):
            self._try(self._rebuild)
            while True:
                self._wait_for_damage(LOOK_EVERY_S)
                self._try(self._look)

    def _wait_for_damage(self, seconds: float) -> None:
        """Wait, unless somebody meets that the index is damaged: until it is made anew nothing can be stored."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._index.damage():
            self._pause(min(left, _NOTICE_EVERY_S))
        if left > 0 and self._said:  # it was tried a moment ago, in vain
            self._pause(_NOTICE_EVERY_S)

    def _look(self) -> None:
        if damage := self._index.damage():
            self._renew(damage)
        self._rebuild()
        self._watch()
        self._verify()

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BackupSCPError as error:
            if str(error) != self._said:  # once, not every minute
                log.error("Upkeep waits: %s", error)
            self._said = str(error)
        else:
            self._said = ""

    def _rebuild(self) -> None:
        task = self._index.tasks().get(rebuild.NAME)
        if task is None:
            return
        log.warning("The index is being made from the files. %s", task.note)
        done = rebuild.rebuild(self._archive, self._index, self._go_on)
        for left_out in done.left_out:
            log.error("%s; it is left out of the index", left_out.reason)
        log.warning("The index is whole again: %d versions from the files", done.entered)

    def _verify(self) -> None:
        if not self._is_due(self._index.tasks()):
            return
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
        return verify.NAME in tasks or last is None or last.began_at + every <= datetime.now(UTC)

    def _watch(self) -> None:
        storms = self._list_storms()
        for storm in storms:
            if storm.sender not in self._storms:
                log.error("%s", storm.sentence)
        self._storms = {storm.sender for storm in storms}

    def _go_on(self, _: Progress) -> None:
        self.active_at = datetime.now(UTC)
        if self._stop.is_set():
            raise _Stopped
        if damage := self._index.damage():
            raise IndexDamaged(damage)

    def _pause(self, seconds: float) -> None:
        self.active_at = datetime.now(UTC)
        if self._stop.wait(seconds):
            raise _Stopped


def _lower_priority() -> None:
    """Let whoever receives and answers go first; on Linux a thread has a niceness, and its disk requests follow it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
