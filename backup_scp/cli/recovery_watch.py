"""Run the node while an archive comes back, and show how far it is."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from backup_scp.cli.output import complain, print_json, progress, say
from backup_scp.cli.serve import ToPerson
from backup_scp.errors import Unavailable

if TYPE_CHECKING:
    from backup_scp.node.settings import Settings
    from backup_scp.node.start_report import Ready
    from backup_scp.ports import Task

_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class RecoveryEnd:
    """The end of a recovery.

    Attributes
    ----------
    images
        How many images are here.
    missing
        How many did not come back.
    began_at, ended_at
        When it began and ended.
    sentence
        The result, for a person.
    """

    images: int
    missing: int
    began_at: datetime
    ended_at: datetime
    sentence: str


def end_of(task: Task) -> RecoveryEnd:
    """Return what the record of a recovery that has ended says."""
    return RecoveryEnd(task.done, int(task.position), task.began_at, task.ended_at or task.began_at, task.note)


class RecoveryWatch(ToPerson):
    """Shows how far the recovery is, until it ends."""

    def __init__(self, settings: Settings, *, stop_when_done: bool, json: bool) -> None:
        self._settings = settings
        self._json = json
        self._stop_when_done = stop_when_done
        self._end = threading.Event()
        self.is_well = True

    def ready(self, ready: Ready) -> None:
        if not self._json:
            super().ready(ready)
        threading.Thread(target=self._watch, name="progress", daemon=True).start()

    def stopping(self) -> None:
        self._end.set()
        if not self._json:
            super().stopping()

    def stopped(self) -> None:
        if not self._json:
            super().stopped()

    def _watch(self) -> None:
        from backup_scp.node.opening import open_index
        from backup_scp.ports import RECOVERED, RECOVERY, Progress

        with closing(open_index(self._settings, migrate=False)) as index, progress("Recovery") as show:
            total = index.holdings().versions
            told = ""
            while not self._end.wait(_LOOK_EVERY_S):
                with suppress(Unavailable):
                    tasks = index.tasks()
                    if (running := tasks.get(RECOVERY)) is None:
                        break
                    show(Progress(running.done, total))
                    if running.note.startswith("It waits") and running.note != told:
                        told = running.note
                        complain(told)
            else:
                return
        self._finish(tasks.get(RECOVERED))

    def _finish(self, done: Task | None) -> None:
        if done is None or done.ended_at is None:
            return
        end = end_of(done)
        self.is_well = not end.missing
        if self._json:
            print_json(end)
        else:
            say(end.sentence)
        if self._stop_when_done:
            os.kill(os.getpid(), signal.SIGTERM)
