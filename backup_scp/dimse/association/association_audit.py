"""What one Association adds to the audit trail: all its entries have one ID, and its images make one entry a study."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.dimse.association.access import Caller
from backup_scp.ports import AuditedQuery, AuditedStudy, new_correlation_id
from backup_scp.services.audit_reporter import AuditReporter, Party

_MOST_STUDIES = 32
_OLDEST_S = 60.0  # an Association may last for days, and a power cut loses what is not written yet


@dataclass(slots=True)
class _Received:
    """Images of one study that no entry has told yet."""

    patient_id: str
    new: Counter[str] = field(default_factory=Counter)
    again: Counter[str] = field(default_factory=Counter)


class AssociationAudit:
    """Reports what happens on one Association.

    Parameters
    ----------
    reporter
        Records the entries.
    caller
        Who calls.

    Attributes
    ----------
    correlation_id
        The ID that all entries of the Association have.
    """

    def __init__(self, reporter: AuditReporter, caller: Party) -> None:
        self._reporter = reporter
        self._caller = caller
        self.correlation_id = new_correlation_id()
        self._lock = threading.Lock()
        self._received: dict[tuple[str, str], _Received] = {}
        self._since = 0.0
        self._refused = 0
        self._first_refusal = ""

    # -- the Association itself ----------------------------------------------------------------------------------

    def opened(self) -> None:
        """Report that it was accepted."""
        self._reporter.association_opened(self._caller, self.correlation_id)

    def rejected(self, reason: str) -> None:
        """Report that it was rejected, or that its TLS handshake failed."""
        self._reporter.caller_refused(self._caller, self.correlation_id, reason)

    def ended(self, how: str) -> None:
        """Report how it ended, after what was received."""
        self.flush()
        self._reporter.association_ended(self._caller, self.correlation_id, how, is_orderly=how == "released")

    # -- its requests --------------------------------------------------------------------------------------------

    def refused(self, reason: str) -> None:
        """Report a request that was refused."""
        self._reporter.request_refused(self._caller, self.correlation_id, reason)

    def asked(self, sop_class_uid: str, identifier: bytes, transfer_syntax_uid: str) -> None:
        """Report a query, as it came."""
        query = AuditedQuery(sop_class_uid, identifier, transfer_syntax_uid)
        self._reporter.queried(self._caller, query, self.correlation_id)

    def asked_for_commitment(self, transaction_uid: str, images: int) -> None:
        """Report a request for Storage Commitment."""
        self._reporter.commitment_requested(self._caller, transaction_uid, images, self.correlation_id)

    def sending(self, studies: Mapping[str, Mapping[str, int]], to: Party | None) -> None:
        """Report that images begin to be sent to a Move Destination, or to the caller itself."""
        self._reporter.sending(studies, to or self._caller, self.correlation_id, by=to and self._caller)

    def sent(self, studies: Mapping[str, Mapping[str, int]], to: Party | None, failed: str = "") -> None:
        """Report what was sent; with ``failed`` what was not, and why."""
        self._reporter.sent(studies, to or self._caller, self.correlation_id, by=to and self._caller, failed=failed)

    # -- images that it receives ---------------------------------------------------------------------------------

    def stored(self, instance: SOPInstance, *, is_new: bool) -> None:
        """Count a stored image; the entry of its study comes later."""
        if not self._reporter.is_on:
            return
        study, patient_id = instance.study_instance_uid, instance.attributes.get("PatientID", "")
        with self._lock:
            now = time.monotonic()
            if not self._received:
                self._since = now
            found = self._received.get((study, patient_id))
            if found is None:
                found = self._received[study, patient_id] = _Received(patient_id)
            (found.new if is_new else found.again)[instance.sop_class_uid] += 1
            is_due = len(self._received) > _MOST_STUDIES or now - self._since > _OLDEST_S
        if is_due:
            self.flush()

    def not_stored(self, reason: str) -> None:
        """Count a refused image; one entry tells of all."""
        with self._lock:
            self._first_refusal = self._first_refusal or reason
            self._refused += 1

    def flush(self, older_than_s: float = 0.0) -> None:
        """Report what was received and not told yet; nothing when its first image came less long ago."""
        with self._lock:
            if self._received and time.monotonic() - self._since < older_than_s:
                return
            received, self._received = self._received, {}
            refused, reason = self._refused, self._first_refusal
            self._refused, self._first_refusal = 0, ""
        for (study, _), images in received.items():
            for counts, is_new in ((images.new, True), (images.again, False)):
                if counts:
                    told = AuditedStudy(study, dict(counts))
                    self._reporter.received(self._caller, told, images.patient_id, self.correlation_id, is_new=is_new)
        if refused:
            self._reporter.not_received(self._caller, self.correlation_id, reason, refused)


def audit_of(reporter: AuditReporter, caller: Caller) -> AssociationAudit:
    """Return what reports of a caller's Association."""
    return AssociationAudit(reporter, Party(caller.ae_title, caller.address, is_ae=True, user=caller.user))


SILENT = AssociationAudit(AuditReporter(), Party(""))
"""Of an Association that nobody reports: one of our own requests, or of a server without a trail."""
