"""Say what happens, in entries of the audit trail with the participants and objects of PS3.15 A.5.3."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from backup_scp.machine import clock
from backup_scp.ports import (
    AuditedObject,
    AuditedPatient,
    AuditedQuery,
    AuditedResource,
    AuditedStudy,
    AuditEvent,
    AuditKind,
    AuditTrail,
    EventOutcome,
    NullTrail,
    Participant,
    ParticipantRole,
    StoredVersion,
    TrailEvent,
    TrailKind,
    new_correlation_id,
)
from backup_scp.services.study_counts import each_study

log = logging.getLogger(__name__)

_FAILED = frozenset((AuditKind.LOGIN_FAILED, AuditKind.SHARE_FAILED, AuditKind.PASSKEY_COPIED, AuditKind.SHARE_LOCKED))
_LOGINS = {
    AuditKind.LOGIN: TrailKind.LOGGED_IN,
    AuditKind.LOGIN_FAILED: TrailKind.LOGGED_IN,
    AuditKind.LOGOUT: TrailKind.LOGGED_OUT,
    AuditKind.LOGOUT_EVERYWHERE: TrailKind.LOGGED_OUT,
    AuditKind.ENDED_BY_PROVIDER: TrailKind.LOGGED_OUT,
}
_OF_ROLES = frozenset((AuditKind.USER_ADDED, AuditKind.USER_CHANGED, AuditKind.USER_REMOVED))
_OF_IMAGES = ("share link", "patients ")


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody who calls, or is called: an AE title or a user's name, and an address; an AE may name its user."""

    name: str
    address: str = ""
    is_ae: bool = False
    user: str = ""

    def as_participant(self, role: ParticipantRole, *, is_requestor: bool) -> Participant:
        """Describe it in the form of PS3.15 A.5.2."""
        return Participant(
            self.user or self.name, role, is_requestor, self.address, f"AETITLES={self.name}" if self.is_ae else ""
        )


class AuditReporter:
    """Records what happens.  Nothing here waits or raises: a fault is logged once.

    Parameters
    ----------
    trail
        Keeps the entries.
    ae_title
        Of this node.
    """

    def __init__(self, trail: AuditTrail | None = None, ae_title: str = "") -> None:
        self._trail = trail or NullTrail()
        self._ae_title = ae_title
        self._has_failed = False

    @property
    def is_on(self) -> bool:
        """Whether anything is kept."""
        return not isinstance(self._trail, NullTrail)

    def _us(self, role: ParticipantRole = ParticipantRole.USER, *, is_requestor: bool = False) -> Participant:
        """Describe this process, by the number that the log of the system has (PS3.15 A.5.2.1)."""
        return Participant(str(os.getpid()), role, is_requestor, "", f"AETITLES={self._ae_title}")

    def _record(
        self,
        kind: TrailKind,
        participants: Iterable[Participant],
        objects: Iterable[AuditedObject] = (),
        *,
        outcome: EventOutcome = EventOutcome.SUCCESS,
        correlation_id: str = "",
        reason: str = "",
    ) -> None:
        if not self.is_on:
            return
        try:
            self._trail.record(
                TrailEvent(kind, clock.now(), outcome, tuple(participants), tuple(objects), correlation_id, reason)
            )
        except Exception as error:  # noqa: BLE001 - no entry may lose an image
            if not self._has_failed:
                self._has_failed = True
                log.error("The audit trail takes no entries (%s)", type(error).__name__)

    # -- the node ----------------------------------------------------------------------------------------------------

    def node_started(self) -> None:
        """Record that the node, or one of its processes, has started."""
        self._application(TrailKind.NODE_STARTED)

    def node_stopped(self) -> None:
        """Record that it stops."""
        self._application(TrailKind.NODE_STOPPED)

    def _application(self, kind: TrailKind) -> None:
        launcher = Participant(str(os.getppid()), ParticipantRole.APPLICATION_LAUNCHER, is_requestor=True)
        self._record(kind, (self._us(ParticipantRole.APPLICATION), launcher))

    def log_used(self, who: Party, log_name: str) -> None:
        """Record that somebody has read the audit log."""
        reader = who.as_participant(ParticipantRole.USER, is_requestor=True)
        self._record(TrailKind.LOG_USED, (reader, self._us()), [AuditedResource(log_name)])

    def settings_changed(self, who: Party, names: Iterable[str]) -> None:
        """Record which settings somebody has changed, without their values."""
        self._alert(TrailKind.SETTINGS_CHANGED, who, "settings", f"Changed: {', '.join(names)}")

    def damage_found(self, location: str, reason: str) -> None:
        """Record that a stored file is damaged."""
        about = [AuditedResource(location)]
        self._record(TrailKind.DAMAGE_FOUND, [self._us()], about, outcome=EventOutcome.SERIOUS_FAILURE, reason=reason)

    # -- Associations and requests -------------------------------------------------------------------------------------

    def association_opened(self, caller: Party, correlation_id: str) -> None:
        """Record an accepted Association."""
        self._alert(TrailKind.ASSOCIATION_OPENED, caller, caller.address, "Accepted", correlation_id=correlation_id)

    def association_ended(self, caller: Party, correlation_id: str, how: str, *, is_orderly: bool) -> None:
        """Record how an Association has ended."""
        outcome = EventOutcome.SUCCESS if is_orderly else EventOutcome.MINOR_FAILURE
        self._alert(TrailKind.ASSOCIATION_ENDED, caller, caller.address, how, outcome, correlation_id)

    def caller_refused(self, caller: Party, correlation_id: str, reason: str) -> None:
        """Record a rejected Association, or a TLS handshake that failed."""
        self._alert(
            TrailKind.CALLER_REFUSED, caller, caller.address, reason, EventOutcome.MINOR_FAILURE, correlation_id
        )

    def request_refused(self, caller: Party, correlation_id: str, reason: str) -> None:
        """Record a request that was refused."""
        self._alert(
            TrailKind.REQUEST_REFUSED, caller, caller.address, reason, EventOutcome.MINOR_FAILURE, correlation_id
        )

    def _alert(
        self,
        kind: TrailKind,
        who: Party,
        about: str,
        reason: str,
        outcome: EventOutcome = EventOutcome.SUCCESS,
        correlation_id: str = "",
    ) -> None:
        performing = who.as_participant(ParticipantRole.USER, is_requestor=False)  # PS3.15 A.5.3.11
        participants = (self._us(is_requestor=True), performing)
        self._record(
            kind,
            participants,
            [AuditedResource(about or who.name)],
            outcome=outcome,
            correlation_id=correlation_id,
            reason=reason,
        )

    def queried(self, caller: Party, query: AuditedQuery, correlation_id: str = "") -> None:
        """Record a query, as it came."""
        asking = caller.as_participant(ParticipantRole.SOURCE, is_requestor=True)
        self._record(
            TrailKind.QUERIED, (asking, self._us(ParticipantRole.DESTINATION)), [query], correlation_id=correlation_id
        )

    def commitment_requested(self, caller: Party, transaction_uid: str, images: int, correlation_id: str) -> None:
        """Record a request for Storage Commitment, which names images and no study."""
        asking = caller.as_participant(ParticipantRole.USER, is_requestor=True)
        self._record(
            TrailKind.ACCESSED,
            (asking, self._us()),
            (AuditedStudy(""), AuditedPatient(""), AuditedResource(f"urn:oid:{transaction_uid}")),
            correlation_id=correlation_id,
            reason=f"Storage Commitment of {images} images was requested",
        )

    # -- images --------------------------------------------------------------------------------------------------------

    def received(
        self, sender: Party, study: AuditedStudy, patient_id: str | None, correlation_id: str, *, is_new: bool = True
    ) -> None:
        """Record images of one study that somebody has sent; with None the index knows the patient."""
        source = sender.as_participant(ParticipantRole.SOURCE, is_requestor=True)
        self._record(
            TrailKind.RECEIVED if is_new else TrailKind.RECEIVED_AGAIN,
            (source, self._us(ParticipantRole.DESTINATION)),
            [study] if patient_id is None else [study, AuditedPatient(patient_id)],
            correlation_id=correlation_id,
        )

    def not_received(self, sender: Party, correlation_id: str, reason: str, count: int) -> None:
        """Record images that were refused; a refused image may name no study."""
        source = sender.as_participant(ParticipantRole.SOURCE, is_requestor=True)
        self._record(
            TrailKind.RECEIVED,
            (source, self._us(ParticipantRole.DESTINATION)),
            (AuditedStudy(""), AuditedPatient("")),
            outcome=EventOutcome.SERIOUS_FAILURE,
            correlation_id=correlation_id,
            reason=f"{count} images refused; the first: {reason}",
        )

    def sending(
        self, studies: Mapping[str, Mapping[str, int]], to: Party, correlation_id: str, by: Party | None = None
    ) -> None:
        """Record that the node begins to send images: one entry a study, because a message has one patient."""
        for study in _studies(studies):
            self._record(TrailKind.SENDING, self._transfer(to, by), [study], correlation_id=correlation_id)

    def sent(
        self,
        studies: Mapping[str, Mapping[str, int]],
        to: Party,
        correlation_id: str,
        by: Party | None = None,
        failed: str = "",
    ) -> None:
        """Record what was sent; with ``failed`` what was not, and why."""
        outcome = EventOutcome.SERIOUS_FAILURE if failed else EventOutcome.SUCCESS
        for study in _studies(studies):
            self._record(
                TrailKind.SENT,
                self._transfer(to, by),
                [study],
                outcome=outcome,
                correlation_id=correlation_id,
                reason=failed,
            )

    def _transfer(self, to: Party, by: Party | None) -> list[Participant]:
        is_requestor = by is None
        both = [
            self._us(ParticipantRole.SOURCE),
            to.as_participant(ParticipantRole.DESTINATION, is_requestor=is_requestor),
        ]
        return both if by is None else [*both, by.as_participant(ParticipantRole.USER, is_requestor=True)]

    def accessed(self, who: Party, study_instance_uid: str, correlation_id: str = "") -> None:
        """Record that somebody has looked at images of a study."""
        participants = (who.as_participant(ParticipantRole.USER, is_requestor=True), self._us())
        self._record(
            TrailKind.ACCESSED, participants, [AuditedStudy(study_instance_uid)], correlation_id=correlation_id
        )

    def exported(
        self, studies: Mapping[str, Mapping[str, int]], place: str, correlation_id: str, *, failed: str = ""
    ) -> None:
        """Record images that were written to a folder, a drive or a cloud; one entry a study."""
        self._moved(TrailKind.EXPORTED, ParticipantRole.SOURCE, studies, place, correlation_id, failed)

    def imported(
        self, studies: Mapping[str, Mapping[str, int]], place: str, correlation_id: str, *, failed: str = ""
    ) -> None:
        """Record images that came from a folder, a drive or a cloud; one entry a study."""
        self._moved(TrailKind.IMPORTED, ParticipantRole.DESTINATION, studies, place, correlation_id, failed)

    def copied(self, versions: Iterable[StoredVersion], copy: str, drive: str = "") -> None:
        """Record images that were written to a further copy; ``drive`` is its name for people."""
        run, place = new_correlation_id(), f"copy {copy}, drive {drive}" if drive else f"copy {copy}"
        each_study(versions, lambda studies: self.exported(studies, place, run))

    def brought_back(self, versions: Iterable[StoredVersion], copy: str) -> None:
        """Record images that came back from a further copy."""
        run = new_correlation_id()
        each_study(versions, lambda studies: self.imported(studies, f"copy {copy}", run))

    def _moved(
        self,
        kind: TrailKind,
        our_role: ParticipantRole,
        studies: Mapping[str, Mapping[str, int]],
        place: str,
        correlation_id: str,
        failed: str,
    ) -> None:
        is_export = kind is TrailKind.EXPORTED
        medium = Participant(place, ParticipantRole.DESTINATION_MEDIA if is_export else ParticipantRole.SOURCE_MEDIA)
        for study in _studies(studies):
            self._record(
                kind,
                (self._us(our_role, is_requestor=True), medium),
                [study],
                outcome=EventOutcome.SERIOUS_FAILURE if failed else EventOutcome.SUCCESS,
                correlation_id=correlation_id,
                reason=failed,
            )

    # -- users ---------------------------------------------------------------------------------------------------------

    def account_event(self, event: AuditEvent) -> None:
        """Record what the audit of users has; see ``ports.AuditRecords``."""
        outcome = EventOutcome.MINOR_FAILURE if event.kind in _FAILED else EventOutcome.SUCCESS
        reason = f"{event.kind}: {event.about}" if event.about else event.kind
        if event.kind in _LOGINS:
            address = event.address or "localhost"  # the table asks for one
            person = Party(event.who, address).as_participant(ParticipantRole.USER, is_requestor=True)
            self._record(_LOGINS[AuditKind(event.kind)], (person, self._us()), outcome=outcome, reason=reason)
            return
        if event.kind.startswith(_OF_IMAGES):
            kind = TrailKind.ACCESS_CHANGED
        else:
            kind = TrailKind.ROLES_CHANGED if event.kind in _OF_ROLES else TrailKind.USER_CHANGED
        self._alert(kind, Party(event.who, event.address), event.about or event.who, reason, outcome)


def with_patients(event: TrailEvent, patient_of: Callable[[str], str]) -> TrailEvent:
    """Add the patient of each study to an entry that names none and must (PS3.15 A.5.3.3 to A.5.3.7)."""
    if any(isinstance(each, AuditedPatient) for each in event.objects):
        return event
    studies = [each.study_instance_uid for each in event.objects if isinstance(each, AuditedStudy)]
    patients = dict.fromkeys(patient_of(uid) if uid else "" for uid in studies)
    return replace(event, objects=(*event.objects, *map(AuditedPatient, patients))) if studies else event


def _studies(studies: Mapping[str, Mapping[str, int]]) -> Iterable[AuditedStudy]:
    return (AuditedStudy(uid, instances) for uid, instances in studies.items())
