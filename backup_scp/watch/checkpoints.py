"""Make durable in each place what was accepted, a moment later and for many at once."""

from __future__ import annotations

import contextlib
import logging
import threading

from backup_scp.errors import Unavailable
from backup_scp.services.ingest import Ingest

log = logging.getLogger(__name__)

_AFTER_S = 1.0
"""So long a checkpoint waits for more that it could take along."""

_AFTER_FAILURE_S = 10.0


class CheckpointThread:
    """One thread that makes checkpoints while there is something to make durable."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._trouble = ""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after a last checkpoint: from then on the files alone suffice."""
        self._is_stopping.set()
        self._ingest.due.any.set()
        self._ingest.due.many.set()
        self._thread.join()
        self._checkpoint()

    def _run(self) -> None:
        with contextlib.suppress(Exception):  # told by others, if it matters: nothing is stored yet
            self._ingest.checkpoint()  # which makes the journal
        while not self._is_stopping.is_set():
            self._ingest.due.any.wait()
            self._ingest.due.many.wait(_AFTER_S)
            if not self._checkpoint():
                self._is_stopping.wait(_AFTER_FAILURE_S)

    def _checkpoint(self) -> bool:
        try:
            self._ingest.checkpoint()
        except Unavailable as error:
            return self._failed(str(error))
        except Exception as unforeseen:  # noqa: BLE001 - the thread must live: notes would pile up without it
            return self._failed(f"{type(unforeseen).__name__}. This should not have happened; please report it")
        self._trouble = ""
        return True

    def _failed(self, trouble: str) -> bool:
        if trouble != self._trouble:  # once, not every ten seconds
            log.error("What was stored is not durable in each place yet: %s. It is tried again", trouble)
        self._trouble = trouble
        return False
