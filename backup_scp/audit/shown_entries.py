"""The last entries of the audit log in a few words each, for people: when, what, who, how it ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree as ET

from backup_scp.audit.log_files import lines_of, log_files
from backup_scp.audit.log_record import LogRecord, RecordKind
from backup_scp.errors import InvalidSelection
from backup_scp.services.audit_message import EVENTS

_OBJECT = "ParticipantObjectIdentification"
_CORRELATION, _PATIENT = "4", "1"  # Participant Object Type Code of PS3.15 A.5.1
_WORDS = {
    (said.event_id.value, said.event_type.value if said.event_type else "", said.action): str(kind)
    for kind, said in reversed(EVENTS.items())
}


@dataclass(frozen=True, slots=True)
class ShownEntry:
    """An entry.

    Attributes
    ----------
    number
        Of its record.
    at
        When it was written; ISO 8601.
    what
        What happened, in a few words.
    who
        Who began it, or took part.
    address
        Where from; empty when that is not known.
    about
        UIDs of studies, names of settings, users and folders; Patient IDs only where they were asked for.
    failed
        Whether it failed.
    reason
        Why.
    """

    number: int
    at: str
    what: str
    who: str = ""
    address: str = ""
    about: list[str] = field(default_factory=list)
    failed: bool = False
    reason: str = ""


def last_entries(
    folder: Path, most: int, since: datetime | None = None, *, with_patients: bool = False
) -> list[ShownEntry]:
    """Return the last entries, the oldest of them first.

    Raises
    ------
    InvalidSelection
        There is no log, or it cannot be read.
    """
    found: deque[ShownEntry] = deque()
    try:
        files = log_files(folder)
        for file in reversed(files):
            records = deque(_entries(file, since), maxlen=most - len(found))
            found.extendleft(shown(record, with_patients=with_patients) for record in reversed(records))
            if len(found) == most:
                break
    except OSError as error:
        raise InvalidSelection(f"The audit log in {folder} cannot be read ({error.strerror})") from None
    if not files:
        raise InvalidSelection(f"There is no audit log in {folder}")
    return list(found)


def _entries(file: Path, since: datetime | None) -> Iterator[LogRecord]:
    for line in lines_of(file):
        record = LogRecord.read(line)
        if record is not None and record.kind is RecordKind.ENTRY and (since is None or _is_after(record.at, since)):
            yield record


def _is_after(at: str, since: datetime) -> bool:
    try:
        return datetime.fromisoformat(at) >= since
    except ValueError:  # changed by hand: `audit verify` says so
        return True


def shown(record: LogRecord, *, with_patients: bool = False) -> ShownEntry:
    """Return an entry in words."""
    try:
        root = ET.fromstring(record.content)  # noqa: S314 - our own message
    except ET.ParseError:
        return ShownEntry(record.number, record.at, "an entry that cannot be read", failed=True)
    event = root.find("EventIdentification")
    people = root.findall("ActiveParticipant")
    who = next((each for each in people if each.get("UserIsRequestor") == "true"), people[0] if people else None)
    about = [
        each.get("ParticipantObjectID", "")
        for each in root.findall(_OBJECT)
        if each.get("ParticipantObjectTypeCode") != _CORRELATION
        and (with_patients or each.get("ParticipantObjectTypeCode") != _PATIENT)
    ]
    return ShownEntry(
        record.number,
        record.at,
        _what(root, event),
        _name(who),
        "" if who is None else who.get("NetworkAccessPointID", ""),
        about,
        failed=event is not None and event.get("EventOutcomeIndicator") != "0",
        reason=root.findtext("EventIdentification/EventOutcomeDescription", ""),
    )


def _what(root: ET.Element, event: ET.Element | None) -> str:
    """Return what happened: entries of an Association or request say it, of others the codes do."""
    for each in root.findall(_OBJECT):
        if each.get("ParticipantObjectTypeCode") == _CORRELATION:
            return each.findtext("ParticipantObjectName", "")
    codes = [_code(event, "EventID"), _code(event, "EventTypeCode")]
    action = "" if event is None else event.get("EventActionCode", "")
    return _WORDS.get((codes[0], codes[1], action), " ".join(filter(None, codes)))


def _code(event: ET.Element | None, name: str) -> str:
    found = None if event is None else event.find(name)
    return "" if found is None else found.get("csd-code", "")


def _name(who: ET.Element | None) -> str:
    if who is None:
        return ""
    user, title = who.get("UserID", ""), who.get("AlternativeUserID", "").removeprefix("AETITLES=")
    return user if title in {"", user} else f"{user} ({title})"
