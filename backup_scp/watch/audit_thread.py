"""Write the entries of the audit trail as messages, in a thread: who records one never waits."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime

from backup_scp.machine import clock
from backup_scp.ports import AuditedResource, EventOutcome, Participant, TrailEvent, TrailKind
from backup_scp.services.audit_message import audit_message
from backup_scp.services.audit_reporter import with_patients
from backup_scp.watch.unforeseen import place_of

log = logging.getLogger(__name__)

MOST = 20_000
"""So many entries wait in memory, about 20 MB; later ones are counted, and the gap is an entry itself."""

_EVERY_S = 0.5
_AFTER_FAILURE_S = 10.0
_MOST_PATIENTS = 2_000  # remembered, so that a viewer's thousand requests for a study ask the index once


class AuditThread:
    """Implements ``ports.AuditTrail``: entries wait in memory until the thread has written them.

    Parameters
    ----------
    write
        Keeps a message; it may wait, and raise.
    source_id
        Names this node.
    patient_of
        Finds the Patient ID of a study by its UID; empty when there is none.
    before
        Called before each turn, for what collects entries itself.
    settle
        Called after each turn, and at the end with ``is_end``; it may wait, and raise.

    Attributes
    ----------
    failing_since
        Since when the log cannot be written; None while it can.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        source_id: str,
        patient_of: Callable[[str], str] = lambda _: "",
        before: Callable[[], None] = lambda: None,
        settle: Callable[..., None] = lambda **_: None,
    ) -> None:
        self._settle = settle
        self._write = write
        self._source_id = source_id
        self._patient_of = patient_of
        self._patients: dict[str, str] = {}
        self.before = before
        self._waiting: deque[TrailEvent] = deque()
        self._lost = 0
        self._trouble = ""
        self.failing_since: datetime | None = None
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def record(self, event: TrailEvent) -> None:
        if len(self._waiting) < MOST:
            self._waiting.append(event)
        else:
            self._lost += 1

    @property
    def waiting(self) -> int:
        """How many entries wait in memory."""
        return len(self._waiting)

    @property
    def lost(self) -> int:
        """How many found no room there."""
        return self._lost

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, wait_s: float = 10.0) -> None:
        """Write what waits, and end; a log that does not answer holds nobody up for longer than ``wait_s``."""
        self._is_stopping.set()
        self._thread.join(wait_s)

    def _run(self) -> None:
        pause_s = _EVERY_S
        while not self._is_stopping.wait(pause_s):
            pause_s = _EVERY_S if self._turn() else _AFTER_FAILURE_S
        self._turn(is_end=True)

    def _turn(self, *, is_end: bool = False) -> bool:
        """Write all that waits; False when it could not be written and waits on."""
        try:
            self.before()
            while self._waiting:
                self._write(self._message(self._waiting[0]))
                self._waiting.popleft()
                if self._lost:
                    self._tell_the_gap()
            self._settle(is_end=is_end)
        except Exception as error:  # noqa: BLE001 - the thread must live, and no text of an error is safe
            return self._failed(place_of(error))
        self._trouble, self.failing_since = "", None
        return True

    def _tell_the_gap(self) -> None:
        lost, self._lost = self._lost, 0
        reason = f"{lost} entries are missing here: the log could not be written, and no more could wait"
        node = Participant(self._source_id, is_requestor=True)
        about = (AuditedResource("audit log"),)
        self._waiting.append(
            TrailEvent(TrailKind.ENTRIES_LOST, clock.now(), EventOutcome.MAJOR_FAILURE, (node,), about, reason=reason)
        )

    def _message(self, event: TrailEvent) -> bytes:
        try:
            return audit_message(with_patients(event, self._patient), self._source_id)
        except Exception as error:  # noqa: BLE001 - an entry that cannot be written must not stop the later ones
            log.error("An entry of the audit trail cannot be written in full: %s", place_of(error))
            short = TrailEvent(event.kind, event.at, event.outcome, event.participants[:2])
            return audit_message(short, self._source_id)

    def _patient(self, study_instance_uid: str) -> str:
        if (known := self._patients.get(study_instance_uid)) is not None:
            return known
        if len(self._patients) >= _MOST_PATIENTS:
            self._patients.clear()
        if found := self._patient_of(study_instance_uid):
            self._patients[study_instance_uid] = found
        return found

    def _failed(self, trouble: str) -> bool:
        if trouble != self._trouble:  # once, not at every turn
            log.error("The audit log cannot be written: %s. Entries wait; images are stored as usual", trouble)
        self._trouble = trouble
        self.failing_since = self.failing_since or clock.now()
        return False
