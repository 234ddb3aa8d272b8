"""Run the threads that read back the instances of Storage Commitment requests, and deliver the reports."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from backup_scp.errors import BackupSCPError
from backup_scp.services.commitment import DeliverReport, StorageCommitment

log = logging.getLogger(__name__)

_IDLE_S = 1.0
_TROUBLED_S = 5.0


class CommitmentWorker:
    """The threads of a node that work on due requests and reports.

    Parameters
    ----------
    commitment
        Has the due requests and reports.
    report
        Delivers a report.
    reporters
        How many reports to send at once, each to another AE.
    """

    def __init__(self, commitment: StorageCommitment, report: DeliverReport, reporters: int = 3) -> None:
        self._commitment = commitment
        steps = [commitment.judge_next, *[lambda: commitment.report_next(report)] * reporters]
        self._threads = [
            threading.Thread(target=self._work, args=(step,), name="commitment", daemon=True) for step in steps
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, grace_s: float) -> None:
        """Start no further work; unfinished work continues after the next start."""
        self._commitment.stopping.set()
        self._commitment.bell.notify()
        deadline = time.monotonic() + grace_s
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))

    def _work(self, step: Callable[[], bool]) -> None:
        stopping, bell = self._commitment.stopping, self._commitment.bell
        said = ""
        while not stopping.is_set():
            heard = bell.generation
            try:
                did_something = step()
                said = ""
                if did_something:
                    continue
            except BackupSCPError as error:
                if str(error) != said:  # log it once, not at each try
                    said = str(error)
                    log.error("Storage Commitment waits: %s", error)
                stopping.wait(_TROUBLED_S)
            except Exception as error:  # noqa: BLE001 - the last function of this thread: other requests continue
                log.error("Storage Commitment failed through an error in the node: %s", type(error).__name__)
                stopping.wait(_TROUBLED_S)
            bell.wait(heard, _IDLE_S)
