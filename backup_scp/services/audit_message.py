"""Write an entry of the audit trail as a DICOM audit message: XML in one line (PS3.15 A.5)."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from backup_scp.dicom import audit_codes as codes
from backup_scp.dicom.audit_codes import Code
from backup_scp.machine.addresses import is_address
from backup_scp.ports import (
    AuditedObject,
    AuditedPatient,
    AuditedQuery,
    AuditedResource,
    AuditedStudy,
    EventOutcome,
    Participant,
    ParticipantRole,
    TrailEvent,
    TrailKind,
)

UNKNOWN = "(unknown)"
"""Stands for a UID, Patient ID or name that a message must have and nobody knows."""

_LONGEST = 512  # characters of a value, which a stranger may have sent
_MOST_QUERY_BYTES = 1 << 15
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class EventCodes(NamedTuple):
    """What the tables of PS3.15 A.5.3 say of an event: its ID, its type if it has one, its action."""

    event_id: Code
    event_type: Code | None
    action: str


EVENTS = {
    TrailKind.NODE_STARTED: EventCodes(codes.APPLICATION_ACTIVITY, codes.APPLICATION_START, "E"),
    TrailKind.NODE_STOPPED: EventCodes(codes.APPLICATION_ACTIVITY, codes.APPLICATION_STOP, "E"),
    TrailKind.LOG_USED: EventCodes(codes.AUDIT_LOG_USED, None, "R"),
    TrailKind.ASSOCIATION_OPENED: EventCodes(codes.SECURITY_ALERT, codes.SESSION_START, "E"),
    TrailKind.ASSOCIATION_ENDED: EventCodes(codes.SECURITY_ALERT, codes.SESSION_STOP, "E"),
    TrailKind.CALLER_REFUSED: EventCodes(codes.SECURITY_ALERT, codes.NODE_AUTHENTICATION, "E"),
    TrailKind.REQUEST_REFUSED: EventCodes(codes.SECURITY_ALERT, codes.RESTRICTED_FUNCTION, "E"),
    TrailKind.SENDING: EventCodes(codes.BEGIN_TRANSFERRING, None, "E"),
    TrailKind.SENT: EventCodes(codes.INSTANCES_TRANSFERRED, None, "R"),
    TrailKind.RECEIVED: EventCodes(codes.INSTANCES_TRANSFERRED, None, "C"),
    TrailKind.RECEIVED_AGAIN: EventCodes(codes.INSTANCES_TRANSFERRED, None, "R"),
    TrailKind.ACCESSED: EventCodes(codes.INSTANCES_ACCESSED, None, "R"),
    TrailKind.QUERIED: EventCodes(codes.QUERY, None, "E"),
    TrailKind.EXPORTED: EventCodes(codes.EXPORT, None, "R"),
    TrailKind.IMPORTED: EventCodes(codes.IMPORT, None, "C"),
    TrailKind.LOGGED_IN: EventCodes(codes.USER_AUTHENTICATION, codes.LOGIN, "E"),
    TrailKind.LOGGED_OUT: EventCodes(codes.USER_AUTHENTICATION, codes.LOGOUT, "E"),
    TrailKind.USER_CHANGED: EventCodes(codes.SECURITY_ALERT, codes.USER_SECURITY_CHANGED, "E"),
    TrailKind.ROLES_CHANGED: EventCodes(codes.SECURITY_ALERT, codes.ROLES_CHANGED, "E"),
    TrailKind.SETTINGS_CHANGED: EventCodes(codes.SECURITY_ALERT, codes.SOFTWARE_CONFIGURATION, "E"),
    TrailKind.ACCESS_CHANGED: EventCodes(codes.SECURITY_ALERT, codes.OBJECT_SECURITY_CHANGED, "E"),
    TrailKind.ENTRIES_LOST: EventCodes(codes.SECURITY_ALERT, codes.RECORDING_STOPPED, "E"),
    TrailKind.DAMAGE_FOUND: EventCodes(codes.SECURITY_ALERT, codes.DAMAGE, "E"),
}

_ROLES = {
    ParticipantRole.APPLICATION: codes.APPLICATION,
    ParticipantRole.APPLICATION_LAUNCHER: codes.APPLICATION_LAUNCHER,
    ParticipantRole.DESTINATION: codes.DESTINATION,
    ParticipantRole.SOURCE: codes.SOURCE,
    ParticipantRole.DESTINATION_MEDIA: codes.DESTINATION_MEDIA,
    ParticipantRole.SOURCE_MEDIA: codes.SOURCE_MEDIA,
}
_MEDIA = frozenset((ParticipantRole.DESTINATION_MEDIA, ParticipantRole.SOURCE_MEDIA))


def audit_message(event: TrailEvent, source_id: str) -> bytes:
    """Return the message: UTF-8, without a line break.

    Parameters
    ----------
    event
        The entry.
    source_id
        Names this node: Audit Source ID.
    """
    return "".join(_parts(event, source_id)).encode()


def _parts(event: TrailEvent, source_id: str) -> Iterator[str]:
    said = EVENTS[event.kind]
    at = event.at.isoformat(timespec="milliseconds")
    yield '<?xml version="1.0" encoding="UTF-8"?><AuditMessage>'
    yield f'<EventIdentification EventActionCode="{said.action}" EventDateTime="{at}" '
    yield f'EventOutcomeIndicator="{int(event.outcome)}">{_coded("EventID", said.event_id)}'
    if said.event_type is not None:
        yield _coded("EventTypeCode", said.event_type)
    if event.reason and event.outcome is not EventOutcome.SUCCESS:
        yield f"<EventOutcomeDescription>{escape(_plain(event.reason))}</EventOutcomeDescription>"
    yield "</EventIdentification>"
    for participant in event.participants:
        yield from _participant(participant)
    yield f"<AuditSourceIdentification AuditSourceID={_quoted(source_id)}>"
    yield '<AuditSourceTypeCode csd-code="4"/></AuditSourceIdentification>'
    for each in event.objects:
        yield _object(each, event)
    if event.correlation_id:
        yield _identified("4", "20", codes.CORRELATION, event.correlation_id, name=event.kind)
    yield "</AuditMessage>"


def _participant(participant: Participant) -> Iterator[str]:
    requests = "true" if participant.is_requestor else "false"
    yield f'<ActiveParticipant UserID={_quoted(participant.user_id or UNKNOWN)} UserIsRequestor="{requests}"'
    if participant.alternative_id:
        yield f" AlternativeUserID={_quoted(participant.alternative_id)}"
    if participant.address:
        kind = "2" if is_address(participant.address) else "1"
        yield f' NetworkAccessPointID={_quoted(participant.address)} NetworkAccessPointTypeCode="{kind}"'
    role = _ROLES.get(participant.role)
    if role is None:
        yield "/>"
        return
    yield f">{_coded('RoleIDCode', role)}"
    if participant.role in _MEDIA:
        yield f"<MediaIdentifier>{_coded('MediaType', codes.MEDIA_URI)}</MediaIdentifier>"
    yield "</ActiveParticipant>"


def _object(about: AuditedObject, event: TrailEvent) -> str:
    """Write a Participant Object; the subject of an alert with its description (PS3.15 A.5.3.11)."""
    match about:
        case AuditedStudy(uid, instances):
            return _identified("2", "3", codes.STUDY_INSTANCE_UID, uid, name="study", more=_counts(instances))
        case AuditedPatient(patient_id):
            return _identified("1", "1", codes.PATIENT_NUMBER, patient_id)
        case AuditedQuery(sop_class_uid, identifier, transfer_syntax_uid):
            kind = codes.SOP_CLASS_UID if transfer_syntax_uid else codes.SEARCH_CRITERIA
            detail = _detail("TransferSyntax", transfer_syntax_uid) if transfer_syntax_uid else ""
            return _identified("2", "3", kind, sop_class_uid, query=identifier, more=detail)
        case AuditedResource(name):
            kind = codes.NODE_ID if is_address(name) else codes.URI
            is_log = event.kind is TrailKind.LOG_USED
            more = "" if is_log else _detail("Alert Description", event.reason or event.kind)
            return _identified("2", "13", kind, name, name="Security Audit Log" if is_log else name, more=more)


def _identified(
    type_code: str,
    role: str,
    id_type: Code,
    identity: str,
    *,
    name: str = "",
    query: bytes | None = None,
    more: str = "",
) -> str:
    """Write a Participant Object: the schema asks for a name or a query, also where the tables ask for neither."""
    if query is None:
        said = f"<ParticipantObjectName>{escape(_plain(name))}</ParticipantObjectName>"
    else:
        said = f"<ParticipantObjectQuery>{_base64(query[:_MOST_QUERY_BYTES])}</ParticipantObjectQuery>"
    return (
        f"<ParticipantObjectIdentification ParticipantObjectID={_quoted(identity or UNKNOWN)} "
        f'ParticipantObjectTypeCode="{type_code}" ParticipantObjectTypeCodeRole="{role}">'
        f"{_coded('ParticipantObjectIDTypeCode', id_type)}{said}{more}</ParticipantObjectIdentification>"
    )


def _counts(instances: Mapping[str, int]) -> str:
    if not instances:
        return ""
    named = {f" UID={_quoted(uid)}" if uid else "": number for uid, number in instances.items()}
    each = "".join(f'<SOPClass{uid} NumberOfInstances="{number}"/>' for uid, number in named.items())
    return f"<ParticipantObjectDescription>{each}</ParticipantObjectDescription>"


def _detail(kind: str, value: str) -> str:
    return f'<ParticipantObjectDetail type="{kind}" value="{_base64(_plain(value).encode())}"/>'


@lru_cache(maxsize=128)
def _coded(element: str, code: Code) -> str:
    return f'<{element} csd-code="{code.value}" codeSystemName="{code.scheme}" originalText={quoteattr(code.meaning)}/>'


def _quoted(value: str) -> str:
    return quoteattr(_plain(value))


def _plain(text: str) -> str:
    """Shorten a value, without what XML does not allow or what ends a line."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text[:_LONGEST])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
