"""One entry as a syslog message: the header of RFC 5424, its frame, and what is left of a message that is too long."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime

import pytest
from lxml import etree

from backup_scp.audit.log_record import LogRecord, RecordKind
from backup_scp.audit.syslog_message import LONGEST_BYTES, framed, shortened, syslog_message
from backup_scp.ports import AuditedQuery, AuditedStudy, Participant, TrailEvent, TrailKind
from backup_scp.services.audit_message import audit_message
from backup_scp.services.audit_reporter import AuditReporter, Party
from tests.audit_messages import ListTrail, ReadMessage
from tests.processes import ROOT

SCHEMA = etree.RelaxNG(etree.parse(ROOT / "tests/services/audit_message.rng"))
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
CONSOLE = Party("DR-2", "192.0.2.7", is_ae=True)
HEADER = re.compile(
    rb"<85>1 2026-03-02T12:00:00\.000001\+00:00 [!-~]{1,255} backup-scp 4711 DICOM\+RFC3881 - \xef\xbb\xbf(<\?xml .*)"
)


def record(content: bytes, number: int = 7) -> LogRecord:
    return LogRecord(number, "2026-03-02T12:00:00.000001+00:00", "0" * 64, RecordKind.ENTRY, content)


def message_of(say) -> bytes:
    trail = ListTrail()
    say(AuditReporter(trail, "BACKUP_SCP"))
    (event,) = trail.events
    return audit_message(event, "BACKUP_SCP@backup.example")


def a_query(size: int) -> bytes:
    query = AuditedQuery("1.2.840.10008.5.1.4.1.2.2.1", bytes(range(256)) * (size // 256), "1.2.840.10008.1.2.1")
    return message_of(lambda reporter: reporter.queried(CONSOLE, query, "a1"))


def many_classes(count: int) -> bytes:
    counts = {f"1.2.840.10008.5.1.4.1.1.{number}": number for number in range(count)}
    return message_of(lambda reporter: reporter.received(CONSOLE, AuditedStudy("1.2.3", counts), "P1", "a1"))


def test_the_header_and_the_whole_message():
    xml = a_query(256)
    found = HEADER.fullmatch(syslog_message(record(xml), 4711))
    assert found is not None
    assert found[1] == xml


def test_a_frame_counts_bytes():
    assert framed("<85>1 ü".encode()) == b"8 <85>1 \xc3\xbc"


@pytest.mark.parametrize("xml", [a_query(6_000), a_query(60_000), many_classes(150), many_classes(1_000)])
def test_a_long_message_is_shortened_and_stays_valid(xml):
    found = syslog_message(record(xml), 4711)
    assert len(found) <= LONGEST_BYTES
    assert b"\n" not in found
    head = HEADER.fullmatch(found)
    assert head is not None
    assert SCHEMA.validate(etree.fromstring(head[1])), SCHEMA.error_log
    message, whole = ReadMessage(head[1]), ReadMessage(xml)
    assert message.details["shortened"] == "The whole message is record 7 of the audit log"
    assert (message.event, message.participants, message.objects) == (whole.event, whole.participants, whole.objects)


def test_what_is_left_of_a_query_is_its_beginning():
    message = ReadMessage(shortened(a_query(60_000), 7_000, 7))
    (query,) = message.root.iter("ParticipantObjectQuery")
    left = base64.b64decode(query.text or "", validate=True)
    assert len(left) > 500
    assert (bytes(range(256)) * 235).startswith(left)


def test_what_is_no_xml_is_cut():
    assert len(syslog_message(record(b"no XML " * 2_000), 4711)) == LONGEST_BYTES


def test_the_longest_list_of_classes_is_cut():
    message = ReadMessage(shortened(many_classes(1_000), 7_000, 7))
    assert 20 < len(list(message.root.iter("SOPClass"))) < 200


def test_of_a_thousand_studies_some_are_left():
    studies = tuple(AuditedStudy(f"1.2.{number}") for number in range(1000))
    users = (Participant("anna", is_requestor=True), Participant("1"))
    xml = audit_message(TrailEvent(TrailKind.ACCESSED, NOON, participants=users, objects=studies), "BACKUP_SCP")
    assert 5 < len(ReadMessage(shortened(xml, 7_000, 7)).objects) < 100
