"""The threads of the further copies and of their drills, which other settings replace."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from backup_scp.node.opening import OpenStores
from backup_scp.node.recovering import ReadingCopies
from backup_scp.node.settings import Settings
from backup_scp.services.ingest import Ingest

if TYPE_CHECKING:
    from backup_scp.watch.copy_thread import CopyThread
    from backup_scp.watch.drill_thread import DrillThread


class RunningCopies:
    """Begins, and ends with ``close``; while the archive comes back from a copy, all of them wait.

    Parameters
    ----------
    settings
        Name the copies.
    storage, ingest
        The open stores.
    """

    def __init__(self, settings: Settings, storage: OpenStores, ingest: Ingest) -> None:
        self._settings = settings
        self._storage = storage
        self._ingest = ingest
        self._threads = ExitStack()
        self._recovery = ExitStack()
        self._waits = self._run = False

    def start(self, reading: ReadingCopies) -> None:
        """Begin at once, or when the recovery has ended."""
        if (recovery := reading.thread(self._recovered)) is not None:
            self._waits = True
            recovery.start()
            self._recovery.callback(recovery.stop)
        else:
            self.prepared(self._settings)()

    def prepared(self, settings: Settings) -> Callable[[], None]:
        """Return what goes on with other settings; until it is called nothing changes.

        Raises
        ------
        InvalidSettings
            A copy cannot be used as it is set.
        """
        made = [] if self._waits else self._made(settings)

        def go_on() -> None:
            is_same = self._run and _parts(settings) == _parts(self._settings)
            self._settings = settings
            if is_same or self._waits:
                return
            self._run = True
            self._threads.close()
            for thread in made:
                thread.start()
                self._threads.callback(thread.stop)

        return go_on

    def close(self) -> None:
        """End a recovery and the copies; both go on at the next start."""
        self._recovery.close()
        self._threads.close()

    def _recovered(self) -> None:
        self._waits = False
        self.prepared(self._settings)()

    def _made(self, settings: Settings) -> list[CopyThread | DrillThread]:
        if not settings.copy:
            return []
        from backup_scp.node.copy_setup import copy_threads
        from backup_scp.node.drills import drill_thread

        drills = drill_thread(settings, self._storage, lambda: self._ingest.received_at)
        return [*copy_threads(settings, self._storage, self._ingest), *([drills] if drills else [])]


def _parts(settings: Settings) -> tuple[object, ...]:
    """Return the settings that the threads follow."""
    return settings.copy, settings.drill, settings.alerts, settings.remotes, settings.node.ae_title, settings.tls
