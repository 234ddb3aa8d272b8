"""What the audit trail is told: who did what with which studies, and how it ended (PS3.15 A.5)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, IntEnum, StrEnum
from typing import Protocol


class TrailKind(StrEnum):
    """What happened; ``services.audit_message`` has the codes of the standard for each."""

    NODE_STARTED = "node started"
    NODE_STOPPED = "node stopped"
    LOG_USED = "audit log used"
    ASSOCIATION_OPENED = "association opened"
    ASSOCIATION_ENDED = "association ended"
    CALLER_REFUSED = "caller refused"
    REQUEST_REFUSED = "request refused"
    SENDING = "sending began"
    SENT = "images sent"
    RECEIVED = "images received"
    RECEIVED_AGAIN = "images received that were here already"
    ACCESSED = "images shown"
    QUERIED = "query"
    EXPORTED = "export"
    IMPORTED = "import"
    LOGGED_IN = "login"
    LOGGED_OUT = "logout"
    USER_CHANGED = "user changed"
    ROLES_CHANGED = "roles changed"
    SETTINGS_CHANGED = "settings changed"
    ACCESS_CHANGED = "access to images changed"
    DAMAGE_FOUND = "damage found"
    ENTRIES_LOST = "entries lost"


class EventOutcome(IntEnum):
    """How it ended: Event Outcome Indicator of PS3.15 A.5.1."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8
    MAJOR_FAILURE = 12


class ParticipantRole(Enum):
    """What a participant did: Role ID Code of PS3.15 A.5.1; ``USER`` has none."""

    USER = ""
    APPLICATION = "110150"
    APPLICATION_LAUNCHER = "110151"
    DESTINATION = "110152"
    SOURCE = "110153"
    DESTINATION_MEDIA = "110154"
    SOURCE_MEDIA = "110155"


@dataclass(frozen=True, slots=True)
class Participant:
    """Somebody or something that took part: Active Participant of PS3.15 A.5.1.

    Attributes
    ----------
    user_id
        An AE title, a user's name, or what names the process, place or medium.
    role
        What it did.
    is_requestor
        Whether it began this.
    address
        Its network address or host name; empty when unknown.
    alternative_id
        Another name of it, such as its AE titles.
    """

    user_id: str
    role: ParticipantRole = ParticipantRole.USER
    is_requestor: bool = False
    address: str = ""
    alternative_id: str = ""


@dataclass(frozen=True, slots=True)
class AuditedStudy:
    """A study, with the number of its instances by SOP Class; the UID is empty when it is unknown."""

    study_instance_uid: str
    instances: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditedPatient:
    """A patient, by the ID alone: the standard asks for no name."""

    patient_id: str


@dataclass(frozen=True, slots=True)
class AuditedQuery:
    """A query: the SOP Class asked, and the Identifier or the query string as it came."""

    sop_class_uid: str
    identifier: bytes
    transfer_syntax_uid: str = ""


@dataclass(frozen=True, slots=True)
class AuditedResource:
    """Something else that it concerns: a user, a file of settings, the log itself; in words that name no patient."""

    name: str


AuditedObject = AuditedStudy | AuditedPatient | AuditedQuery | AuditedResource


@dataclass(frozen=True, slots=True)
class TrailEvent:
    """One entry of the audit trail.

    Attributes
    ----------
    kind
        What happened.
    at
        When, with its time zone.
    outcome
        How it ended.
    participants
        Who took part.
    objects
        What it concerns.
    correlation_id
        The same for all entries of one Association, request or run; empty for an entry alone.
    reason
        Why it failed, or what was done, in a sentence that names no patient.
    """

    kind: TrailKind
    at: datetime
    outcome: EventOutcome = EventOutcome.SUCCESS
    participants: tuple[Participant, ...] = ()
    objects: tuple[AuditedObject, ...] = ()
    correlation_id: str = ""
    reason: str = ""


class AuditTrail(Protocol):
    """Keeps what happened; no entry delays, refuses or loses an image."""

    def record(self, event: TrailEvent) -> None:
        """Take an entry: never waits, and never raises; what cannot be kept is counted."""


class NullTrail:
    """Keeps nothing: ``[audit] enabled = false``, and tests of other things."""

    def record(self, event: TrailEvent) -> None:
        """Forget it."""


def new_correlation_id() -> str:
    """Return an ID that no other Association or request of this node has."""
    return secrets.token_hex(6)
