"""Each kind of entry as a message: the schema of PS3.15 A.5.1, and the tables of A.5.3 written down once more."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from lxml import etree
from pydicom.sr._concepts_dict import concepts

from backup_scp.dicom import audit_codes
from backup_scp.ports import (
    AuditedPatient,
    AuditedQuery,
    AuditedResource,
    AuditedStudy,
    AuditEvent,
    AuditKind,
    Participant,
    TrailEvent,
    TrailKind,
)
from backup_scp.services.audit_message import EVENTS, UNKNOWN, audit_message
from backup_scp.services.audit_reporter import AuditReporter, Party, with_patients
from tests.audit_messages import ListTrail, ReadMessage

SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).with_name("audit_message.rng")))
CONSOLE = Party("DR-2", "192.0.2.7", is_ae=True)
HOSPITAL = Party("PACS", "pacs.example", is_ae=True)
STUDY, CT = "1.2.3.4", "1.2.840.10008.5.1.4.1.1.2"
STUDIES = {STUDY: {CT: 3}}
IDENTIFIER = bytes.fromhex("08005200") + b"CS\x06\x00STUDY "
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


class Row(NamedTuple):
    """What the tables ask of a kind: event ID, type, action; roles with their number; types of objects."""

    event: str
    type: str
    action: str
    roles: dict[str, int]
    objects: dict[tuple[str, str, str], int]


PATIENT, A_STUDY = ("1", "1", "2"), ("2", "3", "110180")
BETWEEN_TWO = {"110153": 1, "110152": 1}
SUBJECT, NODE = {("2", "13", "12"): 1}, {("2", "13", "110182"): 1}

TABLES = {
    TrailKind.NODE_STARTED: Row("110100", "110120", "E", {"110150": 1, "110151": 1}, {}),
    TrailKind.NODE_STOPPED: Row("110100", "110121", "E", {"110150": 1, "110151": 1}, {}),
    TrailKind.LOG_USED: Row("110101", "", "R", {"": 2}, SUBJECT),
    TrailKind.SENDING: Row("110102", "", "E", {**BETWEEN_TWO, "": 1}, {A_STUDY: 1, PATIENT: 1}),
    TrailKind.ACCESSED: Row("110103", "", "R", {"": 2}, {A_STUDY: 1, PATIENT: 1}),
    TrailKind.RECEIVED: Row("110104", "", "C", BETWEEN_TWO, {A_STUDY: 1, PATIENT: 1}),
    TrailKind.RECEIVED_AGAIN: Row("110104", "", "R", BETWEEN_TWO, {A_STUDY: 1, PATIENT: 1}),
    TrailKind.SENT: Row("110104", "", "R", BETWEEN_TWO, {A_STUDY: 1, PATIENT: 1}),
    TrailKind.EXPORTED: Row("110106", "", "R", {"110153": 1, "110154": 1}, {A_STUDY: 1, PATIENT: 1}),
    TrailKind.IMPORTED: Row("110107", "", "C", {"110152": 1, "110155": 1}, {A_STUDY: 1, PATIENT: 1}),
    TrailKind.QUERIED: Row("110112", "", "E", BETWEEN_TWO, {("2", "3", "110181"): 1}),
    TrailKind.ASSOCIATION_OPENED: Row("110113", "110145", "E", {"": 2}, NODE),
    TrailKind.ASSOCIATION_ENDED: Row("110113", "110146", "E", {"": 2}, NODE),
    TrailKind.CALLER_REFUSED: Row("110113", "110126", "E", {"": 2}, NODE),
    TrailKind.REQUEST_REFUSED: Row("110113", "110132", "E", {"": 2}, NODE),
    TrailKind.SETTINGS_CHANGED: Row("110113", "110131", "E", {"": 2}, SUBJECT),
    TrailKind.ACCESS_CHANGED: Row("110113", "110135", "E", {"": 2}, SUBJECT),
    TrailKind.ROLES_CHANGED: Row("110113", "110136", "E", {"": 2}, SUBJECT),
    TrailKind.USER_CHANGED: Row("110113", "110137", "E", {"": 2}, SUBJECT),
    TrailKind.DAMAGE_FOUND: Row("110113", "damage", "E", {"": 1}, SUBJECT),
    TrailKind.ENTRIES_LOST: Row("110113", "110133", "E", {"": 1}, SUBJECT),
    TrailKind.LOGGED_IN: Row("110114", "110122", "E", {"": 2}, {}),
    TrailKind.LOGGED_OUT: Row("110114", "110123", "E", {"": 2}, {}),
}

OUTCOMES = {TrailKind.CALLER_REFUSED: "4", TrailKind.REQUEST_REFUSED: "4", TrailKind.DAMAGE_FOUND: "8"}


def account(kind: AuditKind, who="anna", about="bert", address="192.0.2.9"):
    return lambda reporter: reporter.account_event(AuditEvent(NOON, kind, who, about, address))


SAID = {
    TrailKind.NODE_STARTED: AuditReporter.node_started,
    TrailKind.NODE_STOPPED: AuditReporter.node_stopped,
    TrailKind.LOG_USED: lambda reporter: reporter.log_used(Party("anna"), "file:///var/lib/backup-scp/audit"),
    TrailKind.SENDING: lambda reporter: reporter.sending(STUDIES, HOSPITAL, "a1", CONSOLE),
    TrailKind.SENT: lambda reporter: reporter.sent(STUDIES, HOSPITAL, "a1"),
    TrailKind.ACCESSED: lambda reporter: reporter.accessed(Party("anna", "192.0.2.9"), STUDY),
    TrailKind.RECEIVED: lambda reporter: reporter.received(CONSOLE, AuditedStudy(STUDY, {CT: 3}), "P1", "a1"),
    TrailKind.RECEIVED_AGAIN: lambda reporter: reporter.received(
        CONSOLE, AuditedStudy(STUDY, {CT: 3}), "P1", "a1", is_new=False
    ),
    TrailKind.EXPORTED: lambda reporter: reporter.exported(STUDIES, "file:///media/usb", "a1"),
    TrailKind.IMPORTED: lambda reporter: reporter.imported(STUDIES, "file:///media/usb", "a1"),
    TrailKind.QUERIED: lambda reporter: reporter.queried(
        CONSOLE, AuditedQuery("1.2.840.10008.5.1.4.1.2.2.1", IDENTIFIER, "1.2.840.10008.1.2.1"), "a1"
    ),
    TrailKind.ASSOCIATION_OPENED: lambda reporter: reporter.association_opened(CONSOLE, "a1"),
    TrailKind.ASSOCIATION_ENDED: lambda reporter: reporter.association_ended(
        CONSOLE, "a1", "released", is_orderly=True
    ),
    TrailKind.CALLER_REFUSED: lambda reporter: reporter.caller_refused(CONSOLE, "a1", "it calls us BACKUPP"),
    TrailKind.REQUEST_REFUSED: lambda reporter: reporter.request_refused(CONSOLE, "a1", "it may not query"),
    TrailKind.SETTINGS_CHANGED: lambda reporter: reporter.settings_changed(Party("anna"), ["node.ae_title"]),
    TrailKind.ACCESS_CHANGED: account(AuditKind.SHARE_MADE, about="link 3, study 0123456789"),
    TrailKind.ROLES_CHANGED: account(AuditKind.USER_CHANGED),
    TrailKind.USER_CHANGED: account(AuditKind.PASSWORD_CHOSEN),
    TrailKind.ENTRIES_LOST: lambda reporter: reporter._trail.record(
        TrailEvent(TrailKind.ENTRIES_LOST, NOON, participants=(Participant("1"),), objects=(AuditedResource("log"),))
    ),
    TrailKind.DAMAGE_FOUND: lambda reporter: reporter.damage_found("ab/cd/file.dcm", "its SHA-256 differs"),
    TrailKind.LOGGED_IN: account(AuditKind.LOGIN, about=""),
    TrailKind.LOGGED_OUT: account(AuditKind.LOGOUT, about=""),
}


def message_of(said) -> ReadMessage:
    trail = ListTrail()
    said(AuditReporter(trail, "BACKUP_SCP"))
    (event,) = trail.events
    return ReadMessage(audit_message(with_patients(event, lambda _: "P1"), "BACKUP_SCP@backup.example"))


def require_valid(message: ReadMessage) -> None:
    assert SCHEMA.validate(etree.fromstring(message.encoded)), SCHEMA.error_log


@pytest.mark.parametrize("kind", TrailKind)
def test_has_what_its_table_asks_for(kind):
    message, row = message_of(SAID[kind]), TABLES[kind]

    require_valid(message)
    assert message.event == (row.event, row.type, row.action, OUTCOMES.get(kind, "0"))
    roles = [role for role, _, _ in message.participants]
    assert {role: roles.count(role) for role in roles} == row.roles
    types = [tuple(each[:3]) for each in message.objects if each[2] != "correlation"]
    assert {each: types.count(each) for each in types} == row.objects
    assert all(identity for *_, identity in message.objects)
    if row.event == "110113":
        assert message.details["Alert Description"]  # A.5.3.11
    elif row.event in {"110106", "110107"}:
        assert sum(begins for _, _, begins in message.participants) == 1  # A.5.3.4.1
        assert message.root.find("ActiveParticipant/MediaIdentifier/MediaType") is not None
    assert b"\n" not in message.encoded
    assert b"\r" not in message.encoded


def test_the_schema_refuses_what_is_no_message():
    good = message_of(SAID[TrailKind.RECEIVED]).encoded
    for old, new in ((b"ActiveParticipant", b"Participant"), (b'UserIsRequestor="true"', b""), (b'"C"', b'"X"')):
        assert not SCHEMA.validate(etree.fromstring(good.replace(old, new)))


def test_a_failure_says_why_and_an_entry_has_its_association():
    message = message_of(lambda reporter: reporter.not_received(CONSOLE, "a1b2c3", "The archive is full", 7))

    require_valid(message)
    assert message.event == ("110104", "", "C", "8")
    assert message.root.findtext(".//EventOutcomeDescription") == "7 images refused; the first: The archive is full"
    assert message.of_type("110180") == message.of_type("2") == [UNKNOWN]
    assert message.of_type("correlation") == ["a1b2c3"]


def test_a_query_is_kept_byte_for_byte():
    message = message_of(SAID[TrailKind.QUERIED])

    assert base64.b64decode(message.root.findtext(".//ParticipantObjectQuery") or "") == IDENTIFIER
    assert message.details["TransferSyntax"] == "1.2.840.10008.1.2.1"
    by_web = message_of(lambda reporter: reporter.queried(Party("anna"), AuditedQuery("/studies", b"PatientName=M*")))
    require_valid(by_web)
    assert by_web.of_type("10") == ["/studies"]
    assert "TransferSyntax" not in by_web.details


def test_counts_images_by_sop_class():
    (found,) = message_of(SAID[TrailKind.RECEIVED]).root.iter("SOPClass")

    assert (found.get("UID"), found.get("NumberOfInstances")) == (CT, "3")


HOSTILE = [
    "</AuditMessage>",
    "\"'<>&",
    "line\nbreak\r\x85\u2028end",
    "\x00\x1b[31m",
    "\ud800",
    "\ufffe",
    "予^宮",
    "",
    " ",
    "x" * 9999,
]


@pytest.mark.parametrize("value", HOSTILE)
def test_nothing_that_a_stranger_sends_breaks_a_message(value):
    hostile = Participant(value, is_requestor=True, address=value, alternative_id=value)
    objects = (
        AuditedStudy(value, {value: 1}),
        AuditedPatient(value),
        AuditedQuery(value, value.encode(errors="replace"), value),
    )
    for kind in TrailKind:
        event = TrailEvent(kind, NOON, participants=(hostile,), objects=objects, correlation_id=value, reason=value)
        message = ReadMessage(audit_message(event, value))
        require_valid(message)
        assert len(message.encoded.splitlines()) == len(message.encoded.decode().splitlines()) == 1
        assert len(message.encoded) < 30_000


def test_adds_the_patient_of_each_study():
    trail = ListTrail()
    AuditReporter(trail).accessed(Party("anna"), STUDY)
    (event,) = trail.events

    assert with_patients(event, {STUDY: "P7"}.__getitem__).objects == (AuditedStudy(STUDY), AuditedPatient("P7"))
    alone = TrailEvent(TrailKind.NODE_STARTED, NOON)
    assert with_patients(alone, lambda _: UNKNOWN) is alone


def test_codes_have_the_meanings_of_the_standard():
    of_dcm: dict = concepts["DCM"]
    meanings = {code: name for found in of_dcm.values() for code, (name, _) in found.items()}
    ours = [code for code in vars(audit_codes).values() if isinstance(code, audit_codes.Code)]

    assert len(ours) > 30
    assert {code.value: code.meaning for code in ours if code.scheme == "DCM"} == {
        code.value: meanings[code.value] for code in ours if code.scheme == "DCM"
    }
    assert EVENTS.keys() == TABLES.keys() == SAID.keys() == set(TrailKind)


def test_a_trail_that_raises_is_told_once(caplog):
    class Raises:
        def record(self, event):
            raise OSError("Müller^Anna")

    reporter = AuditReporter(Raises())
    reporter.node_started()
    reporter.association_opened(CONSOLE, "a1")

    assert [record.getMessage() for record in caplog.records] == ["The audit trail takes no entries (OSError)"]
